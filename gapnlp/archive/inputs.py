"""The inputs of a job: which files they are, how they are read, and that they stay what they were."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from gapnlp.archive.chunk import Source
from gapnlp.archive.columns import check_column, check_unlabelled, guess_text_column
from gapnlp.archive.disk import explained_reading
from gapnlp.archive.fingerprint import InputPrint
from gapnlp.archive.jsonlines import RAW_COLUMN
from gapnlp.archive.reader import STREAM, open_source
from gapnlp.errors import InputError

_N_SAMPLES = 20


@dataclass(frozen=True, slots=True)
class Input:
    """An open input.

    Attributes:
        source: Its rows.
        text_column: The column with the text.
        stamp: Size and time of its file before it was opened.
    """

    source: Source
    text_column: str
    stamp: tuple[int, int] | None

    def fingerprint(self) -> InputPrint:
        """Read all bytes and return what identifies the input."""
        import hashlib

        with explained_reading(self.source.name), self.source.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return InputPrint(self.source.name, digest, self.source.how)

    def check_unchanged(self) -> None:
        """Refuse to finish on a file that was written to while it was read.

        Raises:
            InputError: The file is not the one that was opened.
        """
        if _stamp(self.source.path) != self.stamp:
            raise InputError(
                f"{self.source.name}: was changed while it was read; begin again with  --restart  when that is over"
            )


def expand_names(names: Sequence[str], *, output: Path | None) -> tuple[str, ...]:
    """Replace each pattern by the files it matches, sorted; the output is none of them.

    Args:
        names: Paths, patterns with `*`, `?`, `[...]` and `**`, or `-`.
        output: The file to be written, links followed; None for stdout.

    Raises:
        InputError: A pattern matches nothing, or a file is named twice.
    """
    expanded: list[str] = []
    for name in names:
        expanded += [name] if name == STREAM or not glob.has_magic(name) or os.path.lexists(name) else _match(name)
    if expanded.count(STREAM) > 1:
        raise InputError("stdin (-) is named twice; it can be read once")
    matched = [name for name in expanded if name in names or Path(os.path.realpath(name)) != output]
    if expanded and not matched:
        raise InputError(f"{names[0]}: matches the output alone; name the files to read")
    seen: dict[Path, str] = {}
    for name in matched:
        path = Path(os.path.realpath(name))
        if name != STREAM and seen.setdefault(path, name) is not name:
            raise InputError(f"{name} is named twice; its rows would count double, so name it once")
    return tuple(matched)


def _match(pattern: str) -> list[str]:
    names = sorted(glob.glob(pattern, recursive=True), reverse=True)  # noqa: PTH207  Path.glob takes no absolute ones
    paths = {Path(os.path.realpath(name)): name for name in names}  # a file that is there under two names counts once
    found = sorted(name for path, name in paths.items() if not path.is_dir())
    if not found:
        raise InputError(f"{pattern}: no file matches this pattern; check it, and what is in the folder")
    return found


def open_input(
    stack: ExitStack, name: str, *, text_column: str | None, id_column: str | None, stream_kind: str | None
) -> Input:
    """Open one input and find its text column; `stack` closes it.

    Raises:
        InputError: It cannot be read, or is labelled already.
        ColumnError: A column is missing, or the text column cannot be told for certain.
    """
    stamp = _stamp(Path(name))
    source = stack.enter_context(open_source(name, stream_kind=stream_kind))
    stamp = _stamp(source.path) if name == STREAM else stamp
    if id_column is not None:
        check_column(id_column, columns=source.columns, option="--id-column", source=source.name)
    return Input(source, find_text_column(source, asked=text_column, id_column=id_column), stamp)


def find_text_column(source: Source, *, asked: str | None, id_column: str | None = None) -> str:
    """Return the column with the text.

    Args:
        source: The rows.
        asked: Its name; None to tell it by the names and the first rows.
        id_column: A column that it is not.

    Raises:
        InputError: The source is labelled already.
        ColumnError: There is no such column, or it cannot be told for certain.
    """
    check_unlabelled(source.columns, source=source.name)
    if asked is not None:
        return check_column(asked, columns=source.columns, option="--text-column", source=source.name)
    columns = [column for column in source.columns if column not in (RAW_COLUMN, id_column)]
    rows = (row for chunk in islice(source.chunks(_N_SAMPLES), 1) for row in chunk.rows)
    samples = [row.values for row in rows if not row.error]
    return guess_text_column(samples, columns=columns or source.columns, source=source.name)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when somebody writes to a file; None where there is no telling."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
