"""The file formats of archives, told by the file's name and checked against its first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from gapnlp.archive.compression import NAMES, PACKINGS, Packing
from gapnlp.errors import InputError

Kind = Literal["csv", "tsv", "jsonl", "xlsx", "parquet"]

KINDS: dict[str, Kind] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".xlsx": "xlsx",
    ".parquet": "parquet",
}
TEXT_KINDS: tuple[Kind, ...] = ("csv", "tsv", "jsonl")

# First bytes → what the file really is. The longest match stands first.
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old .xls workbook or one locked with a password"),
    (b"PK\x03\x04", "a zip file, such as an .xlsx workbook"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "gzip-compressed"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed"),
    (b"%PDF", "a PDF"),
)
_EXPECTED: dict[str, bytes] = {
    "xlsx": b"PK\x03\x04",
    "parquet": b"PAR1",
    "gz": b"\x1f\x8b",
    "zst": b"\x28\xb5\x2f\xfd",
}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format, and what it is packed with."""

    kind: Kind
    packing: Packing = ""

    @property
    def nested(self) -> bool:
        """Whether a cell may hold a list or an object."""
        return self.kind in ("jsonl", "parquet")


def format_of(name: str) -> FileFormat:
    """Tell the format by a file's name.

    Raises:
        InputError: The extension is none of those known.
    """
    path = PurePath(name.lower())
    packing = PACKINGS.get(path.suffix, "")
    kind = KINDS.get(path.with_suffix("").suffix if packing else path.suffix)
    if kind is None or (packing and kind not in TEXT_KINDS):
        known = ", ".join(KINDS)
        texts = ", ".join(suffix for suffix, kind in KINDS.items() if kind in TEXT_KINDS)
        raise InputError(
            f"{name}: the extension says no format known here; expected one of {known}, where {texts} may be followed "
            f"by {' or '.join(PACKINGS)}"
        )
    return FileFormat(kind, packing)


def stream_format(asked: str | None) -> FileFormat:
    """Tell the format of stdin or stdout: what was asked for, or CSV.

    Raises:
        InputError: A stream cannot carry that format.
    """
    kind = asked or "csv"
    if kind not in TEXT_KINDS:
        raise InputError(f"--format {asked}: stdin and stdout carry one of {', '.join(TEXT_KINDS)}")
    return FileFormat(KINDS[f".{kind}"])


def check_magic(head: bytes, *, file_format: FileFormat, name: str) -> None:
    """Refuse a file whose first bytes belie its extension.

    Raises:
        InputError: The content is of another format.
    """
    expected = _EXPECTED.get(file_format.packing or file_format.kind)
    found = next((what for magic, what in _MAGIC if head.startswith(magic)), None)
    if expected is not None and not head.startswith(expected):
        wanted = NAMES.get(file_format.packing, file_format.kind.upper())
        raise InputError(f"{name}: its content is {found or 'not'} {'' if found else wanted}".rstrip() + _RENAME)
    if expected is None and found is not None:
        raise InputError(f"{name}: read as {file_format.kind.upper()}, but its content is {found}{_RENAME}")


_RENAME = "; give the file the extension of what it holds, or save it again in the format its name says"
