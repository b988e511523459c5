"""One small archive in every format that the service takes."""

from __future__ import annotations

import io
from collections.abc import Mapping

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = (("1", "slow"), ("2", "promised"))


def _xlsx() -> bytes:
    book = openpyxl.Workbook()
    for row in (("id", "comment"), *ROWS):
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [one for one, _ in ROWS], "comment": [text for _, text in ROWS]}), out)
    return out.getvalue()


ARCHIVES: Mapping[str, bytes] = {
    "csv": b"id,comment\n1,slow\n2,promised\n",
    "tsv": b"id\tcomment\n1\tslow\n2\tpromised\n",
    "jsonl": b'{"id": "1", "comment": "slow"}\n{"id": "2", "comment": "promised"}\n',
    "xlsx": _xlsx(),
    "parquet": _parquet(),
}
