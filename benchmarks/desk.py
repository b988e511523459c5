"""A stand-in for a helpdesk on this machine: it signs by Standard Webhooks, and notes when its tickets are tagged."""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

from benchmarks.load import post

NAME = "desk"
SECRETS = {"DESK_TOKEN": "token-of-the-api", "DESK_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"}
# The table of the file that `GAPNLP_CONNECTORS` names.
TABLE = """[desk]
kind = "standard"
base_url = "http://127.0.0.1:{port}"
api_token_env = "DESK_TOKEN"
webhook_secret_env = "DESK_SECRET"
webhook = {{ ticket = "ticket", text = "text" }}
read = {{ path = "/tickets/{{ticket}}", tags = "tags" }}
add = {{ method = "POST", path = "/tickets/{{ticket}}", body = {{ tags = "{{tags}}" }} }}
remove = {{ method = "DELETE", path = "/tickets/{{ticket}}/{{tag}}" }}
"""


class Desk(ThreadingHTTPServer):
    """The stand-in.

    Attributes:
        tags: Of each ticket, in the order they came.
        tagged_at: When each ticket's tags were written, by `time.perf_counter`; once, if all is well.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tags: defaultdict[str, list[str]] = defaultdict(list)
        self.tagged_at: defaultdict[str, list[float]] = defaultdict(list)
        self._verifier = Webhook(SECRETS["DESK_SECRET"])

    @property
    def table(self) -> str:
        """What the service must be told of it, as TOML."""
        return TABLE.format(port=self.server_address[1])

    def webhook(self, ticket: str, text: str) -> bytes:
        """Return the request that tells of a ticket, signed now."""
        body, now, delivery = {"ticket": ticket, "text": text}, datetime.now(UTC), f"delivery-{ticket}"
        signature = self._verifier.sign(delivery, now, json.dumps(body))
        signed = {
            "webhook-id": delivery,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signature,
        }
        return post(f"/v1/webhooks/{NAME}", body, headers=signed)


@contextmanager
def open_desk() -> Iterator[Desk]:
    """Run a stand-in until the block ends."""
    with Desk() as desk:
        threading.Thread(target=desk.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield desk
        finally:
            desk.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Desk
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        names = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["tags"]
        self.server.tagged_at[self._ticket].append(time.perf_counter())
        self.server.tags[self._ticket] += names
        self._answer()

    def log_message(self, *_: object) -> None:
        pass

    @property
    def _ticket(self) -> str:
        return self.path.removeprefix("/tickets/")

    def _answer(self) -> None:
        body = json.dumps({"tags": self.server.tags[self._ticket]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
