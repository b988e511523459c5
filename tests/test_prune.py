"""A smaller vocabulary and narrower layers: what stays of what the network says, and what a pruned model is."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, processors
from transformers import (
    AutoTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
)

from gapnlp.classifier import GapClassifier
from gapnlp.errors import ConfigError
from gapnlp.model_dir import load_model_dir
from training.config import load_config
from training.encode import encode_examples
from training.finetune import predict_logits
from training.network import GapNetwork
from training.pipeline import TrainingRows, train_model
from training.prune import (
    _feed_forward,
    _renumber,
    _second_moment,
    prune_embeddings,
    prune_feed_forward,
    prune_vocabulary,
)

WIDE = 128  # neurons of the tiny encoder


@pytest.fixture(scope="module")
def tokenizer(encoder_dir):
    return AutoTokenizer.from_pretrained(encoder_dir)


@pytest.fixture(scope="module")
def encoded(read_corpus, tokenizer):
    return encode_examples(read_corpus("train", 100), tokenizer=tokenizer, max_length=64)


@pytest.fixture
def network(model_dir):
    return GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=0)


def prune(network, encoded, width):
    told = []
    prune_feed_forward(network, encoded, width=width, pad_id=0, tell=lambda *progress: told.append(progress))
    return told


def say(network, encoded):
    return predict_logits(network, encoded, pad_id=0, device="cpu")


# The vocabulary


@pytest.fixture(scope="module")
def texts(read_corpus):
    return [example.text for example in read_corpus("train", 100)]


def spelt(tokenizer, texts):
    return [tokenizer.convert_ids_to_tokens(ids) for ids in tokenizer(list(texts))["input_ids"]]


def test_the_most_frequent_tokens_stay_under_new_ids(tokenizer, texts):
    size = len(tokenizer) - 150
    smaller, kept = prune_vocabulary(tokenizer, texts, size=size)
    assert len(smaller) == len(kept) == size
    assert kept == sorted(kept)
    assert tokenizer.convert_ids_to_tokens(kept) == smaller.convert_ids_to_tokens(list(range(size)))
    assert set(tokenizer.all_special_tokens) <= set(smaller.get_vocab())
    gone = set(tokenizer.get_vocab()) - set(smaller.get_vocab())
    for old, new in zip(spelt(tokenizer, texts), spelt(smaller, texts), strict=True):
        assert old == new or gone & set(old)
        assert (old[0], old[-1]) == (new[0], new[-1]) == ("[CLS]", "[SEP]")
    counts = {token: sum(row.count(token) for row in spelt(tokenizer, texts)) for token in tokenizer.get_vocab()}
    words = [token for token in smaller.get_vocab() if len(token.removeprefix("##")) > 1 and token[0] != "["]
    assert max(counts[token] for token in gone) <= min(counts[token] for token in words)


def test_a_word_whose_token_went_can_still_be_spelt(tokenizer):
    smaller, _ = prune_vocabulary(tokenizer, ["nothing but this"], size=len(tokenizer) - 200)
    word = max((token for token in set(tokenizer.get_vocab()) - set(smaller.get_vocab())), key=len)
    (row,) = spelt(smaller, [word])
    assert len(row) > 3
    assert "".join(piece.removeprefix("##") for piece in row[1:-1]) == word


def test_a_text_of_tokens_that_stayed_is_read_as_before(network, tokenizer, texts):
    seen = [text[:80] for text in texts[:5]]
    size = len({token for row in spelt(tokenizer, seen) for token in row}) + 120
    smaller, kept = prune_vocabulary(tokenizer, seen, size=size)
    assert size < len(tokenizer)
    inputs = tokenizer(seen, padding=True, return_tensors="pt")
    with torch.inference_mode():
        before = network.eval()(inputs["input_ids"], inputs["attention_mask"])[0]
    prune_embeddings(network, kept)
    inputs = smaller(seen, padding=True, return_tensors="pt")
    with torch.inference_mode():
        after = network(inputs["input_ids"], inputs["attention_mask"])[0]
    torch.testing.assert_close(after, before, atol=0, rtol=0)
    assert network.text.config.vocab_size == size
    assert network.text.config.pad_token_id == smaller.pad_token_id


@pytest.mark.parametrize(
    "processor",
    [
        processors.RobertaProcessing(("</s>", 4), ("<s>", 2)),
        processors.BertProcessing(("</s>", 4), ("<s>", 2)),
        processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 4)]),
    ],
)
def test_what_stands_around_a_text_gets_its_new_ids(processor):
    vocabulary = {"[UNK]": 0, "a": 1, "<s>": 2, "gone": 3, "</s>": 4}
    whole = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    whole.post_processor = processor
    state = json.loads(whole.to_str())
    _renumber(state["post_processor"], {0: 0, 1: 1, 2: 2, 4: 3})
    state["model"]["vocab"] = {"[UNK]": 0, "a": 1, "<s>": 2, "</s>": 3}
    assert Tokenizer.from_str(json.dumps(state)).encode("a").ids == [2, 1, 3]


@pytest.mark.parametrize("size", [9999, 10])
def test_a_vocabulary_of_a_size_that_cannot_be_is_refused(tokenizer, texts, size):
    with pytest.raises(ConfigError, match=rf"is {size}, but this encoder can have \d+ to {len(tokenizer)}: "):
        prune_vocabulary(tokenizer, texts, size=size)


def test_a_tokenizer_of_another_kind_is_refused(texts):
    other = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0, "b": 1}, [])))
    with pytest.raises(ConfigError, match="needs a tokenizer of word pieces, like BERT's: set it to 0"):
        prune_vocabulary(other, texts, size=1)


# The layers


def test_neurons_that_say_what_others_say_go_without_a_trace(network, encoded):
    with torch.no_grad():
        for inner, outer in _feed_forward(network):
            inner.weight[WIDE // 2 :] = inner.weight[: WIDE // 2]  # every neuron has a twin, which speaks for itself
            inner.bias[WIDE // 2 :] = inner.bias[: WIDE // 2]
            assert not torch.equal(outer.weight[:, WIDE // 2 :], outer.weight[:, : WIDE // 2])
    before = say(network, encoded)
    assert prune(network, encoded, WIDE // 2) == [(1, 2), (2, 2)]
    assert np.abs(say(network, encoded) - before).mean() < 0.02 * np.ptp(before)
    assert network.text.config.intermediate_size == WIDE // 2
    assert {(i.out_features, o.in_features) for i, o in _feed_forward(network)} == {(WIDE // 2, WIDE // 2)}


def test_what_stays_stands_in_for_what_goes(network, encoded, model_dir):
    whole = say(network, encoded)
    cut = GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=0)
    with torch.no_grad():
        for _, outer in _feed_forward(cut):
            outer.weight[:, outer.weight.norm(dim=0).argsort()[: WIDE // 2]] = 0.0
    prune(network, encoded[:60], WIDE // 2)
    unseen = slice(60, None)
    off = np.abs(say(network, encoded) - whole)[unseen].mean()
    assert off < 0.5 * np.abs(say(cut, encoded) - whole)[unseen].mean()


def test_padding_is_not_looked_at(model_dir, encoded):
    alone, beside_a_long_one = (
        GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=0) for _ in range(2)
    )
    short, long = min(encoded, key=lambda row: len(row.ids)), max(encoded, key=lambda row: len(row.ids))
    outer = _feed_forward(alone)[0][1]
    apart = sum(_second_moment(alone, outer, [row], pad_id=0) for row in (short, long))
    outer = _feed_forward(beside_a_long_one)[0][1]
    together = _second_moment(beside_a_long_one, outer, [short, long], pad_id=0)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_what_was_frozen_stays_frozen(model_dir, encoded):
    network = GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=1)
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    prune(network, encoded, 32)
    assert {name for name, weight in network.named_parameters() if weight.requires_grad} == learning


def test_more_neurons_than_there_are_is_refused(network, encoded):
    with pytest.raises(ConfigError, match="intermediate_size is 129, but the encoder has 128: lower it"):
        prune(network, encoded, 129)


def test_an_encoder_of_another_build_is_refused(encoded):
    torch.manual_seed(0)
    shape = {"dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2, "vocab_size": 50, "max_position_embeddings": 64}
    other = GapNetwork(DistilBertForSequenceClassification(DistilBertConfig(**shape, num_labels=5)))
    with pytest.raises(ConfigError, match="needs an encoder with layers like BERT's: set it to 0"):
        prune(other, encoded, 16)


@pytest.mark.slow
def test_a_pruned_model_is_a_model_like_any_other(model_dir, read_corpus, settings, tmp_path):
    rows = TrainingRows(train=read_corpus("train", 100), validation=read_corpus("validation", 60))
    size = [
        f'model.base="{model_dir.as_posix()}"',
        "model.intermediate_size=64",
        "model.vocab_size=300",
        "optim.epochs=1",
    ]
    stages = []
    model = train_model(
        rows,
        tmp_path / "narrow",
        config=load_config(overrides=[*settings, *size]),
        listen=lambda stage, progress: stages.append((stage, progress.step, progress.n_steps)),
    )
    assert stages[:2] == [("pruning", 1, 2), ("pruning", 2, 2)]
    config = json.loads((model.path / "config.json").read_text(encoding="utf-8"))
    assert (config["intermediate_size"], config["vocab_size"]) == (64, 300)
    assert len(AutoTokenizer.from_pretrained(model.path)) == 300
    told = "Its vocabulary was pruned to 300 tokens. Its feed-forward layers were pruned to 64 neurons each."
    assert told in model.manifest.trained_on
    assert load_model_dir(model.path).manifest == model.manifest
    texts = [example.text for example in rows.validation]
    light, torch_ = (GapClassifier.load(model.path, engine=engine).read(texts) for engine in ("openvino-f32", "torch"))
    np.testing.assert_allclose([r.logits for r in light], [r.logits for r in torch_], atol=1e-3)
