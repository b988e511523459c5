"""A small HTTP/1.1 load generator, cheap enough to share two cores with the server it loads.

Connections are kept alive. In a closed loop each client sends its next request when the last one is answered; in an
open loop requests leave at a steady rate whatever the server does, and one that finds no free connection opens one.
Times are taken where the request is handed to the kernel and where the last byte of the answer arrives. Python's
collector rests meanwhile: it walks over all the samples, and its pauses would be counted as the server's.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httptools
import numpy as np


@dataclass(frozen=True, slots=True)
class Sample:
    """One request.

    Attributes:
        index: Which of the requests it was.
        status: Of the answer; 0 where there was none.
        seconds: From sending to the last byte.
        raw_headers: Of the answer.
        body: Of the answer.
    """

    index: int
    status: int
    seconds: float
    raw_headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""

    @property
    def headers(self) -> dict[str, str]:
        """The headers by name, in lower case."""
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.raw_headers}

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)


def post(path: str, body: object, *, host: str = "127.0.0.1", headers: dict[str, str] | None = None) -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    content = json.dumps(body).encode()
    given = {"Host": host, "Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


def get(path: str, *, host: str = "127.0.0.1") -> bytes:
    """Return the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """A connection that is kept alive, one request at a time."""

    def __init__(self) -> None:
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[None] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._finished = 0.0

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    async def send(self, index: int, request: bytes) -> Sample:
        """Send one request and wait for its answer; status 0 where the connection ends before."""
        self._answer = asyncio.get_running_loop().create_future()
        self._headers, self._body = [], []
        began = time.perf_counter()
        if self._transport is None or not self.is_open:
            return Sample(index, 0, 0.0)
        self._transport.write(request)
        try:
            await self._answer
        except ConnectionError:
            return Sample(index, 0, time.perf_counter() - began)
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        return Sample(index, status, self._finished - began, self._headers, b"".join(self._body))

    def close(self) -> None:
        """End the connection."""
        self.is_open = False
        if self._transport:
            self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the transport."""
        self.is_open = True
        self._transport = transport  # type: ignore[assignment]  # of a stream, as TCP is

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """End whatever waits for an answer."""
        self.is_open = False
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionError("the connection ended before the answer"))

    # httptools calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers.append((name, value))

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Wake whoever sent the request."""
        self._finished = time.perf_counter()
        if self._answer and not self._answer.done():
            self._answer.set_result(None)


async def closed_loop(port: int, requests: Iterable[bytes], *, n_clients: int) -> list[Sample]:
    """Let clients send all requests, each the next one as soon as its last is answered."""
    samples: list[Sample] = []
    numbered = iter(enumerate(requests))

    async def client() -> None:
        connection = await Connection.open(port)
        for index, request in numbered:
            if not connection.is_open:
                connection = await Connection.open(port)
            samples.append(await connection.send(index, request))
        connection.close()

    with _without_collector():
        await asyncio.gather(*(client() for _ in range(n_clients)))
    return samples


async def open_loop(port: int, requests: Iterator[bytes], *, rate: float, seconds: float) -> list[Sample]:
    """Send requests at a steady rate, whether or not earlier ones are answered.

    Args:
        port: Of this machine.
        requests: As many as there are to be.
        rate: Requests per second.
        seconds: For how long.
    """
    free: list[Connection] = []
    tasks: set[asyncio.Task[None]] = set()
    samples: list[Sample] = []

    async def one(index: int, request: bytes) -> None:
        while free and not free[-1].is_open:
            free.pop()
        try:
            connection = free.pop() if free else await Connection.open(port)
        except OSError:
            samples.append(Sample(index, 0, 0.0))
            return
        samples.append(await connection.send(index, request))
        free.append(connection)

    began, index = time.perf_counter(), 0
    with _without_collector():
        while (elapsed := time.perf_counter() - began) < seconds:
            while index < elapsed * rate:
                task = asyncio.create_task(one(index, next(requests)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                index += 1
            await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
    for connection in free:
        connection.close()
    return samples


@contextmanager
def _without_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def percentile(samples: Sequence[Sample], share: float) -> float:
    """Return the time in seconds within which a share (0-1) of the requests was answered."""
    return float(np.quantile([sample.seconds for sample in samples], share)) if samples else float("nan")
