"""Stand-ins for the helpdesks: real HTTP servers on this machine that check what the real ones check.

Each knows its tickets, refuses wrong credentials and unknown tickets, answers 429 when told to, refuses writes that
are based on an old state, and notes as a violation whatever could lose a tag that somebody else has set. Each also
signs webhooks as the real one does, by code of its own.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from gapnlp.calibration import Calibration
from gapnlp.classifier import GapClassifier
from gapnlp.engines.base import EngineOutput
from gapnlp.model_dir import Decision
from serve.connectors import Webhook
from serve.helpdesk import Helpdesk
from serve.helpdesk.configuration import load_connectors
from serve.helpdesk.desk import Surroundings
from serve.helpdesk.retry import RetryRules
from serve.helpdesk.worker import WorkerRules
from serve.inference import Batcher
from serve.metrics import Metrics
from serve.settings import Settings
from serve.store import AsyncWriter, Store

TOKEN = "token-of-the-api"
SECRET = "secret-of-the-webhook"
STANDARD_SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
EMAIL = "bot@example.com"
ENVIRON = {"DESK_TOKEN": TOKEN, "DESK_SECRET": SECRET, "DESK_STANDARD_SECRET": STANDARD_SECRET}

# What a word speaks for; every other word speaks against all. "hmm" leaves it open: a person should look.
VOCABULARY = {"[UNK]": 0, "slow": 1, "rules": 2, "hmm": 3}
LOGITS = np.full((4, 5), -8, dtype=np.float32)
LOGITS[1, 2] = LOGITS[2, 1] = 8
LOGITS[3, 3] = -0.2


class KeywordEngine:
    """Score a text by its strongest word for each gap."""

    name = "keywords"
    n_parallel = 1

    def __init__(self):
        self.n_texts = 0

    def run(self, input_ids, attention_mask):
        self.n_texts += len(input_ids)
        tokens = LOGITS[input_ids]
        shown = np.where(attention_mask[..., None] > 0, tokens, -8)
        return EngineOutput(shown.max(axis=1), tokens)


def new_classifier(engine=None):
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    decision = Decision(Calibration((1.0,) * 5, (0.0,) * 5, (0.5,) * 5), 0.7, 0.9, 0.5, "nothing")
    return GapClassifier(engine or KeywordEngine(), tokenizer, decision=decision, name="keywords@1.0")


class Answer(Exception):  # noqa: N818  an answer of 200 is one too
    """How a stand-in answers."""

    def __init__(self, status, body=None, **headers):
        super().__init__(status)
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}


def need(condition, status, body=None):
    if not condition:
        raise Answer(status, body or {"error": status})


@dataclass
class Call:
    """A request that came."""

    method: str
    path: str
    query: dict
    headers: dict
    body: object
    at: float = field(default_factory=time.monotonic)


class Desk:
    """What all stand-ins share."""

    kind = ""

    def __init__(self):
        self.calls = []
        self.changes = []  # (ticket, "add" or "remove", tag), each time a tag really came or went
        self.violations = []
        self.planned = deque()  # answers to give instead
        self.after_write = lambda call: None  # called when a change has been made, before the answer goes out
        self.before_write = lambda call: None  # called when a change has been asked for, before it is looked at
        self.tickets = {}
        self.clock = 0
        self._lock = threading.Lock()
        desk = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def serve(self):
                desk.serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = serve  # noqa: N815

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()

    def plan(self, status, *, times=1, **headers):
        """Answer the next requests with this, whatever they ask for."""
        self.planned.extend(Answer(status, {"error": "planned"}, **headers) for _ in range(times))

    def plan_write(self, status, **headers):
        """Answer the next write with this."""

        def refuse(call):
            self.before_write = lambda call: None
            raise Answer(status, {"error": "planned"}, **headers)

        self.before_write = refuse

    def serve(self, handler):
        parts = urlsplit(handler.path)
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        call = Call(handler.command, parts.path, query, headers, json.loads(raw) if raw else None)
        try:
            self.calls.append(call)
            if self.planned:
                raise self.planned.popleft()
            need(self.is_allowed(call), 401)
            if raw:
                need(headers.get("content-type", "").startswith("application/json"), 415)
            if call.method != "GET":
                self.before_write(call)
            with self._lock:
                answer = self.answer(call)
            if call.method != "GET":
                self.after_write(call)
        except Answer as planned:
            answer = planned
        self.send(handler, answer)

    def send(self, handler, answer):
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        body = b"" if answer.body is None else body
        try:
            handler.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # whoever asked has died meanwhile

    def tags(self, ticket):
        return set(self.tickets[str(ticket)]["tags"])

    def change_tags(self, ticket, *, add=(), remove=()):
        """Change a ticket's tags, as an agent or the API does."""
        tags = self.tickets[str(ticket)]["tags"]
        for tag in add:
            if tag not in tags:
                tags.append(tag)
                self.changes.append((str(ticket), "add", tag))
        for tag in remove:
            if tag in tags:
                tags.remove(tag)
                self.changes.append((str(ticket), "remove", tag))
        self.touch(ticket)

    def touch(self, ticket):
        self.clock += 1
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.clock)
        self.tickets[str(ticket)]["updated_at"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def find(self, ticket):
        need(ticket in self.tickets, 404, {"error": "RecordNotFound"})
        return self.tickets[ticket]

    def config(self, **changes):
        """Return the lines of this desk's table."""
        values = (
            {"kind": self.kind, "base_url": self.url, "webhook_secret_env": "DESK_SECRET"} | self.settings | changes
        )
        return "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())

    def is_basic(self, call, user, password):
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        return call.headers.get("authorization") == expected


def page_of(items, start, size):
    return items[start : start + size]


class ZendeskDesk(Desk):
    """A Zendesk."""

    kind = "zendesk"
    settings = MappingProxyType({"email": EMAIL, "api_token_env": "DESK_TOKEN"})

    def is_allowed(self, call):
        return self.is_basic(call, f"{EMAIL}/token", TOKEN)

    def open(self, id_, text, *, subject="", tags=(), status="open"):
        self.tickets[str(id_)] = {"id": id_, "subject": subject, "tags": list(tags), "status": status}
        self.tickets[str(id_)]["comments"] = [{"id": 1, "author_id": 7, "public": True, "body": text}]
        self.touch(id_)

    def comment(self, id_, text, *, author_id=7, public=True):
        comments = self.tickets[str(id_)]["comments"]
        comments.append({"id": len(comments) + 1, "author_id": author_id, "public": public, "body": text})
        self.touch(id_)

    def answer(self, call):
        parts = call.path.removesuffix(".json").strip("/").split("/")
        need(parts[:3] == ["api", "v2", "tickets"], 404)
        ticket = self.find(parts[3])
        if parts[4:] == ["tags"]:
            return self.answer_tags(call, parts[3], ticket)
        if call.method == "GET" and parts[4:] == ["comments"]:
            return self.answer_comments(call, ticket)
        if call.method == "GET" and len(parts) == 4:
            return Answer(200, {"ticket": {name: value for name, value in ticket.items() if name != "comments"}})
        self.violations.append(f"{call.method} {call.path}")
        return Answer(200, {})

    def answer_tags(self, call, id_, ticket):
        if call.method not in {"PUT", "DELETE"} or call.body.get("safe_update") != "true":
            self.violations.append(f"{call.method} without safe_update, or a call that replaces all tags")
        need(ticket["status"] != "closed", 422, {"error": "RecordInvalid"})
        need(call.body.get("updated_stamp") == ticket["updated_at"], 409, {"error": "UpdateConflict"})
        self.change_tags(id_, **{"add" if call.method == "PUT" else "remove": call.body["tags"]})
        return Answer(200, {"tags": ticket["tags"]})

    def answer_comments(self, call, ticket):
        size = int(call.query.get("page[size]", 0))
        need(0 < size <= 100, 400)
        comments = ticket["comments"][::-1] if call.query.get("sort") == "-created_at" else ticket["comments"]
        start = int(base64.b64decode(call.query.get("page[after]", "") or b"MA=="))
        shown = page_of(comments, start, size)
        after = start + len(shown)
        cursor = base64.b64encode(str(after).encode()).decode()
        meta = {"has_more": after < len(comments), "after_cursor": cursor}
        body = {"comments": shown, "meta": meta}
        if call.query.get("include") == "users":
            body["users"] = [{"id": 7, "role": "end-user"}, {"id": 9, "role": "agent"}, {"id": 10, "role": "admin"}]
        return Answer(200, body)

    def webhook(self, body, *, secret=SECRET, at=None, invocation="inv-1", sign_as=None):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        timestamp = (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        signed = hmac.new(secret.encode(), timestamp.encode() + (sign_as or raw), hashlib.sha256).digest()
        headers = {
            "x-zendesk-webhook-signature": base64.b64encode(signed).decode(),
            "x-zendesk-webhook-signature-timestamp": timestamp,
            "x-zendesk-webhook-invocation-id": invocation,
            "content-type": "application/json",
        }
        return Webhook(headers, raw)

    def created(self, id_, *, event="evt-1", by_agent=False, **options):
        ticket = self.tickets[str(id_)]
        detail = {
            "id": str(id_),
            "subject": ticket["subject"],
            "description": ticket["comments"][0]["body"],
            "requester_id": "7",
            "submitter_id": "9" if by_agent else "7",
            "tags": ticket["tags"],
        }
        body = {"type": "zen:event-type:ticket.created", "id": event, "subject": f"zen:ticket:{id_}", "detail": detail}
        return self.webhook(body, **options)

    def commented(self, id_, text, *, event="evt-2", is_staff=False, **options):
        comment = {"id": "5", "body": text, "is_public": True, "author": {"id": "7", "is_staff": is_staff}}
        body = {
            "type": "zen:event-type:ticket.comment_added",
            "id": event,
            "subject": f"zen:ticket:{id_}",
            "detail": {"id": str(id_)},
            "event": {"comment": comment},
        }
        return self.webhook(body, **options)

    def triggered(self, id_, **options):
        return self.webhook({"ticket_id": str(id_)}, **options)


class FreshdeskDesk(Desk):
    """A Freshdesk."""

    kind = "freshdesk"
    settings = MappingProxyType({"api_key_env": "DESK_TOKEN"})

    def is_allowed(self, call):
        return self.is_basic(call, TOKEN, "X")

    def open(self, id_, text, *, subject="", tags=(), source=1):
        ticket = {"id": id_, "subject": subject, "description_text": text, "tags": list(tags), "source": source}
        self.tickets[str(id_)] = ticket | {"replies": []}
        self.touch(id_)

    def reply(self, id_, text, *, incoming=True, private=False):
        replies = self.tickets[str(id_)]["replies"]
        replies.append({"id": len(replies), "body_text": text, "incoming": incoming, "private": private})
        self.touch(id_)

    def answer(self, call):
        parts = call.path.strip("/").split("/")
        need(parts[:3] == ["api", "v2", "tickets"], 404)
        ticket = self.find(parts[3])
        shown = {name: value for name, value in ticket.items() if name != "replies"}
        if call.method == "GET" and parts[4:] == ["conversations"]:
            size = int(call.query.get("per_page", 30))
            need(size <= 100, 400)
            return Answer(200, page_of(ticket["replies"], (int(call.query.get("page", 1)) - 1) * size, size))
        if call.method == "PUT" and len(parts) == 4:
            if set(call.body) != {"tags"}:
                self.violations.append(f"PUT of {sorted(call.body)}")
            names = set(call.body["tags"])
            self.change_tags(parts[3], add=names - set(ticket["tags"]), remove=set(ticket["tags"]) - names)
            return Answer(200, {name: value for name, value in ticket.items() if name != "replies"})
        need(call.method == "GET" and len(parts) == 4, 405)
        return Answer(200, shown)

    def webhook(self, body, *, secret=SECRET, header="x-gapnlp-secret"):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        if header == "authorization":
            secret = "Basic " + base64.b64encode(f"gapnlp:{secret}".encode()).decode()
        return Webhook({header: secret, "content-type": "application/json"}, raw)

    def triggered(self, id_, **fields):
        return self.webhook({"ticket_id": id_, **fields})


class IntercomDesk(Desk):
    """An Intercom workspace."""

    kind = "intercom"
    settings = MappingProxyType({"admin_id": "42", "access_token_env": "DESK_TOKEN"})

    def __init__(self):
        super().__init__()
        self.names = {"1": "vip"}  # of the workspace's tags, by id

    def is_allowed(self, call):
        return call.headers.get("authorization") == f"Bearer {TOKEN}" and "intercom-version" in call.headers

    def open(self, id_, html, *, subject="", tags=(), author="user"):
        source = {"body": html, "subject": subject, "author": {"type": author, "id": "7"}}
        self.tickets[str(id_)] = {"source": source, "parts": [], "tags": list(tags)}
        self.touch(id_)

    def reply(self, id_, html, *, author="user"):
        part = {"type": "conversation_part", "part_type": "comment", "body": html, "author": {"type": author}}
        self.tickets[str(id_)]["parts"].append(part)
        self.touch(id_)

    def shown(self, id_):
        ticket = self.tickets[id_]
        ids = {name: tag_id for tag_id, name in self.names.items()}
        tags = [{"type": "tag", "id": ids[name], "name": name} for name in ticket["tags"]]
        parts = {"type": "conversation_part.list", "conversation_parts": ticket["parts"]}
        tags = {"type": "tag.list", "tags": tags}
        return {
            "type": "conversation",
            "id": id_,
            "source": ticket["source"],
            "conversation_parts": parts,
            "tags": tags,
        }

    def answer(self, call):
        parts = call.path.strip("/").split("/")
        if call.method == "POST" and parts == ["tags"]:
            wanted = call.body["name"]
            known = next((id_ for id_, name in self.names.items() if name.lower() == wanted.lower()), None)
            id_ = known or str(len(self.names) + 1)
            return Answer(200, {"type": "tag", "id": id_, "name": self.names.setdefault(id_, wanted)})
        need(parts[0] == "conversations", 404)
        self.find(parts[1])
        if call.method == "GET" and len(parts) == 2:
            return Answer(200, self.shown(parts[1]))
        need(parts[2] == "tags", 404)
        need((call.body or {}).get("admin_id") == "42", 400, {"errors": [{"code": "parameter_not_found"}]})
        id_ = call.body["id"] if call.method == "POST" else parts[3]
        need(id_ in self.names, 404, {"errors": [{"code": "not_found"}]})
        name = self.names[id_]
        self.change_tags(parts[1], **{"add" if call.method == "POST" else "remove": [name]})
        return Answer(200, {"type": "tag", "id": id_, "name": name})

    def notify(
        self, id_, topic="conversation.user.created", *, secret=SECRET, at=None, notification="notif_1", attempts=1
    ):
        moment = int((at or datetime.now(UTC)).timestamp())
        body = {
            "type": "notification_event",
            "id": notification,
            "topic": topic,
            "data": {"type": "notification_event_data", "item": self.shown(str(id_))},
            "created_at": moment,
            "first_sent_at": moment,
            "delivery_attempts": attempts,
        }
        raw = json.dumps(body).encode()
        signature = "sha1=" + hmac.new(secret.encode(), raw, hashlib.sha1).hexdigest()
        return Webhook({"x-hub-signature": signature}, raw)


class JiraDesk(Desk):
    """A Jira site."""

    kind = "jira"
    settings = MappingProxyType({"email": EMAIL, "api_token_env": "DESK_TOKEN"})
    max_results = 50  # whatever is asked for

    def is_allowed(self, call):
        return self.is_basic(call, EMAIL, TOKEN)

    def open(self, key, text, *, subject="", tags=(), creator="cust-1", reporter="cust-1"):
        fields = {"summary": subject, "description": adf(text)}
        fields |= {"creator": {"accountId": creator}, "reporter": {"accountId": reporter}}
        self.tickets[key] = {"fields": fields, "tags": list(tags), "comments": []}
        self.touch(key)

    def comment(self, key, text, *, author="cust-1", kind="customer", public=True):
        author = {"accountId": author, "accountType": kind}
        self.tickets[key]["comments"].append({"body": adf(text), "author": author, "jsdPublic": public})
        self.touch(key)

    def answer(self, call):
        parts = call.path.strip("/").split("/")
        need(parts[:4] == ["rest", "api", "3", "issue"], 404)
        ticket = self.find(parts[4])
        if call.method == "GET" and parts[5:] == ["comment"]:
            comments = ticket["comments"][::-1] if call.query.get("orderBy") == "-created" else ticket["comments"]
            start = int(call.query.get("startAt", 0))
            size = min(int(call.query.get("maxResults", 50)), self.max_results)
            return Answer(200, {"comments": page_of(comments, start, size), "total": len(comments), "startAt": start})
        if call.method == "GET":
            fields = ticket["fields"] | {"labels": ticket["tags"], "updated": ticket["updated_at"]}
            wanted = call.query["fields"].split(",")
            return Answer(200, {"key": parts[4], "fields": {name: fields[name] for name in wanted}})
        need(call.method == "PUT" and len(parts) == 5, 405)
        if set(call.body) != {"update"} or set(call.body["update"]) != {"labels"}:
            self.violations.append(f"PUT of {call.body}")
        for verb in call.body["update"]["labels"]:
            ((what, name),) = verb.items()
            need(" " not in name, 400)
            if what not in {"add", "remove"}:
                self.violations.append(f"the verb {what}")
            self.change_tags(parts[4], **{what: [name]})
        return Answer(204)

    def webhook(self, body, *, secret=SECRET, identifier="id-1"):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        return Webhook({"x-hub-signature": signature, "x-atlassian-webhook-identifier": identifier}, raw)

    def notify(self, key, event="jira:issue_created", *, at=None, account="customer", **options):
        moment = int((at or datetime.now(UTC)).timestamp() * 1000)
        body = {"timestamp": moment, "webhookEvent": event, "issue": {"id": "10001", "key": key}}
        if event.startswith("comment"):
            body["comment"] = {"author": {"accountId": "x", "accountType": account}, "body": "wiki *markup*"}
        return self.webhook(body, **options)


def adf(text):
    """Return a document with a paragraph for each line."""
    lines = [line for line in text.split("\n") if line]
    paragraphs = [{"type": "paragraph", "content": [{"type": "text", "text": line}]} for line in lines]
    return {"type": "doc", "version": 1, "content": paragraphs}


STANDARD_MAP = """
[{name}.webhook]
ticket = "data.ticket.id"
event = "type"
events = ["ticket.created", "message.created"]
text = "data.message.body"
html = true
author = "data.message.author.role"
customers = ["customer"]

[{name}.read]
path = "/v9/tickets/{{ticket}}"
tags = "ticket.labels"
version = "ticket.revision"

[{name}.read.turns]
list = "ticket.messages"
text = "body"
html = true
author = "author.role"
customers = ["customer"]

[{name}.add]
method = "POST"
path = "/v9/tickets/{{ticket}}/labels"
body = {{ labels = "{{tags}}" }}

[{name}.remove]
method = "DELETE"
path = "/v9/tickets/{{ticket}}/labels/{{tag}}"
"""


class StandardDesk(Desk):
    """A helpdesk that nobody has heard of."""

    kind = "standard"
    settings = MappingProxyType({"webhook_secret_env": "DESK_STANDARD_SECRET", "api_token_env": "DESK_TOKEN"})

    def is_allowed(self, call):
        return call.headers.get("authorization") == f"Bearer {TOKEN}"

    def config(self, *, name="other", **changes):
        return super().config(**changes) + STANDARD_MAP.format(name=name)

    def open(self, id_, html, *, tags=()):
        self.tickets[id_] = {"tags": list(tags), "messages": [{"body": html, "author": {"role": "customer"}}]}
        self.touch(id_)

    def reply(self, id_, html, *, role="customer"):
        self.tickets[id_]["messages"].append({"body": html, "author": {"role": role}})
        self.touch(id_)

    def answer(self, call):
        parts = call.path.strip("/").split("/")
        need(parts[:2] == ["v9", "tickets"], 404)
        ticket = self.find(parts[2])
        if call.method == "GET":
            shown = {"labels": ticket["tags"], "revision": ticket["updated_at"], "messages": ticket["messages"]}
            return Answer(200, {"ticket": shown})
        if call.method == "POST":
            self.change_tags(parts[2], add=call.body["labels"])
        else:
            self.change_tags(parts[2], remove=[parts[4]])
        return Answer(204)

    def notify(
        self, id_, html="", *, kind="ticket.created", role="customer", secret=STANDARD_SECRET, at=None, msg="m-1"
    ):
        message = {"body": html, "author": {"role": role}}
        raw = json.dumps({"type": kind, "data": {"ticket": {"id": id_}, "message": message}}).encode()
        timestamp = str(int((at or datetime.now(UTC)).timestamp()))
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = hmac.new(key, f"{msg}.{timestamp}.".encode() + raw, hashlib.sha256).digest()
        signature = "v1," + base64.b64encode(signed).decode()
        return Webhook({"webhook-id": msg, "webhook-timestamp": timestamp, "webhook-signature": signature}, raw)


DESKS = {desk.kind: desk for desk in (ZendeskDesk, FreshdeskDesk, IntercomDesk, JiraDesk, StandardDesk)}


def write_config(folder, desk, *, name=None, **changes):
    """Write the file of the connectors for one stand-in; return its path."""
    name = name or {"standard": "other"}.get(desk.kind, desk.kind)
    path = folder / "connectors.toml"
    path.write_text(f"[{name}]\n{desk.config(**changes)}\n", encoding="utf-8")
    return path


def connect(folder, desk, **changes):
    """Return the connector to a stand-in."""
    (connector,) = load_connectors(write_config(folder, desk, **changes), environ=ENVIRON).values()
    return connector


QUICK = WorkerRules(
    poll_seconds=0.02, lease_seconds=5, stop_seconds=5, retry=RetryRules(first_seconds=0.02, longest_seconds=0.1)
)


@dataclass
class Running:
    """Helpdesks at work."""

    helpdesk: Helpdesk
    store: Store
    writer: AsyncWriter
    metrics: Metrics
    engine: KeywordEngine
    name: str

    async def receive(self, webhook):
        return (await self.helpdesk.inbox.receive(self.name, webhook)).value

    async def settled(self, *, seconds=10):
        """Wait until the queue is empty and what was done is counted; return the deliveries by state."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            counts = await self.writer.read(self.store.deliveries.counts)
            if not counts["waiting"] and not counts["claimed"] and not self.helpdesk.n_under_way:
                return counts
            await asyncio.sleep(0.01)
        raise AssertionError(f"deliveries are still under way: {counts}")

    def outcome(self, name):
        return self.metrics.registry.get_sample_value(
            "gapnlp_deliveries_total", {"connector": self.name, "outcome": name}
        )


@asynccontextmanager
async def at_work(folder, connectors, *, rules=QUICK, url=None, **settings):
    """Run helpdesks on a store in `folder`, with the real batcher."""
    settings = Settings(_env_file=None, **settings)
    store = Store.open(url or f"sqlite:///{folder / 'store.db'}")
    writer = AsyncWriter(store)
    engine, metrics = KeywordEngine(), Metrics()
    classifier = new_classifier(engine)
    batcher = Batcher(classifier)
    around = Surroundings(
        store=store, writer=writer, reader=batcher, fingerprint=lambda: classifier.fingerprint, metrics=metrics
    )
    helpdesk = Helpdesk({one.name: one for one in connectors}, around, settings=settings, rules=rules)
    helpdesk.start()
    try:
        yield Running(helpdesk, store, writer, metrics, engine, connectors[0].name)
    finally:
        await helpdesk.stop()
        await batcher.close()
        await writer.close()
        store.close()
