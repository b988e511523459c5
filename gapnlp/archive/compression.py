"""Compressed files, read and written as a stream: never more of them in memory than a block."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, cast

from gapnlp.archive.disk import explained_reading
from gapnlp.errors import InputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

Packing = Literal["", "gz", "zst"]

PACKINGS: dict[str, Packing] = {".gz": "gz", ".zst": "zst"}
NAMES: dict[Packing, str] = {"gz": "gzip", "zst": "zstd"}


@contextmanager
def open_packed(path: Path, *, packing: Packing, name: str) -> Iterator[IO[bytes]]:
    """Open a file for reading, its content unpacked.

    Raises:
        InputError: The file cannot be read, or its packed data are damaged or cut short.
    """
    try:
        with explained_reading(name), _open(path, packing=packing) as raw:
            yield raw
    except (EOFError, zlib.error, _DamagedError) as exc:
        raise InputError(
            f"{name}: its {NAMES[packing]} data are damaged or cut short ({exc}); get the file again"
        ) from exc


class _DamagedError(Exception):
    """The packed data are not what they should be."""


@contextmanager
def _open(path: Path, *, packing: Packing) -> Iterator[IO[bytes]]:
    if packing == "zst":
        import pyarrow as pa

        # This reader notices a file that was cut short, and refuses a window of more than 128 MiB.
        with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as unpacked:
            yield from _damage_told(unpacked)
    elif packing == "gz":
        with gzip.open(path) as unpacked:
            yield from _damage_told(cast("IO[bytes]", unpacked))
    else:
        with path.open("rb") as file:
            yield file


def _damage_told(unpacked: IO[bytes]) -> Iterator[IO[bytes]]:
    try:
        yield unpacked
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise _DamagedError(str(exc)) from exc  # both libraries report damage as an OSError without a number


def pack_into(raw: IO[bytes], *, packing: Packing) -> IO[bytes]:
    """Return a file that packs what is written to it into `raw`; the same content gives the same bytes."""
    if packing == "gz":
        return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
    if packing == "zst":
        import pyarrow as pa

        return cast("IO[bytes]", pa.CompressedOutputStream(pa.PythonFile(_Borrowed(raw), "w"), "zstd"))
    return raw


class _Borrowed(io.RawIOBase):
    """A file that somebody else closes, as it must be synced before."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, content: Buffer) -> int:
        """Pass the bytes on."""
        return self._raw.write(content)
