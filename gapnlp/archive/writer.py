"""Where labelled rows go: a file that appears whole or not at all, or stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from gapnlp.archive.chunk import Chunk, Layout, Writer
from gapnlp.archive.compression import pack_into
from gapnlp.archive.disk import explained_reading, explained_writing, sync_folder
from gapnlp.archive.format import FileFormat, format_of, stream_format
from gapnlp.archive.ledger import is_placed_by_job
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


def choose_target(name: str, inputs: Sequence[str], *, stream_kind: str | None = None) -> Target:
    """Decide where and how to write, before anything is read.

    Args:
        name: A path, or `-` for stdout.
        inputs: The paths to be read; none of them may be written over.
        stream_kind: `csv`, `tsv` or `jsonl`: what stdout carries; CSV where nothing is said.

    Raises:
        InputError: The extension is unknown, the folder is missing, or the file is one of the inputs.
    """
    if name == STREAM:
        return Target("stdout", None, stream_format(stream_kind))
    file_format = format_of(name)
    with explained_reading(name):
        path = Path(os.path.realpath(name))
        if any(item != STREAM and Path(os.path.realpath(item)) == path for item in inputs):
            raise InputError(f"{name} is the input as well as the output; write to another file")
        if path.is_dir():
            raise InputError(f"{name} is a folder; name a file to write")
        if path.exists() and not path.is_file():
            raise InputError(f"{name} is a pipe or a device; name a file, or write to stdout with  -o -")
        if not path.parent.is_dir():
            raise InputError(f"{name}: its folder does not exist; create it with  mkdir -p {Path(name).parent}")
    return Target(name, path, file_format)


def check_replaceable(target: Target, *, force: bool, restart: bool) -> None:
    """Refuse to write over a file, unless that is wanted, or a job that goes on has put it there itself.

    Args:
        target: Where the output goes.
        force: Whether any file may be replaced.
        restart: Whether the job begins again.

    Raises:
        InputError: There is a file.
    """
    if target.path is None or force or not target.path.exists():
        return
    if restart or not is_placed_by_job(target.path):
        raise InputError(f"{target.name} is there already; choose another name, or replace it with  --force")


class Output:
    """Rows out; use it in a `with` block, `finish` at the end and `place`, or the file does not come into being.

    Raises:
        InputError: The file cannot be written, such as on a full disk.
    """

    def __init__(self, target: Target, layout: Layout, *, part: Path | None = None) -> None:
        """Prepare.

        Args:
            target: Where the output goes.
            layout: What it looks like.
            part: Where a file grows, in the same file system; None for stdout.
        """
        self._target = target
        self._layout = layout
        self._part = part
        self._raw: IO[bytes] = sys.stdout.buffer
        self._file = self._raw
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo, explained_writing(self._target.name):
            undo.callback(self._discard)
            self._open()
            self._writer = new_writer(self._file, self._layout, file_format=self._target.file_format)
            self._cleanup.callback(self._writer.abandon)
            undo.pop_all()
        return self

    def write(self, chunk: Chunk, gaps: Sequence[dict[str, object]]) -> None:
        """Append rows; see `Writer.write`."""
        with explained_writing(self._target.name):
            self._writer.write(chunk, gaps)

    def finish(self) -> list[str]:
        """Complete the content, safe on the disk; return what the user should know of it."""
        with explained_writing(self._target.name):
            notes = self._writer.finish()
            if self._file is not self._raw:
                self._file.close()
            self._raw.flush()
            if self._part is not None:
                os.fsync(self._raw.fileno())
                self._raw.close()
        self._cleanup.pop_all()
        return notes

    def place(self) -> None:
        """Put the complete file in its place."""
        if self._part is not None and self._target.path is not None:
            with explained_writing(self._target.name):
                self._part.replace(self._target.path)
                sync_folder(self._target.path.parent)
            self._part = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._discard()

    def _open(self) -> None:
        if self._part is not None:
            self._raw = self._file = self._part.open("wb")
            self._cleanup.callback(self._raw.close)
        packing = self._target.file_format.packing
        if packing:
            self._file = pack_into(self._raw, packing=packing)
            self._cleanup.callback(self._file.close)

    def _discard(self) -> None:
        """Let go of what is open, whatever it says, and remove the part that is written."""
        with contextlib.suppress(Exception):
            self._cleanup.close()
        if self._part is not None:
            with contextlib.suppress(OSError):
                self._part.unlink(missing_ok=True)


def new_writer(file: IO[bytes], layout: Layout, *, file_format: FileFormat) -> Writer:
    """Return what writes rows of a format into a file; it imports only what that needs."""
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
