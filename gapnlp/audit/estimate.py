"""Estimates from an audit: the classifier's scores of all texts, corrected by the texts that people read.

They hold whatever the classifier does. A good classifier makes the intervals narrower; a bad one cannot make
them wrong.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gapnlp.audit.agreement import agreement_notes, reader_agreement
from gapnlp.audit.difference import difference_estimate, effective_rows
from gapnlp.audit.interval import stratified_interval, widen_for_few
from gapnlp.audit.sample import Audit
from gapnlp.errors import CorpusError
from gapnlp.intervals import Interval
from gapnlp.records import PrevalenceEstimate
from gapnlp.taxonomy import LABELS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FEW_ROWS = 30  # fewer rows read than this are said to be few


def audited_estimates(
    proba: npt.ArrayLike, decided: npt.ArrayLike, audit: Audit, *, confidence: float = 0.95
) -> list[PrevalenceEstimate]:
    """Estimate every gap's share of an archive of which some rows were read.

    Per stratum a difference estimate (see `difference_estimate`), together the interval of
    `stratified_interval` at the strata's effective sample sizes. Nothing is assumed of the classifier. For a part of
    the archive give the part's rows and `audit.take(part)`.

    Args:
        proba: The model's calibrated probabilities of all texts, 0-1. *Shape:* (n_texts, 5).
        decided: True where the model gives the gap. *Shape:* (n_texts, 5).
        audit: The rows that were read.
        confidence: Between 0 and 1, both excluded.

    Returns:
        One per gap in the order of `LABELS`, with the method `audited`.

    Raises:
        CorpusError: The arrays do not fit together, or there is no text.
        ConfigError: `confidence` is out of its range.
    """
    f, given = np.asarray(proba, dtype=np.float64), np.asarray(decided, dtype=np.bool_)
    wanted = (audit.n_texts, len(LABELS))
    if f.shape != wanted or given.shape != wanted or not audit.n_texts:
        raise CorpusError(
            f"audit: got proba {f.shape} and decisions {given.shape}, expected {wanted} as in the audit, "
            "with at least one text: take the same texts from all three"
        )
    if not (f.min() >= 0 and f.max() <= 1):
        raise CorpusError("audit: expected every probability in 0-1, got others: leave out the rows with a gap_error")
    share, interval = _estimate(f, audit, confidence=confidence)
    notes, by_gap = _notes(audit), agreement_notes(reader_agreement(audit), share)
    return [
        PrevalenceEstimate(
            label=label,
            n_texts=audit.n_texts,
            counted=np.count_nonzero(given[:, j]) / audit.n_texts,
            prevalence=float(share[j]),
            low=float(interval.low[j]),
            high=float(interval.high[j]),
            confidence=confidence,
            method="audited",
            notes=(*notes, *by_gap[j]),
        )
        for j, label in enumerate(LABELS)
    ]


def _estimate(f: FloatArray, audit: Audit, *, confidence: float) -> tuple[FloatArray, Interval]:
    """Return all gaps' estimates and intervals. *Shapes:* (5,)."""
    of_row = audit.stratum[audit.rows]
    n_texts = np.bincount(audit.stratum, minlength=audit.n_strata)
    columns = np.ascontiguousarray(f.T)
    sums = np.array([np.bincount(audit.stratum, weights=column, minlength=audit.n_strata) for column in columns])
    present = np.flatnonzero(n_texts)
    share, n_effective = np.empty((len(LABELS), len(present))), np.empty((len(LABELS), len(present)))
    for column, stratum in enumerate(present):
        rows = audit.rows[of_row == stratum]
        mean = sums[:, stratum] / n_texts[stratum]
        if not len(rows):  # nothing is known here but what the model says; the interval takes no word of it
            share[:, column], n_effective[:, column] = mean, 0.0
            continue
        found = difference_estimate(
            audit.labels[of_row == stratum], f[rows], archive_mean=mean, n_texts=n_texts[stratum]
        )
        share[:, column] = np.clip(found.share, 0.0, 1.0)
        n_effective[:, column] = effective_rows(len(rows), n_texts[stratum]) / found.design_effect
    weight = n_texts[present] / audit.n_texts
    interval = stratified_interval(share, n_effective, weight=weight, confidence=confidence)
    seen = audit.labels.sum(axis=0)
    if len(present) == 1 and len(audit.rows):
        interval = _widen_both_ends(interval, seen, audit=audit, n_effective=n_effective[:, 0], confidence=confidence)
    # What was read is certain: as many texts have the gap, and as many have not.
    least, most = seen / audit.n_texts, 1 - (len(audit.rows) - seen) / audit.n_texts
    estimate = np.clip((weight * share).sum(axis=1), least, most)
    return estimate, Interval(np.clip(interval.low, least, estimate), np.clip(interval.high, estimate, most))


def _widen_both_ends(
    interval: Interval, seen: IntArray, *, audit: Audit, n_effective: FloatArray, confidence: float
) -> Interval:
    """Apply `widen_for_few` to the rows with the gap, and to those without it."""
    low = widen_for_few(interval, seen, n_effective=n_effective, confidence=confidence).low
    mirrored = Interval(1 - interval.high, 1 - interval.low)
    unseen = len(audit.rows) - seen
    return Interval(low, 1 - widen_for_few(mirrored, unseen, n_effective=n_effective, confidence=confidence).low)


def _notes(audit: Audit) -> tuple[str, ...]:
    """Say what the interval rests on."""
    n_read = len(audit.rows)
    if n_read == audit.n_texts:
        return ("Every text was read: this is a count.",)
    how = f"drawn by the score of {audit.drawn_for}" if audit.drawn_for else "drawn at random"
    rests = f"Rests on {n_read:,} of {audit.n_texts:,} texts, {how} and read"
    notes = [f"{rests}; it holds however the classifier errs."]
    if n_read < FEW_ROWS:
        notes.append(f"Only {n_read} texts were read: read at least {FEW_ROWS} before you rely on it.")
    if n_read < audit.n_drawn:
        left = audit.n_drawn - n_read
        notes.append(f"{left:,} of the {audit.n_drawn:,} texts drawn were left unread: it holds if chance chose which.")
    in_read = np.isin(np.arange(audit.n_strata), audit.stratum[audit.rows])
    n_dark = int((~in_read[audit.stratum]).sum())
    if n_dark:
        notes.append(
            f"No text was read of a group of {n_dark:,} texts with similar scores: "
            "the estimate takes the model's word there, the interval does not."
        )
    return tuple(notes)
