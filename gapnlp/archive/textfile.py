"""A text file whose encoding is found, plain or packed, read line by line."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from gapnlp.archive.compression import Packing, open_packed
from gapnlp.errors import InputError

MAX_LINE = 16 * 2**20  # characters; a longer line is no table, and must not fill the memory
_MAX_LINE_BYTES = 4 * MAX_LINE  # a character has four at the most
_BLOCK = 2**20
_SAMPLE = 2**16
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Codecs told apart by their script; the other Latin ones cannot be told from cp1252 by their bytes.
_LEGACY = ["cp1252", "cp1251", "cp1253", "shift_jis", "gb18030", "euc_kr"]


class TextFile:
    """The lines of a text file.

    Bytes that its encoding does not know come out as backslash escapes: nothing is lost and nothing stops.

    Raises:
        InputError: The file is empty, is no text, or its compressed data are damaged.
    """

    def __init__(self, path: Path, *, packing: Packing, name: str) -> None:
        self.path = path
        self.name = name
        self._packing = packing
        self.encoding = self._find_encoding()
        self.first_line = next((line for line in self.lines() if line.strip()), "")
        if not self.first_line:
            raise InputError(f"{name}: the file is empty; expected at least one row")

    def lines(self) -> Iterator[str]:
        """Read from the start, line ends kept.

        Raises:
            InputError: A line is longer than `MAX_LINE`.
        """
        with (
            self._open() as raw,
            io.TextIOWrapper(raw, self.encoding, "backslashreplace", newline="") as text,
        ):
            number = 0
            while line := text.readline(MAX_LINE):
                number += 1
                if len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
                    raise InputError(
                        f"{self.name}: line {number} is longer than {MAX_LINE:,} characters; "
                        "expected a table with one row a line"
                    )
                yield line

    def _open(self) -> AbstractContextManager[IO[bytes]]:
        return open_packed(self.path, packing=self._packing, name=self.name)

    def _blocks(self, raw: IO[bytes]) -> Iterator[bytes]:
        """Read to the end, unless there is a line that no table has: a file packed well may be endless."""
        n_since = 0
        while block := raw.read(_BLOCK):
            end = max(block.rfind(b"\n"), block.rfind(b"\r"))
            n_since = n_since + len(block) if end < 0 else len(block) - end
            if n_since > _MAX_LINE_BYTES:
                raise InputError(
                    f"{self.name}: has a line longer than {MAX_LINE:,} characters; expected a table with one row a line"
                )
            yield block

    def _find_encoding(self) -> str:
        with self._open() as raw:
            head = raw.read(_SAMPLE)
        for bom, encoding in _BOMS:
            if head.startswith(bom):
                return encoding
        if (bare := _bare_utf16(head)) is not None:
            return bare
        _check_text(head, name=self.name)
        with self._open() as raw:
            return "utf-8" if _is_utf8(self._blocks(raw)) else self._legacy_encoding()

    def _legacy_encoding(self) -> str:
        """Tell a damaged UTF-8 file from one in an older encoding, by all of its bytes."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        n_bad = n_good = 0
        sample = bytearray()
        with self._open() as raw:
            for block in self._blocks(raw):
                text = decoder.decode(block)
                bad = text.count("�")
                n_bad += bad
                n_good += len(text) - len(text.encode("ascii", "ignore")) - bad
                if len(sample) < _SAMPLE:
                    sample += b"".join(line for line in block.splitlines(keepends=True) if not line.isascii())
        return "utf-8" if n_good > 10 * n_bad else _guess_legacy(bytes(sample[:_SAMPLE]))


def _bare_utf16(head: bytes) -> str | None:
    """Tell UTF-16 without a mark: mostly Latin text has a NUL in every second byte."""
    pairs = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / pairs, head[1::2].count(0) / pairs
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    return "utf-16-be" if even > 0.4 and odd < 0.05 else None


def _check_text(head: bytes, *, name: str) -> None:
    n_control = sum(head.count(code) for code in range(32) if code not in (9, 10, 11, 12, 13))
    if n_control > 0.08 * len(head):  # noise has 10 %, text next to none
        raise InputError(f"{name}: its content is no text; expected CSV, TSV or JSONL")


def _is_utf8(blocks: Iterator[bytes]) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for block in blocks:
            decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _guess_legacy(sample: bytes) -> str:
    """Choose cp1252 unless another script is the better reading of the lines that are not ASCII."""
    from charset_normalizer import from_bytes

    n_high = len(sample) - len(sample.decode("ascii", "ignore"))
    if n_high < 0.25 * len(sample):  # accents, quotes and currency signs in Latin text
        return "cp1252"
    matches = list(from_bytes(sample, cp_isolation=_LEGACY))
    chaos = {match.encoding: match.chaos for match in matches}
    if not matches or chaos.get("cp1252", 1.0) <= matches[0].chaos:
        return "cp1252"
    return matches[0].encoding
