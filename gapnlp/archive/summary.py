"""What became of the rows of a job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gapnlp.records import Prediction
from gapnlp.taxonomy import LABELS, NONE


@dataclass(slots=True)
class Summary:
    """What became of the rows.

    Attributes:
        output: Where they are.
        model: `name@version`.
        n_rows: Rows written.
        n_kept: Rows of these whose results an earlier run had left.
        n_failed: Rows without labels, `gap_error` says why.
        n_duplicates: Rows that took the result of an equal text before them.
        n_truncated: Rows whose text was longer than the model reads.
        n_review: Rows that a person should look at.
        counted: Rows per label (a row with several counts for each), and per `none`.
        seconds: Time of this run, from the first row to the finished output.
        failures: The first few failed rows, each with its place and reason.
        notes: What else there is to know.
    """

    output: str
    model: str
    n_rows: int = 0
    n_kept: int = 0
    n_failed: int = 0
    n_duplicates: int = 0
    n_truncated: int = 0
    n_review: int = 0
    counted: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*LABELS, NONE), 0))
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows a second in this run, 0 where there were none."""
        return (self.n_rows - self.n_kept) / self.seconds if self.seconds else 0.0

    def count(self, predictions: Sequence[Prediction]) -> None:
        """Add one chunk."""
        self.n_rows += len(predictions)
        self.n_failed += sum(bool(prediction.error) for prediction in predictions)
        self.n_truncated += sum(prediction.truncated for prediction in predictions)
        self.n_review += sum(prediction.review for prediction in predictions)
        read = [prediction for prediction in predictions if not prediction.error]
        for label, n_rows in Counter(label for prediction in read for label in prediction.labels or (NONE,)).items():
            self.counted[label] += n_rows

    def as_dict(self) -> dict[str, Any]:
        """Return the summary for programs to read."""
        return {
            "output": self.output,
            "model": self.model,
            "rows": self.n_rows,
            "kept": self.n_kept,
            "failed": self.n_failed,
            "duplicates": self.n_duplicates,
            "truncated": self.n_truncated,
            "review": self.n_review,
            "counted": dict(self.counted),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.rows_per_second, 1),
            "failures": list(self.failures),
            "notes": list(self.notes),
        }
