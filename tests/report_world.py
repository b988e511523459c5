"""Labelled archives whose truth is known, written as `gapnlp classify` writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from gapnlp.archive.chunk import Chunk, Layout, Row
from gapnlp.archive.columns import gap_values
from gapnlp.archive.writer import Output, choose_target
from gapnlp.model_dir import load_model_dir
from gapnlp.records import Evidence, Prediction
from gapnlp.taxonomy import LABELS

MODEL = load_model_dir()
VALIDATION = MODEL.load_validation()
OPENINGS = ("Late again", "Nobody told me", "The rule is silly", "Not what I needed", "Too dear")
WORDS = re.findall(
    r"\w+",
    "window staff queue paper driver phone ticket table price light room garden bottle lesson engine island jacket "
    "ladder market needle orange pepper quarter river saddle timber uncle velvet winter yellow zebra bridge",
)


@dataclass
class LabelledRows:
    """Rows to be written, all columns side by side."""

    proba: np.ndarray
    truth: np.ndarray
    columns: dict[str, list[object]] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
    review: set[int] = field(default_factory=set)
    truncated: set[int] = field(default_factory=set)
    model: str = MODEL.name

    @property
    def decided(self) -> np.ndarray:
        return self.proba >= 0.5

    def predictions(self) -> list[Prediction]:
        return [self._prediction(i) for i in range(len(self.proba))]

    def _prediction(self, i: int) -> Prediction:
        if i in self.errors:
            return Prediction((), (0.0,) * 5, (), False, False, self.model, self.errors[i])
        order = np.argsort(-self.proba[i])
        labels = tuple(LABELS[j] for j in order if self.decided[i, j])
        end = min(12, len(str(self.columns["comment"][i])))
        evidence = tuple(Evidence(label, 0, end) for label in labels) if end else ()
        return Prediction(
            labels, tuple(self.proba[i].tolist()), evidence, i in self.review, i in self.truncated, self.model
        )


def planted(shares: dict[str, float], *, n: int, seed: int = 0) -> LabelledRows:
    """Draw scores of rows that the shipped model was checked on, so that these shares carry the gaps; others 2 %.

    Gap by gap, from rows with it and from rows without: the archive differs from them in its mix alone.
    """
    rng = np.random.default_rng(seed)
    truth = rng.random((n, len(LABELS))) < [shares.get(label, 0.02) for label in LABELS]
    proba = np.empty((n, len(LABELS)))
    for j in range(len(LABELS)):
        for side in (False, True):
            rows = np.flatnonzero(truth[:, j] == side)
            proba[rows, j] = rng.choice(VALIDATION.proba[VALIDATION.labels[:, j] == side, j], len(rows))
    return _with_texts(proba, truth, rng=rng)


def natural(*, n: int, seed: int = 0) -> LabelledRows:
    """Draw whole rows: the archive is of the very kind that the model was checked on."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(VALIDATION.proba), n)
    return _with_texts(VALIDATION.proba[rows], VALIDATION.labels[rows], rng=rng)


def _with_texts(proba: np.ndarray, truth: np.ndarray, *, rng: np.random.Generator) -> LabelledRows:
    openings = [OPENINGS[j] for j in proba.argmax(axis=1)]
    texts = [f"{opening}, number {i}: {' '.join(rng.choice(WORDS, 12))}." for i, opening in enumerate(openings)]
    return LabelledRows(proba, truth, {"ref": [f"R{i}" for i in range(len(proba))], "comment": texts})


def joined(*parts: LabelledRows) -> LabelledRows:
    """Put rows one after the other; rows that failed or are flagged must be set afterwards."""
    whole = LabelledRows(np.vstack([part.proba for part in parts]), np.vstack([part.truth for part in parts]))
    whole.columns = {name: [cell for part in parts for cell in part.columns[name]] for name in parts[0].columns}
    return whole


def write_labelled(rows: LabelledRows, path: Path) -> str:
    """Write rows with the writers of `gapnlp classify`; return the path."""
    names = tuple(rows.columns)
    schema = pa.schema([(name, pa.string()) for name in names])
    cells = zip(*rows.columns.values(), strict=True)
    chunk = Chunk([Row(f"row {i}", dict(zip(names, row, strict=True))) for i, row in enumerate(cells, start=1)])
    gaps = [gap_values(prediction) for prediction in rows.predictions()]
    with Output(choose_target(str(path), []), Layout(names, lambda: schema), part=path.with_name("part")) as output:
        output.write(chunk, gaps)
        output.finish()
        output.place()
    return str(path)
