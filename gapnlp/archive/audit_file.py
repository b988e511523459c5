"""The files of an audit: rows to read, written blind, and read back with a person's marks.

`audit.csv` (or .xlsx, .jsonl) holds the rows in the random order in which to read them: `row`, the text, an empty
column per gap and an empty column `read`. Nothing in it tells what the model thinks. `audit.plan.json` beside it
holds how the rows were drawn, and what they were drawn from; `audit.reader2.csv` holds those for a second reader.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.archive.audit_rows import AuditRow, Marks, read_marks, write_rows
from gapnlp.archive.labelled import LabelledArchive
from gapnlp.audit import Audit, Design, Draw, fingerprint
from gapnlp.errors import InputError
from gapnlp.taxonomy import LABELS

_VERSION = 1
_KEYS = ("version", "archive", "n_texts", "fingerprint", "seed", "gap", "cuts", "n_rows", "rows")


@dataclass(frozen=True, slots=True)
class AuditFiles:
    """Where the parts of an audit are.

    Attributes:
        rows: For the first reader.
        second: For the second reader; need not be there.
        plan: How the rows were drawn; not for readers.
    """

    rows: Path
    second: Path
    plan: Path

    @classmethod
    def beside(cls, path: Path) -> AuditFiles:
        """Derive the other names from that of the rows."""
        stem, suffix = path.name.removesuffix(path.suffix), path.suffix
        return cls(path, path.with_name(f"{stem}.reader2{suffix}"), path.with_name(f"{stem}.plan.json"))


def write_audit(
    files: AuditFiles, draw: Draw, *, archive: LabelledArchive, texts: Sequence[tuple[str, str]], seed: int
) -> None:
    """Write the rows to read, those for the second reader, and the plan.

    Args:
        files: Where to; what is there is replaced.
        draw: The rows.
        archive: What they were drawn from.
        texts: Name and text of each row, in the order of the draw.
        seed: What the draw was made with.

    Raises:
        InputError: A file cannot be written.
    """
    numbers = archive.number[draw.rows].tolist()
    rows = [AuditRow(number, name, text) for number, (name, text) in zip(numbers, texts, strict=True)]
    plan = {
        "version": _VERSION,
        "about": "How the rows were drawn. Keep it beside them; readers must not see it.",
        "archive": [Path(name).name for name in archive.names],
        "n_texts": len(archive.proba),
        "fingerprint": fingerprint(archive.proba),
        "seed": seed,
        "gap": draw.design.gap,
        "cuts": draw.design.cuts,
        "n_rows": draw.design.n_rows,
        "rows": sorted(zip(numbers, draw.rows.tolist(), strict=True)),
    }
    write_rows(files.rows, rows)
    try:
        if draw.n_double:
            write_rows(files.second, rows[: draw.n_double])
        else:
            files.second.unlink(missing_ok=True)  # of an earlier draw: its rows are not these
        files.plan.write_text(json.dumps(plan) + "\n", encoding="utf-8")
    except OSError as exc:
        raise InputError(f"{files.plan}: cannot be written ({exc.strerror}); check the folder's permissions") from exc


def read_audit(path: str | Path, proba: npt.ArrayLike) -> Audit:
    """Read an audit back, once people have marked it.

    A row counts as read where `read` is marked; a row read and left without a gap has none. The file of the
    second reader is used where it is there and marked.

    Args:
        path: The rows, as `gapnlp audit draw` wrote them; the plan must lie beside them.
        proba: Calibrated probabilities of the archive's texts, those with a `gap_error` left out.
            *Shape:* (n_texts, 5).

    Raises:
        InputError: The files are not those of one audit of this archive, a mark cannot be read, or no row is
            marked as read.
        ColumnError: A column is missing.
    """
    files = AuditFiles.beside(Path(path))
    plan = _read_plan(files)
    scores = np.asarray(proba, dtype=np.float64)
    _check_archive(plan, scores, files=files)
    index = dict(plan["rows"])
    first = read_marks(files.rows, drawn=index)
    if not first:
        raise InputError(
            f"{files.rows}: no row is marked as read; put x under 'read' in every row that was read, also in those "
            "without a gap"
        )
    second = read_marks(files.second, drawn=index) if files.second.exists() else {}
    design = Design(plan["gap"], tuple(plan["cuts"]), tuple(plan["n_rows"]))
    return _build(first, second, index=index, design=design, scores=scores)


def _build(
    first: Marks, second: Marks, *, index: Mapping[int, int], design: Design, scores: npt.NDArray[np.float64]
) -> Audit:
    both = [place for place, number in enumerate(first) if number in second]
    numbers = list(first)
    k = len(LABELS)
    return Audit(
        rows=np.array([index[number] for number in numbers], dtype=np.int64),
        labels=np.array(list(first.values()), dtype=np.bool_),
        stratum=design.stratum(scores),
        n_strata=len(design.n_rows),
        second=np.array([second[numbers[place]] for place in both], dtype=np.bool_).reshape(-1, k),
        second_rows=np.array(both, dtype=np.int64),
        n_drawn=len(index),
        drawn_for=design.gap,
    )


def _read_plan(files: AuditFiles) -> dict[str, Any]:
    if not files.rows.exists():
        raise InputError(f"{files.rows}: no such file; expected what  gapnlp audit draw  wrote")
    try:
        plan = json.loads(files.plan.read_text(encoding="utf-8"))
        if not isinstance(plan, dict) or plan.get("version") != _VERSION or any(key not in plan for key in _KEYS):
            raise InputError(f"{files.plan}: not the plan of an audit, or of another version of gapnlp; draw anew")
        return plan | {"rows": {int(number): int(place) for number, place in plan["rows"]}}
    except FileNotFoundError as exc:
        raise InputError(
            f"{files.plan}: no such file; it says how the rows of {files.rows.name} were drawn, and was written "
            "beside them: put it back, or give both the same name again"
        ) from exc
    except (OSError, ValueError, TypeError) as exc:
        raise InputError(f"{files.plan}: cannot be read as the plan of an audit ({exc})") from exc


def _check_archive(plan: Mapping[str, Any], scores: npt.NDArray[np.float64], *, files: AuditFiles) -> None:
    named = ", ".join(plan["archive"])
    if len(scores) != plan["n_texts"]:
        raise InputError(
            f"{files.rows}: was drawn from {plan['n_texts']:,} texts ({named}), but got {len(scores):,}; "
            "give the file it was drawn from, alone and whole"
        )
    if fingerprint(scores) != plan["fingerprint"]:
        raise InputError(
            f"{files.rows}: was drawn from another archive ({named}), or that one has since been sorted, edited or "
            "classified by another model; give the very file it was drawn from, or draw anew"
        )
