"""The report's appendix: how its figures were made, for a reader who is no statistician."""

from __future__ import annotations

from gapnlp.report.content import Method, Split, Timeline
from gapnlp.taxonomy import load_taxonomy


def describe_method(
    model: str, *, n_checked: int, n_read: int | None, splits: tuple[Split, ...], timeline: Timeline | None
) -> Method:
    """Describe the method and name its sources.

    Args:
        model: `name@version`.
        n_checked: Texts that the classifier was checked on.
        n_read: Texts that were read for an audit; None without one.
        splits: The report's splits.
        timeline: The report's timeline.
    """
    chapters = [_READING.format(model=model), _COUNTED.format(n=n_checked)]
    titles = ["What the model did", "Why not simply count"]
    references = [load_taxonomy().source, *_SHARES]
    if n_read is None or splits or timeline:
        titles.append("The condition")
        chapters.append(_CONDITION)
    if n_read is not None:
        titles.append("The audit")
        chapters.append(_AUDIT.format(n=n_read) + (_AUDIT_PARTS if splits or timeline else ""))
        references += _AUDITED
    if splits:
        titles.append("By group")
        chapters.append(_GROUPS)
        references += _GROUPED
    if timeline:
        titles.append("Over time")
        chapters.append(_TIME)
        references += _TIMED
    titles.append("Quotations")
    chapters.append(_QUOTATIONS)
    return Method(model, tuple(zip(titles, chapters, strict=True)), tuple(references))


def _lines(text: str) -> tuple[str, ...]:
    """Split a list of publications, whose long lines go on indented."""
    return tuple(text.strip().replace("\n    ", " ").splitlines())


_READING = (
    "The model {model} read every text and gave, for each of five service gaps, the probability that the text points "
    "to it. A text may point to several gaps or to none. The model reads what customers wrote; what they did not "
    "write, and customers who did not write, are not in these figures."
)
_COUNTED = (
    "Every classifier errs, and counting its labels adds its errors up: a rare gap comes out too frequent, a frequent "
    "one too rare. Such a count is shown as 'counted', for comparison alone. The estimate corrects it. For {n:,} texts "
    "that the model had not learnt from, readers have told the gaps; so it is known how the model scores texts with a "
    "gap, and texts without it. The share that makes the mean score of your texts come out between the two is the "
    "estimate, and its range carries both the chance in your texts and the chance in those {n:,}."
)
_CONDITION = (
    "These ranges hold if your texts differ from the texts that the model was checked on in how many of them point to "
    "a gap, not in how such texts read to the model. That is tested: where the scores of your texts cannot be any "
    "mixture of the two kinds, a note says so. The test does not see everything. An audit needs no such condition: "
    "people read a few hundred texts drawn by chance (gapnlp audit plan, gapnlp audit draw), and the report uses what "
    "they found (gapnlp report --audit)."
)
_AUDIT = (
    "{n:,} texts were drawn by chance and read. What the readers found is the truth here; the model's scores of the "
    "texts that were not read make the ranges narrower, and cannot make them wrong."
)
_AUDIT_PARTS = (
    " The figures by group and over time rest on the condition above. Where a simple random draw found at least ten "
    "texts with a gap and ten without, these take the place of the texts that the model was checked on: they are of "
    "your own kind, so that only groups and times that differ among themselves can break the condition."
)
_GROUPS = (
    "A group with enough texts answers for itself. One with fewer leans on the mean of all groups and is marked "
    "model-based; groups below the smallest number of texts are put together or left out. Each group is held against "
    "all others together. Since many differences are tried, some would look large by chance alone; a difference is "
    "called one only where it passes a test that allows for all of them. The condition is tested for each group too: "
    "one whose scores are no mixture of the two kinds is marked with a question mark and left out of the comparison, "
    "of that gap. The groups' shares are those of the stream "
    "their texts came from, so that their mean may differ a little from the share of the whole."
)
_TIME = (
    "The model's errors move the whole line up or down and hardly touch its shape, so a change is known better than a "
    "level. The bands of one gap hold all together. An alert is a change that is larger than chance in drawing the "
    "texts explains, and larger than the usual ups and downs of the line; the limits come from simulated lines in "
    "which nothing changes."
)
_QUOTATIONS = (
    "Quotations were chosen by the model's probability, their length and their variety. They show what a gap sounds "
    "like; how frequent it is, the figures say. The marked words are those that spoke most for the gap."
)
_SHARES = _lines("""
Saerens, M., Latinne, P. and Decaestecker, C. (2002). Adjusting the outputs of a classifier to new a priori
    probabilities. Neural Computation 14(1).
Fieller, E. C. (1954). Some problems in interval estimation. Journal of the Royal Statistical Society B 16(2).
Hansen, L. P. (1982). Large sample properties of generalized method of moments estimators. Econometrica 50(4).
""")
_AUDITED = _lines("""
Angelopoulos, A. N., Duchi, J. C. and Zrnic, T. (2023). PPI++: Efficient prediction-powered inference. arXiv:2311.01453.
Wilson, E. B. (1927). Probable inference, the law of succession, and statistical inference. Journal of the American
    Statistical Association 22(158).
""")
_GROUPED = _lines("""
Fay, R. E. and Herriot, R. A. (1979). Estimates of income for small places. Journal of the American Statistical
    Association 74(366).
Morris, C. N. (1983). Parametric empirical Bayes inference. Journal of the American Statistical Association 78(381).
Parker, J. D. et al. (2017). National Center for Health Statistics data presentation standards for proportions. Vital
    and Health Statistics 2(175).
Benjamini, Y. and Hochberg, Y. (1995). Controlling the false discovery rate. Journal of the Royal Statistical Society B
    57(1).
""")
_TIMED = _lines("""
Šidák, Z. (1967). Rectangular confidence regions for the means of multivariate normal distributions. Journal of the
    American Statistical Association 62(318).
Worsley, K. J. (1986). Confidence regions and tests for a change-point in a sequence of exponential family random
    variables. Biometrika 73(1).
""")
