"""Clients that go away: nobody should work for them."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

T = TypeVar("T")
_UNWATCHED_SECONDS = 0.1
_KEY = "gapnlp.hung_up"


class ClientGoneError(Exception):
    """The client hung up before its answer was there."""


def note_connection(scope: Scope, receive: Receive) -> None:
    """Let `has_hung_up` find the connection of a request; for the server, which alone knows it."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is not None and hasattr(select, "POLLRDHUP"):  # Linux
        scope[_KEY] = partial(_has_ended, transport)


def has_hung_up(scope: Scope) -> Callable[[], bool]:
    """Return what says whether the client has gone, before the event loop has come round to seeing it.

    It asks the system, and may be asked from any thread. Where the connection is not known it always says no.
    """
    known: Callable[[], bool] = scope.get(_KEY, _never)
    return known


def _has_ended(transport: Any) -> bool:
    if not transport.is_reading():  # a second request waits behind this one, and whatever follows it is not read yet
        return False
    poll = select.poll()
    try:
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
    except ValueError:  # closed by now
        return True
    return bool(poll.poll(0))


def _never() -> bool:
    return False


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
