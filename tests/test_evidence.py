"""From scores per token to passages: the best run of tokens, whole words, and the loudest window."""

import itertools

import numpy as np
import pytest

from gapnlp.evidence import best_passage, passage_characters
from gapnlp.reading import Reading, WindowReading
from gapnlp.records import Evidence
from gapnlp.taxonomy import LABELS

HIGH, LOW = 6.0, -6.0


@pytest.mark.parametrize(
    ("scores", "passage"),
    [
        ([0.1, 0.9, 0.8, 0.1], (1, 3)),
        ([0.9, 0.4, 0.9], (0, 3)),  # a dip that two sure tokens carry
        ([0.9, 0.0, 0.0, 0.9, 0.9], (3, 5)),  # one that they do not
        ([0.01, 0.03, 0.02], (1, 3)),  # quiet throughout: what counts is the share of the highest
        ([0.1, 0.9, 0.2], (1, 2)),
        ([0.1], (0, 1)),
        ([1.0, 1.0], (0, 2)),
    ],
)
def test_the_passage_is_the_run_that_exceeds_the_threshold_most(scores, passage):
    assert best_passage(np.array(scores), threshold=0.5) == passage


def test_no_run_of_tokens_has_a_larger_sum():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.random(rng.integers(1, 12))
        start, end = best_passage(scores, threshold=0.4)
        runs = itertools.combinations(range(len(scores) + 1), 2)
        over = scores - 0.4 * scores.max()
        assert over[start:end].sum() == pytest.approx(max(over[a:b].sum() for a, b in runs))


@pytest.mark.parametrize(
    ("passage", "words"),
    [((0, 1), "unhelpful"), ((1, 2), "unhelpful"), ((2, 3), ","), ((1, 4), "unhelpful, café")],
)
def test_a_passage_is_widened_to_whole_words(passage, words):
    text = "unhelpful, café!"
    offsets = [(0, 2), (2, 9), (9, 10), (11, 13)]
    start, end = passage_characters(text, offsets, passage=passage)
    assert text[start:end] == words


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        (". They never rang back - ", "They never rang back"),
        ("“never again”,", "“never again”"),
        ("(never again)", "(never again)"),
        ("£40 for nothing!", "£40 for nothing!"),
        (" - ", " - "),  # nothing else: better than no evidence
    ],
)
def test_blanks_and_marks_around_a_passage_are_left_out(text, inner):
    start, end = passage_characters(text, [(0, len(text))], passage=(0, 1))
    assert text[start:end] == inner


def window(logits, token_scores, *, first):
    """A window of tokens of one character each; `token_scores` are for the gap at index 2."""
    token_logits = np.full((len(token_scores), 5), LOW, dtype=np.float32)
    token_logits[:, 2] = token_scores
    offsets = [(first + index, first + index + 1) for index in range(len(token_scores))]
    return WindowReading(np.array(logits, dtype=np.float32), token_logits, offsets)


def test_a_text_has_the_highest_logit_of_its_windows_per_gap():
    reading = Reading("abcd", [window([1, 5, 0, 0, -1], [LOW], first=0), window([3, -2, 0, 1, -9], [LOW], first=1)])
    np.testing.assert_array_equal(reading.logits, [3, 5, 0, 1, -1])


def test_evidence_comes_from_the_window_that_speaks_loudest():
    text = ". . . . . ."
    quiet, loud = window([0, 0, 1, 0, 0], [HIGH, HIGH], first=0), window([0, 0, 2, 0, 0], [LOW, HIGH, HIGH], first=6)
    for windows in ([quiet, loud], [loud, quiet]):
        assert Reading(text, windows).evidence(["delivery"], threshold=0.5) == (Evidence("delivery", 7, 9),)


def test_evidence_keeps_the_order_of_the_labels_and_a_text_without_tokens_has_none():
    one = window([0] * 5, [HIGH], first=0)
    found = Reading("x", [one]).evidence(["delivery", "knowledge"], threshold=0.5)
    assert [item.label for item in found] == ["delivery", "knowledge"]
    assert Reading("x", [one]).evidence([], threshold=0.5) == ()
    empty = WindowReading(np.zeros(5, dtype=np.float32), np.zeros((0, 5), dtype=np.float32), [])
    assert Reading("\ufffd", [empty]).evidence(LABELS, threshold=0.5) == ()
