"""Each baseline learns, repeats with its seed, and refuses what it cannot use."""

from pathlib import Path

import numpy as np
import pytest

from gapnlp.calibration import cross_fit, logit
from gapnlp.errors import ConfigError, CorpusError
from gapnlp.metrics import with_none
from training.baselines import (
    BASELINES,
    MAX_TOKENS,
    ContrastiveSettings,
    _batches,
    _Embedder,
    _rate,
    fit_baseline,
    sample_pairs,
)

CUES = ("nobody asked", "fee rule", "late broken", "advert promised", "not my taste")
FILLERS = ("the hotel", "my order", "our flight", "this shop", "the bank")
QUICK = ContrastiveSettings(n_steps=4, n_pairs=4, learning_rate=1e-3)


def corpus(n: int, *, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Texts whose words give their labels away; about a sixth of them has none."""
    rng = np.random.default_rng(seed)
    texts, targets = [], np.zeros((n, 5), dtype=bool)
    for i in range(n):
        label = rng.integers(6)
        words = [str(rng.choice(FILLERS))]
        if label < 5:
            targets[i, label] = True
            words.append(CUES[label])
        texts.append(" ".join(words))
    return texts, targets


@pytest.fixture(scope="module")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers that knows the words above."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for phrase in CUES + FILLERS for word in phrase.split()})
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    BertTokenizerFast(vocab=vocabulary, model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_learns_and_its_probabilities_feed_the_same_calibration(name, tiny_encoder):
    proba_of = fit_baseline(name, *corpus(240), encoder=tiny_encoder, seed=0, contrastive=QUICK)
    texts, targets = corpus(120, seed=1)
    proba = proba_of(texts)
    assert proba.shape == (120, 5)
    assert proba.dtype == np.float64
    assert ((proba >= 0) & (proba <= 1)).all()
    assert (cross_fit(logit(proba), targets, seed=0).decisions == targets).mean() > 0.95


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_repeats_with_its_seed(name, tiny_encoder):
    texts, targets = corpus(60)
    first, again = (
        fit_baseline(name, texts, targets, encoder=tiny_encoder, seed=4, contrastive=QUICK)(texts) for _ in range(2)
    )
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_reads_no_texts_and_empty_texts(name, tiny_encoder):
    proba_of = fit_baseline(name, *corpus(60), encoder=tiny_encoder, seed=0, contrastive=QUICK)
    assert proba_of([]).shape == (0, 5)
    assert np.isfinite(proba_of(["", "???"])).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_gap_without_both_outcomes_gets_the_one_it_had(name, tiny_encoder):
    texts, targets = corpus(60)
    targets[:, 0], targets[:, 4] = False, True
    proba = fit_baseline(name, texts, targets, encoder=tiny_encoder, seed=0, contrastive=QUICK)(texts[:7])
    assert proba[:, 0].tolist() == [0.0] * 7
    assert proba[:, 4].tolist() == [1.0] * 7


def test_embeddings_do_not_depend_on_the_batch_and_are_unit_means(tiny_encoder):
    import torch
    from transformers import AutoModel, AutoTokenizer

    embedder = _Embedder(tiny_encoder)
    texts = ["the hotel", "nobody asked our flight late broken", "fee"]
    together = embedder.embed(texts)
    assert together == pytest.approx(np.vstack([embedder.embed([text]) for text in texts]), abs=1e-5)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1.0, abs=1e-5)
    ids = AutoTokenizer.from_pretrained(tiny_encoder)(texts[1], return_tensors="pt")
    with torch.no_grad():
        mean = AutoModel.from_pretrained(tiny_encoder).eval()(**ids).last_hidden_state[0].mean(dim=0).numpy()
    assert together[1] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_groups_of_like_length_give_each_row_its_own_vector(tiny_encoder):
    import torch

    embedder = _Embedder(tiny_encoder)
    lengths = np.random.default_rng(0).integers(1, 30, size=60)
    ids = embedder._tokenize(["fee late " * int(n) for n in lengths])
    with torch.no_grad():
        grouped = embedder._forward_grouped(ids).numpy()
        one_by_one = np.vstack([embedder._forward([row]).numpy() for row in ids])
    assert grouped == pytest.approx(one_by_one, abs=1e-5)


def test_a_text_longer_than_the_encoder_reads_is_cut(tiny_encoder):
    embedder = _Embedder(tiny_encoder)
    assert np.array_equal(embedder.embed(["fee " * 30]), embedder.embed(["fee " * 500]))
    assert MAX_TOKENS == 256


def test_tuning_moves_texts_with_the_same_gaps_together(tiny_encoder):
    texts, targets = corpus(120)
    embedder = _Embedder(tiny_encoder)

    def margin() -> float:
        vectors = embedder.embed(texts)
        cosine, classes = vectors @ vectors.T, with_none(targets).argmax(axis=1)
        same = classes[:, None] == classes[None, :]
        return float(cosine[same].mean() - cosine[~same].mean())

    before = margin()
    embedder.tune(texts, targets, settings=ContrastiveSettings(n_steps=25, n_pairs=8, learning_rate=5e-3), seed=0)
    assert margin() > before + 0.3


def test_tuning_under_bf16(tiny_encoder):
    texts, targets = corpus(30)
    settings = ContrastiveSettings(n_steps=3, n_pairs=4, learning_rate=1e-3)
    vectors = []
    for precision in ("bf16", "fp32"):
        embedder = _Embedder(tiny_encoder, precision=precision)
        embedder.tune(texts, targets, settings=settings, seed=0)
        vectors.append(embedder.embed(texts))
    assert not np.array_equal(*vectors)
    assert vectors[0] == pytest.approx(vectors[1], abs=0.1)


def test_pairs_are_half_alike_and_rare_labels_get_their_share():
    targets = np.zeros((200, 5), dtype=bool)
    targets[:190, 2] = True
    targets[:10, 3] = True
    targets[190:195, 0] = True
    pairs, likeness = sample_pairs(targets, 3000, rng=np.random.default_rng(0))
    sets = with_none(targets)
    left, right = sets[pairs[:, 0]], sets[pairs[:, 1]]
    assert likeness == pytest.approx((left & right).sum(axis=1) / (left | right).sum(axis=1))
    assert (likeness > 0).mean() == pytest.approx(0.5)
    assert set(np.unique(likeness)) == {0.0, 0.5, 1.0}
    assert sets[pairs[:, 0], 0].mean() == pytest.approx(0.25, abs=0.03)  # one of four labels present, 2.5 % of rows
    assert sets[pairs[:, 0], 5].mean() == pytest.approx(0.25, abs=0.03)


def test_pairs_of_rows_that_are_all_alike():
    _, likeness = sample_pairs(np.zeros((3, 5), dtype=bool), 6, rng=np.random.default_rng(0))
    assert likeness.tolist() == [1.0] * 6


def test_batches_hold_every_row_once_and_stay_within_their_tokens():
    lengths = np.random.default_rng(0).integers(1, 257, size=500).tolist()
    batches = _batches(lengths, max_tokens=4096)
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    assert all(len(rows) * max(lengths[i] for i in rows) <= 4096 for rows in batches)
    assert len(batches) < 60


def test_learning_rate_rises_then_falls_to_nearly_zero():
    rates = [_rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[99] == pytest.approx(1 / 90)
    assert _rate(0, 1) == 1.0


def test_unknown_name_lists_the_known_ones(tiny_encoder):
    with pytest.raises(ConfigError, match="tfidf, frozen-embedding, setfit-style"):
        fit_baseline("bayes", *corpus(5), encoder=tiny_encoder, seed=0)


@pytest.mark.parametrize("name", ["frozen-embedding", "setfit-style"])
def test_an_encoder_is_needed(name):
    with pytest.raises(ConfigError, match="encoder"):
        fit_baseline(name, *corpus(5), seed=0)


@pytest.mark.parametrize(("texts", "shape"), [([], (0, 5)), (["a"], (2, 5)), (["a"], (1, 4))])
def test_texts_and_targets_that_do_not_fit(texts, shape):
    with pytest.raises(CorpusError, match="baseline"):
        fit_baseline("tfidf", texts, np.zeros(shape), seed=0)


@pytest.mark.parametrize("wrong", [{"n_steps": 0}, {"n_pairs": 0}, {"learning_rate": 0.0}])
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="at least 1"):
        ContrastiveSettings(**wrong)
