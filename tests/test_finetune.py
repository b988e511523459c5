"""The training loop and its network: it learns, resumes to the bit, stops early, and is saved as it is."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gapnlp.errors import ConfigError
from gapnlp.model_dir import EVIDENCE_HEAD, WEIGHTS
from gapnlp.taxonomy import LABELS
from training.config import load_config
from training.corpus import Example
from training.encode import collate, encode_examples
from training.finetune import Rows, finetune, loss_of, predict_logits
from training.network import GapNetwork
from training.precision import autocast

OPTIM = ("optim.batch_size=8", "optim.learning_rate=2e-3", "optim.precision=fp32")
WORDS = {"delivery": "late", "policy": "refund", "communication": "told"}


def toy_rows(tokenizer, *, opposite=False):
    """Texts whose gap hangs on one word; `opposite` labels all other texts instead."""
    examples = []
    for index in range(48):
        label = [*WORDS, None][index % 4]
        text = f"the {['bag', 'bill', 'room'][index % 3]} was {WORDS.get(label, 'good')}, " + "and so " * (index // 12)
        start = text.find(WORDS.get(label, ""))
        labels = [other for other in WORDS if (other == label) != opposite]
        evidence = {label: (start, start + len(WORDS[label]))} if label and not opposite else {}
        examples.append(Example(id=str(index), text=text, labels=tuple(labels), evidence=evidence))
    return encode_examples(examples, tokenizer=tokenizer, max_length=32)


@pytest.fixture(scope="module")
def tokenizer(encoder_dir):
    return AutoTokenizer.from_pretrained(encoder_dir)


@pytest.fixture(scope="module")
def rows(tokenizer):
    encoded = toy_rows(tokenizer)
    return Rows(encoded, encoded[::3], tokenizer.pad_token_id)


@pytest.fixture
def new_network(encoder_dir):
    def new(*, layers=0, dropout=0.1, frozen_layers=0):
        return GapNetwork.from_encoder(str(encoder_dir), layers=layers, dropout=dropout, frozen_layers=frozen_layers)

    return new


def start(network, rows, checkpoint, *overrides):
    config = load_config(overrides=[*OPTIM, *overrides]).optim
    return finetune(network, rows, config=config, seed=1, device="cpu", checkpoint=checkpoint)


def weights_of(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


def evidence_margin(network, rows):
    """How much higher the logits of the marked tokens are than those of the others."""
    batch = collate(rows.validation, pad_id=rows.pad_id)
    with torch.inference_mode():
        tokens = network(batch.input_ids, batch.attention_mask)[1]
    marked = batch.token_targets == 1
    return float(tokens[marked].mean() - tokens[~marked].mean())


def test_it_learns_what_can_be_learnt(new_network, rows, tmp_path):
    network, steps, margins = new_network(dropout=0.0), [], []
    for progress in start(network, rows, tmp_path / "c.pt", "optim.epochs=20", "optim.patience=20"):
        steps.append(progress)
        if progress.validation is not None:
            margins.append(evidence_margin(network, rows))
    epochs = [progress for progress in steps if progress.validation is not None]
    assert [progress.step for progress in epochs] == list(range(6, 121, 6))
    assert {progress.n_steps for progress in steps} == {120}
    assert epochs[-1].loss < epochs[0].loss / 2
    assert epochs[-1].validation > 0.95
    assert margins[-1] > margins[0] + 1


@pytest.mark.parametrize("stop", ["after the epoch", "inside the next"])
def test_a_resumed_run_equals_one_that_was_never_stopped(new_network, rows, tmp_path, stop):
    whole = new_network()
    uninterrupted = list(start(whole, rows, tmp_path / "whole.pt", "optim.epochs=2"))

    network, seen = new_network(), []
    run = start(network, rows, tmp_path / "stopped.pt", "optim.epochs=2")
    for progress in run:
        seen.append(progress)
        if (progress.validation is not None) if stop == "after the epoch" else progress.step == 9:
            break
    run.close()
    done = [progress for progress in seen if progress.step <= 6]
    again = new_network()
    rest = list(start(again, rows, tmp_path / "stopped.pt", "optim.epochs=2"))
    assert rest[0].step == 7, "it goes on after the last whole epoch"
    assert [*done, *rest] == uninterrupted
    assert_same_weights(weights_of(again), weights_of(whole))
    assert list(start(new_network(), rows, tmp_path / "stopped.pt", "optim.epochs=2")) == []


def test_seeds_change_the_run_and_nothing_else_does(new_network, rows, tmp_path):
    first, second = new_network(), new_network()
    assert_same_weights(weights_of(first), weights_of(second))
    config = load_config(overrides=[*OPTIM, "optim.epochs=1"]).optim
    for seed, network in ((1, first), (2, second)):
        list(finetune(network, rows, config=config, seed=seed, device="cpu", checkpoint=tmp_path / f"{seed}.pt"))
    assert not torch.equal(first.evidence.weight, second.evidence.weight)


def test_it_stops_early_and_keeps_the_best_epoch(new_network, tokenizer, tmp_path):
    # The better it learns these rows, the worse it does on the validation rows, which say the opposite.
    rows = Rows(toy_rows(tokenizer), toy_rows(tokenizer, opposite=True), tokenizer.pad_token_id)
    network = new_network(dropout=0.0)
    run = start(network, rows, tmp_path / "c.pt", "optim.epochs=12", "optim.patience=2")
    epochs = [(progress.validation, weights_of(network)) for progress in run if progress.validation is not None]
    scores = [score for score, _ in epochs]
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 2 < 12
    assert_same_weights(weights_of(network), epochs[best][1])
    assert not torch.equal(epochs[-1][1]["evidence.weight"], epochs[best][1]["evidence.weight"])


def test_a_run_that_runs_away_says_what_to_lower(new_network, rows, tmp_path):
    message = r"loss is (nan|inf) at step \d+: .*Lower optim\.learning_rate \(it is 1e\+30\)"
    with pytest.raises(ConfigError, match=message):
        list(start(new_network(), rows, tmp_path / "c.pt", "optim.learning_rate=1e30"))


def test_frozen_layers_do_not_learn_and_the_others_do(new_network, rows, tmp_path):
    network = new_network(frozen_layers=1)
    before = weights_of(network)
    list(start(network, rows, tmp_path / "c.pt", "optim.epochs=1"))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    below = {name for name in before if "embeddings" in name or ".layer.0." in name}
    assert len(below) > 10
    assert not changed & below
    assert {name for name in before if ".layer.1." in name} - changed == set()
    assert {"evidence.weight", "text.classifier.weight"} <= changed


def test_the_loss_counts_tokens_only_where_evidence_was_looked_for(tokenizer):
    rows = encode_examples(
        [
            Example(id="a", text="late", labels=("delivery",), evidence={"delivery": (0, 4)}),
            Example(id="b", text="told me so", labels=("policy",)),
        ],
        tokenizer=tokenizer,
        max_length=32,
    )
    batch = collate(rows, pad_id=0)
    text_logits, token_logits = torch.zeros(2, 5), torch.zeros(*batch.input_ids.shape, 5)
    at_zero = np.log(2)
    assert float(loss_of(text_logits, token_logits, batch=batch, evidence_weight=0.0)) == pytest.approx(at_zero)
    assert float(loss_of(text_logits, token_logits, batch=batch, evidence_weight=0.5)) == pytest.approx(1.5 * at_zero)
    token_logits[1] = 50.0  # row b marks no evidence
    token_logits[0, len(rows[0].ids) :] = 50.0  # padding
    assert float(loss_of(text_logits, token_logits, batch=batch, evidence_weight=0.5)) == pytest.approx(1.5 * at_zero)
    token_logits[0, 1, 0] = 50.0
    assert float(loss_of(text_logits, token_logits, batch=batch, evidence_weight=0.5)) > 2 * at_zero


def test_logits_come_back_in_the_order_of_the_rows(new_network, rows):
    network = new_network()
    together = predict_logits(network, rows.train, pad_id=rows.pad_id, device="cpu", batch_size=7)
    alone = [predict_logits(network, [row], pad_id=rows.pad_id, device="cpu")[0] for row in rows.train]
    np.testing.assert_allclose(together, alone, atol=1e-5)


# The network


def test_a_new_network_is_announced_by_no_report(new_network, capfd):
    new_network()
    assert capfd.readouterr().err == ""


def test_the_lowest_layers_are_those_that_are_taken(new_network):
    whole, lower = (new_network(layers=layers).text for layers in (0, 1))
    assert (whole.config.num_hidden_layers, lower.config.num_hidden_layers) == (2, 1)
    kept = lower.base_model.state_dict()
    assert_same_weights(kept, {name: whole.base_model.state_dict()[name] for name in kept})
    assert not any(".layer.1." in name for name in kept)


@pytest.mark.parametrize(
    ("weights", "dtypes"), [("fp16", {torch.float16}), ("fp8", {torch.float16, torch.float8_e4m3fn})]
)
def test_what_is_saved_is_what_is_in_memory(new_network, rows, tmp_path, weights, dtypes):
    network = new_network()
    network.round_weights(weights=weights)
    network.save(tmp_path, weights=weights)
    stored = load_file(tmp_path / WEIGHTS)
    assert {tensor.dtype for tensor in stored.values()} == dtypes
    assert all(tensor.ndim == 2 for tensor in stored.values() if tensor.dtype == torch.float8_e4m3fn)
    assert_same_weights({name: tensor.float() for name, tensor in stored.items()}, weights_of(network.text))
    head = {name: tensor.float() for name, tensor in load_file(tmp_path / EVIDENCE_HEAD).items()}
    assert_same_weights(head, weights_of(network.evidence))

    config = json.loads((tmp_path / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"
    assert list(config["id2label"].values()) == list(LABELS)
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["dtype"] == "float32"

    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    batch = collate(rows.validation, pad_id=rows.pad_id)
    with torch.inference_mode():
        again = loaded(batch.input_ids, attention_mask=batch.attention_mask).logits
    expected = predict_logits(network, rows.validation, pad_id=rows.pad_id, device="cpu")
    np.testing.assert_allclose(again.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("weights", "error"), [("fp16", 2**-11), ("fp8", 2**-4)])
def test_rounding_is_no_coarser_than_stated_and_twice_changes_nothing_more(new_network, weights, error):
    network = new_network()
    exact = weights_of(network)
    network.round_weights(weights=weights)
    once = weights_of(network)
    assert any(not torch.equal(exact[name], once[name]) for name in exact)
    for name, tensor in exact.items():
        assert ((tensor - once[name]).abs() <= error * tensor.abs() + 2**-10).all()  # below 2**-6, steps are even
    network.round_weights(weights=weights)
    assert_same_weights(once, weights_of(network))


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_what_it_says(precision, dtype):
    square = torch.ones(2, 2)
    with autocast(precision):
        assert (square @ square).dtype == dtype


@pytest.mark.skipif(torch.cuda.is_available(), reason="on CUDA `auto` is bf16")
def test_auto_is_full_precision_on_a_cpu():
    square = torch.ones(2, 2)
    with autocast("auto"):
        assert (square @ square).dtype == torch.float32
