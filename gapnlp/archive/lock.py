"""A lock on a folder that dies with the process that holds it, so that a crash never leaves one behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = "lock"


class LockedError(Exception):
    """Another process holds the lock."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Make a folder and hold the lock in it; whoever is last to leave may have removed both.

    Raises:
        LockedError: Another process holds it.
        OSError: The folder cannot be made or written to.
    """
    handle = _acquire(folder)
    try:
        yield
    finally:
        os.close(handle)


def _acquire(folder: Path) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        path = folder / LOCK
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue  # the holder before finished, and took the folder with it
        try:
            _lock(handle)
            if _is_still(path, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # a lock on a file that is gone locks nobody out


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _lock(handle: int) -> None:
    """Lock a file, or do nothing where the system or the file system has no such locks."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise LockedError from exc
    except OSError:  # some network file systems
        return
