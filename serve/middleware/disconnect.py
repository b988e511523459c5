"""Clients that go away: nobody should work for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive

T = TypeVar("T")
_UNWATCHED_SECONDS = 0.1


class ClientGoneError(Exception):
    """The client hung up before its answer was there."""


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """Wait for `work`, and cancel it when the client goes away.

    Clients are watched only from a tenth of a second on: most answers are there before, and to watch takes time too.

    Args:
        receive: The client's messages; its whole body has been read.
        work: What the client waits for.

    Raises:
        ClientGoneError: The client went away first.
    """
    watch = _Watch(receive)
    try:
        return await work
    except asyncio.CancelledError:
        if watch.is_gone and not watch.task.uncancel():
            raise ClientGoneError from None
        raise
    finally:
        watch.end()


class _Watch:
    """Cancel the task that made it when the client goes away.

    Attributes:
        is_gone: Whether it has.
        task: Which waits.
    """

    __slots__ = ("_receive", "_timer", "_watcher", "is_gone", "task")

    def __init__(self, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("clients are watched from inside a task")
        self.task = task
        self.is_gone = False
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = loop.call_later(_UNWATCHED_SECONDS, self._begin)

    def end(self) -> None:
        """Watch no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._watcher:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._until_gone())
        self._watcher.add_done_callback(self._stop)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _stop(self, watcher: asyncio.Task[None]) -> None:
        self._watcher = None  # its traceback leads back here: the collector would have to find all of this request
        # The timer is gone once nobody waits any more: what comes after that must not cancel what the task does next.
        if self._timer and not watcher.cancelled() and not watcher.exception():
            self.is_gone = True
            self.task.cancel()
