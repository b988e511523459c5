"""Files that outlast a crash: there whole or not at all; what the system refuses is said in words."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gapnlp.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before, even through a power cut."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut, where folders can be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def explained_writing(name: str) -> Iterator[None]:
    """Turn a refusal of the operating system into a message.

    Raises:
        InputError: Something could not be written, such as on a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read stdout has seen enough
    except Exception as exc:
        error = _system_error(exc)
        if error is None:
            raise
        why = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or str(error)
        raise InputError(
            f"{name}: cannot be written ({why}); make room or check the permissions, or write to another place"
        ) from exc


def _system_error(exc: Exception) -> OSError | None:
    """Return what the operating system said; openpyxl writes through lxml where that is installed, which renames it."""
    if isinstance(exc, OSError):
        return exc
    code = getattr(errno, str(exc).removeprefix("IO_"), None) if type(exc).__module__ == "lxml.etree" else None
    return None if code is None else OSError(code, os.strerror(code))


@contextmanager
def explained_reading(name: str) -> Iterator[None]:
    """Turn a refusal of the operating system into a message.

    Raises:
        InputError: Something could not be read.
    """
    try:
        yield
    except OSError as exc:
        raise InputError(f"{name}: cannot be read ({exc.strerror or exc}); check its name and permissions") from exc
