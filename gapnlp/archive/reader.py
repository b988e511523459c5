"""Open an archive for reading: the format by its name, checked against its content."""

from __future__ import annotations

import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gapnlp.archive.chunk import Source
from gapnlp.archive.disk import explained_reading, explained_writing
from gapnlp.archive.format import FileFormat, check_magic, format_of, stream_format
from gapnlp.archive.textfile import TextFile
from gapnlp.errors import InputError

STREAM = "-"


@contextmanager
def open_source(name: str, *, stream_kind: str | None = None) -> Iterator[Source]:
    """Open one archive; `-` is stdin, put aside in a temporary file first.

    Args:
        name: A path, or `-`.
        stream_kind: `csv`, `tsv` or `jsonl`: what stdin carries; CSV where nothing is said.

    Raises:
        InputError: The file is missing, empty, damaged, or not what its extension says.
    """
    if name != STREAM:
        path = Path(name)
        _check_file(path, name=name)
        source = open_file(path, file_format=format_of(name), name=name)
        try:
            yield source
        finally:
            source.close()
        return
    with tempfile.NamedTemporaryFile(prefix="gapnlp-stdin-") as aside:
        with explained_writing(f"{aside.name} (what comes from stdin, put aside)"):
            shutil.copyfileobj(sys.stdin.buffer, aside)
            aside.flush()
        yield open_file(Path(aside.name), file_format=stream_format(stream_kind), name="stdin")


def _check_file(path: Path, *, name: str) -> None:
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{name}: no such file; check the path, or use - to read from stdin") from None
    except (OSError, ValueError) as exc:
        raise InputError(f"{name}: cannot be read ({exc}); check its name and permissions") from exc
    if stat.S_ISDIR(kind):
        raise InputError(f"{name} is a folder; name the files in it, as in  '{name.rstrip('/')}/*.csv'")
    if not stat.S_ISREG(kind):
        raise InputError(f"{name} is a pipe or a device, which can be read once only; pipe it in with  < {name}  and -")


def open_file(path: Path, *, file_format: FileFormat, name: str) -> Source:
    """Open a file as what it is said to be.

    Args:
        path: A file that stays as it is until the source is closed; its extension is that of the format.
        file_format: What it should hold.
        name: What messages call it.

    Raises:
        InputError: It is empty, damaged, or holds something else.
    """
    with explained_reading(name), path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise InputError(f"{name}: the file is empty; expected at least one row")
    check_magic(head, file_format=file_format, name=name)
    return _source(path, file_format=file_format, name=name)


def _source(path: Path, *, file_format: FileFormat, name: str) -> Source:
    """Import only what the format needs: a CSV file waits for neither pyarrow nor openpyxl."""
    if file_format.kind == "xlsx":
        from gapnlp.archive.workbook import WorkbookSource

        return WorkbookSource(path, name=name)
    if file_format.kind == "parquet":
        from gapnlp.archive.parquet import ParquetSource

        return ParquetSource(path, name=name)
    text = TextFile(path, packing=file_format.packing, name=name)
    if file_format.kind == "jsonl":
        from gapnlp.archive.jsonlines import JsonLinesSource

        return JsonLinesSource(text)
    from gapnlp.archive.tabular import DelimitedSource

    return DelimitedSource(text, kind=file_format.kind)
