"""Where labelled rows go: a file that appears whole or not at all, or stdout."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from gapnlp.archive.chunk import Chunk, Layout, Writer
from gapnlp.archive.format import FileFormat, format_of, stream_format
from gapnlp.archive.reader import STREAM
from gapnlp.errors import InputError


@dataclass(frozen=True, slots=True)
class Target:
    """Where the output goes.

    Attributes:
        name: What messages call it.
        path: The file, links followed; None for stdout.
        file_format: How it is written.
    """

    name: str
    path: Path | None
    file_format: FileFormat


def choose_target(name: str, inputs: Sequence[str], *, force: bool = False, stream_kind: str | None = None) -> Target:
    """Decide where and how to write, before anything is read.

    Args:
        name: A path, or `-` for stdout.
        inputs: The paths to be read; none of them may be written over.
        force: Whether a file that is there may be replaced.
        stream_kind: `csv`, `tsv` or `jsonl`: what stdout carries; CSV where nothing is said.

    Raises:
        InputError: The extension is unknown, the folder is missing, or the file must not be replaced.
    """
    if name == STREAM:
        return Target("stdout", None, stream_format(stream_kind))
    file_format = format_of(name)
    path = Path(os.path.realpath(name))
    if any(item != STREAM and Path(os.path.realpath(item)) == path for item in inputs):
        raise InputError(f"{name} is the input as well as the output; write to another file")
    if path.is_dir():
        raise InputError(f"{name} is a folder; name a file to write")
    if path.exists() and not force:
        raise InputError(f"{name} is there already; choose another name, or replace it with  --force")
    if not path.parent.is_dir():
        raise InputError(f"{name}: its folder does not exist; create it with  mkdir -p {Path(name).parent}")
    return Target(name, path, file_format)


class Output:
    """Rows out; use it in a `with` block and `commit` at the end, or the file does not come into being.

    Raises:
        InputError: The file cannot be written, such as on a full disk.
    """

    def __init__(self, target: Target, layout: Layout) -> None:
        self._target = target
        self._layout = layout
        self._part: Path | None = None
        self._raw: IO[bytes] = sys.stdout.buffer
        self._file = self._raw
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo, self._explained():
            undo.callback(self._discard)
            self._open()
            self._writer = _writer(self._file, self._layout, file_format=self._target.file_format)
            self._cleanup.callback(self._writer.abandon)
            undo.pop_all()
        return self

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`."""
        with self._explained():
            self._writer.write(chunk, gaps)

    def commit(self) -> list[str]:
        """Complete the file and put it in its place; return what the user should know of it."""
        with self._explained():
            notes = self._writer.finish()
            if self._file is not self._raw:
                self._file.close()
            self._raw.flush()
            if self._part is not None and self._target.path is not None:
                os.fsync(self._raw.fileno())
                self._raw.close()
                self._part.replace(self._target.path)
                self._part = None
                _sync_folder(self._target.path.parent)
        self._cleanup.pop_all()
        return notes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discard()

    def _open(self) -> None:
        path = self._target.path
        if path is not None:
            self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
            self._raw = self._file = self._part.open("xb")
            self._cleanup.callback(self._raw.close)
        if self._target.file_format.gz:
            packed = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, mtime=0)
            self._file = cast("IO[bytes]", packed)
            self._cleanup.callback(self._file.close)

    def _discard(self) -> None:
        """Let go of what is open, whatever it says, and remove the part that is written."""
        with contextlib.suppress(OSError, ValueError):
            self._cleanup.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # whoever read stdout has seen enough
        except OSError as exc:
            why = "the disk is full" if exc.errno == errno.ENOSPC else exc.strerror or str(exc)
            left = "" if self._target.path is None else "; nothing was left behind"
            raise InputError(
                f"{self._target.name}: cannot be written ({why}){left}. Make room or check the permissions, "
                "or write to another place"
            ) from exc


def _writer(file: IO[bytes], layout: Layout, *, file_format: FileFormat) -> Writer:
    """Import only what the format needs."""
    if file_format.kind == "xlsx":
        from gapnlp.archive.workbook import WorkbookWriter

        return WorkbookWriter(file, layout)
    if file_format.kind == "parquet":
        from gapnlp.archive.parquet import ParquetWriter

        return ParquetWriter(file, layout)
    if file_format.kind == "jsonl":
        from gapnlp.archive.jsonlines import JsonLinesWriter

        return JsonLinesWriter(file)
    from gapnlp.archive.tabular import DelimitedWriter

    return DelimitedWriter(file, layout, kind=file_format.kind)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where folders can be synced."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
