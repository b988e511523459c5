"""Rows as the network takes them: which tokens carry evidence, and batches that hold every row once."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from gapnlp.taxonomy import LABELS
from training.corpus import Example
from training.encode import Encoded, collate, encode_examples, shuffled_batches, to_targets

TEXT = "The crew was kind, but the bag came four days late."


@pytest.fixture(scope="module")
def tokenizer(encoder_dir):
    return AutoTokenizer.from_pretrained(encoder_dir)


def example(text=TEXT, *labels, **evidence):
    return Example(id="a", text=text, labels=labels, evidence=evidence)


def encode_one(tokenizer, row, max_length=64):
    (encoded,) = encode_examples([row], tokenizer=tokenizer, max_length=max_length)
    return encoded


def test_targets_stand_in_the_order_of_the_labels():
    rows = [example(TEXT, "communication", "knowledge"), example(TEXT)]
    np.testing.assert_array_equal(to_targets(rows), [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
    assert to_targets([]).shape == (0, 5)


def test_the_tokens_of_the_evidence_are_marked_in_the_gaps_column(tokenizer):
    start = TEXT.index("the bag")
    encoded = encode_one(tokenizer, example(TEXT, "delivery", "policy", delivery=(start, len(TEXT)), policy=(4, 8)))
    column = {label: encoded.token_target[:, j] for j, label in enumerate(LABELS)}
    assert tokenizer.decode(np.array(encoded.ids)[column["delivery"] == 1]) == "the bag came four days late."
    assert tokenizer.decode(np.array(encoded.ids)[column["policy"] == 1]) == "crew"
    assert not column["knowledge"].any()
    assert encoded.token_target[[0, -1]].sum() == 0  # [CLS] and [SEP] are no evidence
    np.testing.assert_array_equal(encoded.target, [0, 1, 1, 0, 0])


def test_evidence_that_cuts_a_word_takes_each_piece_it_touches(tokenizer):
    start = TEXT.index("late")
    encoded = encode_one(tokenizer, example(TEXT, "delivery", delivery=(start + 1, start + 2)))
    marked = np.array(encoded.ids)[encoded.token_target[:, 2] == 1]
    assert 1 <= len(marked) <= 4
    assert tokenizer.decode(marked).replace("##", "") in "late"


def test_only_rows_where_evidence_was_looked_for_teach_it(tokenizer):
    with_it, without, none = example(TEXT, "delivery", delivery=(0, 3)), example(TEXT, "delivery"), example(TEXT)
    assert [encode_one(tokenizer, row).has_evidence for row in (with_it, without, none)] == [True, False, True]


def test_long_texts_are_cut_for_training(tokenizer):
    encoded = encode_one(tokenizer, example("late " * 100, "delivery", delivery=(400, 404)), max_length=16)
    assert len(encoded.ids) == len(encoded.token_target) == 16
    assert encoded.token_target.sum() == 0
    assert encoded.ids[-1] == tokenizer.sep_token_id


def test_no_rows_encode_to_none(tokenizer):
    assert encode_examples([], tokenizer=tokenizer, max_length=64) == []


def rows_of(lengths):
    blank = np.zeros(5, dtype=np.float32)
    return [
        Encoded([index + 1] * n, blank + index, np.ones((n, 5)), bool(index % 2)) for index, n in enumerate(lengths)
    ]


@pytest.mark.parametrize(("n_rows", "batch_size"), [(1, 4), (7, 4), (200, 4), (16, 16)])
def test_batches_hold_every_row_once(n_rows, batch_size):
    rows = rows_of(np.random.default_rng(0).integers(1, 30, n_rows))
    batches = list(shuffled_batches(rows, batch_size=batch_size, pad_id=0, rng=np.random.default_rng(1)))
    assert len(batches) == -(-n_rows // batch_size)
    assert sorted(int(target) for batch in batches for target in batch.targets[:, 0]) == list(range(n_rows))
    for batch in batches:
        lengths = batch.attention_mask.sum(1)
        assert batch.input_ids.shape == (len(lengths), lengths.max())
        expected = [len(rows[int(target)].ids) for target in batch.targets[:, 0]]
        assert lengths.tolist() == expected


def test_the_order_follows_the_seed():
    rows = rows_of([3] * 40)

    def order(seed):
        batches = shuffled_batches(rows, batch_size=4, pad_id=0, rng=np.random.default_rng(seed))
        return [int(target) for batch in batches for target in batch.targets[:, 0]]

    assert order(1) == order(1) != order(2)
    assert order(1) != sorted(order(1))


def test_batches_hold_rows_of_like_length():
    rows = rows_of(np.random.default_rng(0).integers(1, 200, 320))
    batches = list(shuffled_batches(rows, batch_size=10, pad_id=0, rng=np.random.default_rng(1)))
    n_padded = sum(batch.input_ids.numel() for batch in batches)
    assert n_padded < 1.15 * sum(len(row.ids) for row in rows)


def test_padding_is_on_the_right_and_teaches_nothing():
    batch = collate(rows_of([2, 3]), pad_id=9)
    assert batch.input_ids.tolist() == [[1, 1, 9], [2, 2, 2]]
    assert batch.attention_mask.tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch.token_weights.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert batch.token_targets[0, :, 0].tolist() == [1, 1, 0]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.long
    assert batch.to("meta").targets.device.type == "meta"
