"""A server as a process of its own on a free port of this machine, and clients that notice any request that is lost."""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

SERVE = (
    "from gapnlp.cli.console import presented_errors\n"
    "from serve.cli.serve import serve\n"
    "with presented_errors():\n"
    "    serve()\n"
)
WORDS = ("slow", "promised", "nobody", "told", "us", "delivery", "late", "refund", "staff", "policy", "rude", "waited")


def start(folder, **settings):
    """Start a server whose settings are these and whose store is in the folder; do not wait for it."""
    folder.mkdir(exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GAPNLP_")}
    settings = {"port": 0, "database_url": f"sqlite:///{folder / 'store.db'}", **settings}
    environment["PYTHONFAULTHANDLER"] = "1"
    environment |= {f"GAPNLP_{name.upper()}": str(value) for name, value in settings.items()}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SERVE], env=environment, cwd=folder, stdout=log, stderr=log
        )
    return Server(process, folder / "log")


@dataclass
class Server:
    """A server that was started.

    Attributes:
        process: The process.
        log: The file it logs to.
        started: When it was started, by `time.monotonic`.
    """

    process: subprocess.Popen
    log: Path
    started: float = field(default_factory=time.monotonic)

    def lines(self):
        """Return the log lines so far, and what is no JSON as it is."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) if line.startswith("{") else line for line in lines]

    def wait_for(self, event, *, seconds=60.0):
        """Return the first log line of an event."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.lines():
                if isinstance(line, dict) and line["event"] == event:
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        status = self.process.poll()
        if status is None:
            self.process.send_signal(signal.SIGABRT)  # its threads then tell where they are
            self.process.wait()
        raise AssertionError(f"no line {event!r}, exit {status}:\n{self.log.read_text()}")

    def port(self):
        """Wait until it is ready; return its port."""
        return int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)", self.wait_for("ready")["url"])[1])

    def stop(self):
        """Ask it to end."""
        self.process.send_signal(signal.SIGTERM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class LostError(Exception):
    """A request was sent whole, and no answer came."""


@dataclass
class Client:
    """One connection that is kept alive, and opened again where the server closes it after an answer."""

    port: int
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def connect(self):
        """Raise ConnectionRefusedError where nobody listens, or listened no more before the connection was there."""
        try:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        except (ConnectionResetError, ConnectionAbortedError) as exc:
            raise ConnectionRefusedError(*exc.args) from exc

    async def request(self, path, document=None):
        """Send a request; return its status, headers and JSON.

        Raises:
            ConnectionRefusedError: Nobody listens any more; nothing was sent.
            LostError: The connection ended before the answer.
        """
        if self.writer is None:
            await self.connect()
        try:
            self.writer.write(_request(path, document))
            await self.writer.drain()
            head = await self.reader.readuntil(b"\r\n\r\n")
            status, headers = _parse_head(head)
            body = await self.reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError) as exc:
            raise LostError(f"{path}: {exc!r}") from exc
        if headers.get("connection") == "close":
            await self.close()
        return status, headers, json.loads(body) if "json" in headers["content-type"] else body

    async def close(self):
        if self.writer is not None:
            self.writer.close()
            with contextlib.suppress(OSError):
                await self.writer.wait_closed()
            self.writer = None


def unique_text(*numbers):
    """Return a text that was never sent before: no cache knows it."""
    return " ".join([*(WORDS[number % len(WORDS)] for number in numbers), *(str(number) for number in numbers)])


def _request(path, document):
    method, body = ("GET", b"") if document is None else ("POST", json.dumps(document).encode())
    head = f"{method} {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def _parse_head(head):
    status, *lines = head.decode("latin-1").strip().split("\r\n")
    return int(status.split()[1]), {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
