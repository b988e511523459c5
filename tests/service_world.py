"""The service as tests meet it: the whole application over ASGI, started and stopped like the real one."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import structlog
from tokenizers import Tokenizer, models, pre_tokenizers

from gapnlp.calibration import Calibration
from gapnlp.classifier import GapClassifier
from gapnlp.engines.fake import FakeEngine
from gapnlp.model_dir import Decision
from gapnlp.prevalence.gap_score import ValidationScores
from serve.app import create_app
from serve.service import Service
from serve.settings import Settings, load_settings

# To the fake engine "slow" speaks for delivery, "promised" for communication, any other word against all.
VOCABULARY = {"[UNK]": 0, "promised": 4, "slow": 11}
SECONDS = 20  # after which a test that waits has failed


class SlowEngine(FakeEngine):
    """The fake engine, held up until it is let go."""

    def __init__(self) -> None:
        self.may_run = threading.Event()
        self.is_running = threading.Event()

    def run(self, input_ids, attention_mask):
        self.is_running.set()
        self.may_run.wait(SECONDS)
        return super().run(input_ids, attention_mask)


class BrokenEngine(FakeEngine):
    """An engine that fails, and says in its error what it should not."""

    def run(self, input_ids, attention_mask):
        raise RuntimeError(f"cannot read {input_ids.tolist()}: {CANARY}")


CANARY = "Zebrafink-7731"  # a name that nobody has


def fake_classifier(engine: FakeEngine | None = None) -> GapClassifier:
    """Return a tiny classifier on a fixed engine."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # The threshold of knowledge is high on purpose: labels must follow thresholds, not one half.
    decision = Decision(Calibration((1.0,) * 5, (0.0,) * 5, (0.99, 0.5, 0.5, 0.5, 0.5)), 0.7, 0.9, 0.5, "nothing")
    return GapClassifier(engine or FakeEngine(), tokenizer, decision=decision, name="tiny@1.0")


def fake_validation(*, n: int = 400) -> ValidationScores:
    """Return held-out rows that a good classifier has scored."""
    rng = np.random.default_rng(7)
    labels = rng.random((n, 5)) < 0.3
    proba = np.clip(np.where(labels, 0.85, 0.1) + rng.normal(0, 0.08, labels.shape), 0.001, 0.999)
    return ValidationScores(proba, labels)


# Exceptions are told with all their local variables until the service sets its own logging up.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@dataclass
class World:
    """A running service, and a loop to talk to it from a plain test."""

    app: Any
    client: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop

    @property
    def service(self) -> Service:
        return self.app.state.service

    def run(self, work: Awaitable[Any]) -> Any:
        """Wait for work in the service's loop."""
        return asyncio.run_coroutine_threadsafe(_within(work), self.loop).result(SECONDS + 5)

    def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return self.run(self.client.get(path, **kwargs))

    def post(self, path: str, json: Any = None, **kwargs: Any) -> httpx.Response:
        return self.run(self.client.post(path, json=json, **kwargs))

    def send(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """Post bytes as they are; the headers' underscores are hyphens."""
        named = {"content-type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return self.post(path, content=body, headers=named)

    def key(self, *scopes: str) -> str:
        """Make an API key."""

        def make(conn):
            return self.service.store.keys.create(conn, "test", scopes=scopes, now=datetime.now(UTC))[1]

        return self.run(self.service.writer.run(make))

    def call(self, messages: Any, *, path: str = "/v1/classify", headers: Any = ()) -> Awaitable[list[dict[str, Any]]]:
        """Send a POST message by message; `messages` is an async iterator that may take its time."""
        return _call(self.app, messages, path=path, headers=headers)


async def _within(work: Awaitable[Any]) -> Any:
    async with asyncio.timeout(SECONDS):
        return await work


async def _call(app, messages, *, path, headers):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers, (b"host", b"test"), (b"content-type", b"application/json")],  # of two the first counts
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[dict[str, Any]] = []

    async def receive():
        try:
            return await anext(messages)
        except StopAsyncIteration:
            await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    return sent


def settings_for(tmp_path: Path, **changes: Any) -> Settings:
    """Return settings that keep everything in a test's folder."""
    values = {
        "database_url": f"sqlite:///{tmp_path / 'service.db'}",
        "rate_limit": "100000/minute",
        "reload_seconds": 0,
    }
    return load_settings(**values | changes)


@contextmanager
def running(app: Any) -> Iterator[World]:
    """Run an application in a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        lifespan = app.router.lifespan_context(app)
        asyncio.run_coroutine_threadsafe(lifespan.__aenter__(), loop).result(SECONDS)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://test")
        try:
            yield World(app, client, loop)
        finally:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result(SECONDS)
            asyncio.run_coroutine_threadsafe(lifespan.__aexit__(None, None, None), loop).result(SECONDS)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SECONDS)
        loop.close()


@contextmanager
def fake_world(
    tmp_path: Path, *, engine: FakeEngine | None = None, validation: bool = True, **changes: Any
) -> Iterator[World]:
    """Run the service on the fake engine."""
    app = create_app(
        settings_for(tmp_path, **changes),
        classifier=fake_classifier(engine),
        validation=fake_validation() if validation else None,
    )
    with running(app) as world:
        yield world


@contextmanager
def shipped_world(tmp_path: Path, **changes: Any) -> Iterator[World]:
    """Run the service on the shipped model."""
    with running(create_app(settings_for(tmp_path, **changes))) as world:
        yield world


def wait_until(condition: Callable[[], bool], *, seconds: float = SECONDS) -> None:
    """Wait for something to become true."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not become true")
        time.sleep(0.005)
