"""The rows of an archive that were drawn by chance and read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gapnlp.errors import CorpusError
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Audit:
    """Rows of an archive that were drawn by chance and read.

    Attributes:
        rows: Index in the archive of each row that was read, no index twice. *Shape:* (n,).
        labels: True where the reader found the gap. *Shape:* (n, 5).
        stratum: Number from 0 of the stratum of every text of the archive; all 0 for a simple random draw.
            Within a stratum, every text was as likely to be read as any other. *Shape:* (n_texts,).
        n_strata: Number of strata.
        second: What a second reader found, on the rows of `second_rows`. *Shape:* (m, 5).
        second_rows: Positions in `rows` of those that two people read. *Shape:* (m,).
        n_drawn: Rows that were drawn, read or not.
        drawn_for: The gap whose score the strata follow; empty for a simple random draw.

    Raises:
        CorpusError: The arrays do not fit together, or a row is not of the archive.
    """

    rows: IntArray
    labels: BoolArray
    stratum: IntArray
    n_strata: int
    second: BoolArray
    second_rows: IntArray
    n_drawn: int
    drawn_for: str = ""

    def __post_init__(self) -> None:
        k = len(LABELS)
        shapes = (self.labels.shape, self.second.shape)
        wanted = ((len(self.rows), k), (len(self.second_rows), k))
        if shapes != wanted:
            raise CorpusError(
                f"audit: got labels of shapes {shapes[0]} and {shapes[1]}, expected {wanted[0]}, {wanted[1]}"
            )
        if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < self.n_texts:
            raise CorpusError(
                f"audit: got rows {self.rows.min()} to {self.rows.max()}, expected 0 to {self.n_texts - 1}: "
                "the audit is of another archive"
            )
        if len(np.unique(self.rows)) < len(self.rows):
            raise CorpusError("audit: a row is there twice; keep one of them")

    @classmethod
    def simple(cls, rows: npt.ArrayLike, labels: npt.ArrayLike, *, n_texts: int) -> Audit:
        """Build the audit of a simple random draw. *Shapes:* (n,), (n, 5)."""
        index = np.asarray(rows, dtype=np.int64)
        k = len(LABELS)
        return cls(
            rows=index,
            labels=np.asarray(labels, dtype=np.bool_),
            stratum=np.zeros(n_texts, dtype=np.int64),
            n_strata=1,
            second=np.zeros((0, k), dtype=np.bool_),
            second_rows=np.zeros(0, dtype=np.int64),
            n_drawn=len(index),
        )

    @property
    def n_texts(self) -> int:
        """Texts in the archive."""
        return len(self.stratum)

    @property
    def inclusion(self) -> FloatArray:
        """Probability with which each row that was read came to be read, 0-1. *Shape:* (n,)."""
        of_row = self.stratum[self.rows]
        n_read = np.bincount(of_row, minlength=self.n_strata)
        n_texts = np.bincount(self.stratum, minlength=self.n_strata)
        return np.asarray(n_read[of_row] / n_texts[of_row], dtype=np.float64)

    def take(self, texts: npt.ArrayLike) -> Audit:
        """Return the audit of a part of the archive, such as one branch.

        A random draw from the whole is a random draw from each part; only its size is left to chance.

        Args:
            texts: Index of each text of the part, none twice, or one truth value per text of the archive.
        """
        index = np.asarray(texts)
        index = np.flatnonzero(index) if index.dtype == np.bool_ else index.astype(np.int64)
        order = np.argsort(index, kind="stable")
        at = np.searchsorted(index, self.rows, sorter=order)
        kept = at < np.searchsorted(index, self.rows, sorter=order, side="right")
        twice = kept[self.second_rows]
        new_position = np.cumsum(kept) - 1
        return Audit(
            rows=order[at[kept]],
            labels=self.labels[kept],
            stratum=self.stratum[index],
            n_strata=self.n_strata,
            second=self.second[twice],
            second_rows=new_position[self.second_rows[twice]],
            n_drawn=int(kept.sum()),
            drawn_for=self.drawn_for,
        )
