"""Excerpts: whole sentences next to each other, never the whole text, the same ones for the same seed."""

from training.excerpt import FEWEST_WORDS, LONGEST, draw_excerpts

SENTENCES = [f"This is the sentence with number {n}{end}" for n, end in enumerate("..?!.!?..")]
TEXT = " ".join(SENTENCES)


def test_excerpts_are_sentences_next_to_each_other():
    runs = {
        " ".join(SENTENCES[first:last]): last - first
        for first in range(len(SENTENCES))
        for last in range(first + 1, len(SENTENCES) + 1)
    }
    drawn = draw_excerpts([TEXT], n=200, seed=3)
    assert {runs[excerpt] for excerpt in drawn} == set(range(1, LONGEST + 1))
    assert len(drawn) == len(set(drawn)) > 20


def test_no_excerpt_is_the_whole_text_or_too_short_to_say_anything():
    assert draw_excerpts(["One sentence alone is no text of several."], n=9, seed=0) == []
    pair = ["The first of two sentences.", "And here is the second."]
    assert set(draw_excerpts([" ".join(pair)], n=50, seed=0)) == set(pair)
    assert draw_excerpts(["Hi. Yes. No."], n=1, seed=0) == []
    assert all(len(e.split()) >= FEWEST_WORDS for e in draw_excerpts(["Hi. Yes. No. " + TEXT], n=99, seed=0))


def test_they_follow_the_seed():
    texts = [f"{TEXT} {n}" for n in range(5)]
    assert draw_excerpts(texts, n=1, seed=1) == draw_excerpts(texts, n=1, seed=1) != draw_excerpts(texts, n=1, seed=2)
    assert draw_excerpts(texts, n=0, seed=1) == []


def test_a_further_text_changes_no_other_excerpt():
    texts = [f"{TEXT} {n}" for n in range(5)]
    assert draw_excerpts(["Another one. It comes first."], n=1, seed=1) + draw_excerpts(
        texts, n=1, seed=1
    ) == draw_excerpts(["Another one. It comes first.", *texts], n=1, seed=1)
