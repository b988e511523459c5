"""Engines: batching, the ONNX graph and its weights, and torch as the reference."""

import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from gapnlp.engines.base import EngineOutput
from gapnlp.engines.batch import PAD_TO, plan_batches, run_sequences
from gapnlp.engines.fake import FakeEngine
from gapnlp.engines.onnx import OnnxEngine
from gapnlp.engines.openvino import OpenVinoEngine
from gapnlp.engines.torch import TorchEngine
from gapnlp.errors import MissingExtraError, ModelError
from gapnlp.model_dir import EVIDENCE_HEAD, GRAPH, TOKENIZER, WEIGHTS, load_model_dir
from training.export import SMALL

TOLERANCE = 1e-5


class RecordingEngine(FakeEngine):
    """Remember the shape of every batch and the ids that stand at padding."""

    def __init__(self):
        self.shapes, self.padding, self.lengths = [], set(), {}

    def run(self, input_ids, attention_mask):
        self.shapes.append(input_ids.shape)
        self.lengths.setdefault(input_ids.shape[1], []).extend(attention_mask.sum(axis=1).tolist())
        self.padding |= set(input_ids[attention_mask == 0].tolist())
        return super().run(input_ids, attention_mask)


def random_sequences(n, *, vocabulary=300, longest=64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(5, vocabulary, size=rng.integers(1, longest + 1)).tolist() for _ in range(n)]


def test_every_sequence_is_run_once_with_its_own_tokens():
    sequences, engine = random_sequences(50), RecordingEngine()
    found = {i: (logits, tokens) for i, logits, tokens in run_sequences(engine, sequences, pad_id=1)}
    assert sorted(found) == list(range(50))
    for index, sequence in enumerate(sequences):
        ids = np.array([sequence])
        alone = FakeEngine().run(ids, np.ones_like(ids))
        np.testing.assert_array_equal(found[index][0], alone.logits[0])
        np.testing.assert_array_equal(found[index][1], alone.token_logits[0])
    assert engine.padding == {1}


@pytest.mark.parametrize("limit", [64, 200, 1000])
def test_batches_keep_to_their_number_of_tokens_and_to_few_widths(limit):
    engine = RecordingEngine()
    list(run_sequences(engine, random_sequences(80), pad_id=0, tokens_per_batch=limit))
    assert sum(size for size, _ in engine.shapes) >= 80
    assert all(size * width <= limit for size, width in engine.shapes)
    assert {width % PAD_TO for _, width in engine.shapes} == {0}
    assert len(engine.shapes) > 1


def test_a_sequence_runs_in_the_width_of_its_own_length_whatever_else_there_is():
    engine = RecordingEngine()
    list(run_sequences(engine, random_sequences(80), pad_id=0))
    for width, lengths in engine.lengths.items():
        assert all(width - PAD_TO < length <= width for length in lengths if length > 1)  # an empty row has 1


def test_shapes_stay_few_however_many_sequences_there_are():
    shapes = set()
    for n_sequences in range(1, 200):
        for batch in plan_batches([20] * n_sequences, tokens_per_batch=32 * 24):
            shapes.add((batch.n_rows, batch.width))
    assert shapes == {(n_rows, 32) for n_rows in (1, 2, 4, 8, 16, 24)}


def test_empty_rows_fill_a_batch_only_where_they_cost_less_than_another_call():
    sizes = [[(len(batch.indices), batch.n_rows) for batch in plan_batches([20] * n)] for n in (6, 5, 3)]
    assert sizes == [[(6, 8)], [(4, 4), (1, 1)], [(3, 4)]]


def test_empty_rows_change_nothing(openvino_engine):
    sequences = random_sequences(3, longest=16)
    found = {i: logits for i, logits, _ in run_sequences(openvino_engine, sequences, pad_id=0)}
    for index, sequence in enumerate(sequences):
        (_, alone, _), *_ = run_sequences(openvino_engine, [sequence], pad_id=0)
        np.testing.assert_array_equal(found[index], alone)


def test_batches_run_side_by_side_and_come_back_in_order():
    both = threading.Barrier(2, timeout=10)  # two batches at once, or it breaks

    class TwoAtOnce(FakeEngine):
        n_parallel = 2

        def run(self, input_ids, attention_mask):
            both.wait()
            return super().run(input_ids, attention_mask)

    sequences = random_sequences(64, longest=16)
    found = list(run_sequences(TwoAtOnce(), sequences, pad_id=0, tokens_per_batch=16 * 8))
    alone = list(run_sequences(FakeEngine(), sequences, pad_id=0, tokens_per_batch=16 * 8))
    assert [index for index, *_ in found] == [index for index, *_ in alone]
    for (_, logits, tokens), (_, other, other_tokens) in zip(found, alone, strict=True):
        np.testing.assert_array_equal(logits, other)
        np.testing.assert_array_equal(tokens, other_tokens)


def test_a_sequence_longer_than_the_limit_goes_alone():
    engine = RecordingEngine()
    list(run_sequences(engine, [[5] * 100, [6] * 100], pad_id=0, tokens_per_batch=64))
    assert engine.shapes == [(1, 112), (1, 112)]


def test_no_sequences_give_nothing():
    assert list(run_sequences(FakeEngine(), [], pad_id=0)) == []


def test_an_engine_of_another_shape_is_refused():
    class FourGaps(FakeEngine):
        def run(self, input_ids, attention_mask):
            output = super().run(input_ids, attention_mask)
            return EngineOutput(output.logits[:, :4], output.token_logits)

    with pytest.raises(ValueError, match=r"engine fake gave logits of shape \(1, 4\), expected \(1, 5\)"):
        list(run_sequences(FourGaps(), [[5]], pad_id=0))


# Runtimes


def test_openvino_tells_nobody_that_it_runs(model_dir):
    code = """
import socket, sys

def refuse(*args, **options):
    raise SystemExit(f"it asked for the network: {args}")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
from gapnlp.engines.openvino import OpenVinoEngine
from gapnlp.model_dir import load_model_dir

OpenVinoEngine(load_model_dir(sys.argv[1]), n_threads=1)
assert sys.modules["openvino_telemetry"] is None
"""
    subprocess.run([sys.executable, "-c", code, str(model_dir)], check=True)


@pytest.fixture(scope="module")
def openvino_engine(model_dir):
    """What the machine at hand takes by default: bf16 where it can."""
    return OpenVinoEngine(load_model_dir(model_dir), n_threads=2)


@pytest.fixture(scope="module")
def openvino_f32_engine(model_dir):
    return OpenVinoEngine(load_model_dir(model_dir), n_threads=1, precision="f32")


@pytest.fixture(scope="module")
def onnx_engine(model_dir):
    return OnnxEngine(load_model_dir(model_dir), n_threads=1)


@pytest.fixture(scope="module")
def torch_engine(model_dir):
    return TorchEngine(load_model_dir(model_dir), device="cpu")


@pytest.fixture(scope="module")
def token_ids(model_dir, real_texts):
    tokenizer = Tokenizer.from_file(str(model_dir / TOKENIZER))
    return [encoding.ids[:64] for encoding in tokenizer.encode_batch(real_texts)]


def padded(sequences, *, width, pad_id=0):
    ids = np.full((len(sequences), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)], mask[row, : len(sequence)] = sequence, 1
    return ids, mask


def test_shapes_and_types(openvino_engine, onnx_engine, torch_engine, token_ids):
    for engine in (openvino_engine, onnx_engine, torch_engine):
        output = engine.run(*padded(token_ids[:3], width=64))
        assert output.logits.shape == (3, 5)
        assert output.token_logits.shape == (3, 64, 5)
        assert output.logits.dtype == output.token_logits.dtype == np.float32


@pytest.mark.parametrize("name", ["openvino_f32_engine", "onnx_engine", "torch_engine"])
def test_a_row_depends_neither_on_padding_nor_on_its_neighbours(request, token_ids, name):
    engine = request.getfixturevalue(name)
    together = engine.run(*padded(token_ids, width=96))
    junk = engine.run(*padded(token_ids, width=96, pad_id=7))
    for row, sequence in enumerate(token_ids):
        alone = engine.run(*padded([sequence], width=len(sequence)))
        for output in (together, junk):
            np.testing.assert_allclose(output.logits[row], alone.logits[0], atol=TOLERANCE)
            tokens = output.token_logits[row, : len(sequence)]
            np.testing.assert_allclose(tokens, alone.token_logits[0], atol=TOLERANCE)


def test_the_default_engine_gives_a_row_the_same_bits_in_any_company(openvino_engine, token_ids):
    def run(sequences):
        return {index: parts for index, *parts in run_sequences(openvino_engine, sequences, pad_id=0)}

    together = run(token_ids)
    for index, sequence in enumerate(token_ids):
        alone = run([sequence])[0]
        few = run(token_ids[max(0, index - 2) : index + 1])[min(index, 2)]
        for logits, tokens in (alone, few):
            np.testing.assert_array_equal(together[index][0], logits)
            np.testing.assert_array_equal(together[index][1], tokens)


def test_the_number_of_cores_changes_no_bit(model_dir, openvino_engine, token_ids):
    single = OpenVinoEngine(load_model_dir(model_dir), n_threads=1)
    assert (single.n_parallel, openvino_engine.n_parallel) == (1, 2)
    pairs = zip(*(run_sequences(e, token_ids, pad_id=0) for e in (single, openvino_engine)), strict=True)
    for (index, logits, tokens), (other_index, other, other_tokens) in pairs:
        assert index == other_index
        np.testing.assert_array_equal(logits, other)
        np.testing.assert_array_equal(tokens, other_tokens)


FIRST_RUNS = """
import sys, numpy as np
from concurrent.futures import ThreadPoolExecutor
from gapnlp.engines.openvino import OpenVinoEngine
from gapnlp.model_dir import load_model_dir
engine = OpenVinoEngine(load_model_dir(sys.argv[1]), n_threads=8)
ids = np.ones((1, 16), dtype=np.int64)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(lambda _: engine.run(ids, ids), range(64)))
"""


@pytest.mark.slow
def test_threads_that_come_together_at_first_do_not_wait_for_each_other_for_ever(model_dir):
    for _ in range(5):
        command = [sys.executable, "-c", FIRST_RUNS, str(model_dir)]
        subprocess.run(command, check=True, timeout=60)


def test_bf16_stays_near_float32(model_dir, openvino_f32_engine, token_ids):
    fast = OpenVinoEngine(load_model_dir(model_dir), precision="bf16")
    assert (fast.name, openvino_f32_engine.name) == ("openvino-bf16", "openvino-f32")
    ids, mask = padded(token_ids, width=64)
    gap = np.abs(fast.run(ids, mask).logits - openvino_f32_engine.run(ids, mask).logits)
    assert gap.max() < 0.1
    assert gap.mean() < 0.02


@pytest.mark.parametrize("name", ["openvino_f32_engine", "onnx_engine"])
def test_light_engines_give_the_numbers_of_torch(request, name, torch_engine, token_ids):
    ids, mask = padded(token_ids, width=64)
    light, reference = request.getfixturevalue(name).run(ids, mask), torch_engine.run(ids, mask)
    np.testing.assert_allclose(light.logits, reference.logits, atol=1e-4)
    inside = mask.astype(bool)
    np.testing.assert_allclose(light.token_logits[inside], reference.token_logits[inside], atol=1e-4)
    assert np.ptp(reference.logits, axis=0).min() > 0.01, "the texts differ, or the comparison says nothing"


def test_the_weights_stand_on_disk_once(model_dir):
    size = {name: (model_dir / name).stat().st_size for name in (GRAPH, WEIGHTS)}
    assert size[GRAPH] < size[WEIGHTS] / 4
    graph = onnx.load(str(model_dir / GRAPH), load_external_data=False).graph
    outside = [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    files = {entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"}
    assert WEIGHTS in files <= {WEIGHTS, EVIDENCE_HEAD}
    inside = [tensor for tensor in graph.initializer if tensor not in outside]
    assert max(np.prod(tensor.dims) for tensor in inside) < SMALL
    assert len(outside) >= 13  # two layers of six matrices, and the word pieces


def test_the_graph_holds_no_path_of_the_machine_that_wrote_it(model_dir):
    content = (model_dir / GRAPH).read_bytes()
    for word in (b"site-packages", b".py", b"forward", sys.prefix.encode()):
        assert word not in content


@pytest.mark.parametrize("engine", [OpenVinoEngine, OnnxEngine])
def test_a_graph_that_is_none_is_a_model_error(model_copy, edit_file, engine):
    edit_file(model_copy, GRAPH, b"not a graph")
    with pytest.raises(ModelError, match=r"model\.onnx of copy cannot be run: "):
        engine(load_model_dir(model_copy))


def test_without_onnxruntime_the_message_names_the_extra(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"'onnxruntime'.*pip install 'gapnlp\[onnx\]'"):
        OnnxEngine(load_model_dir(model_dir))


def test_without_torch_the_message_names_the_extra(model_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"'torch'.*pip install 'gapnlp\[train\]'"):
        TorchEngine(load_model_dir(model_dir))


def test_loading_for_torch_shows_no_progress_bar_and_leaves_others_theirs(model_dir, capfd):
    from transformers.utils import logging

    logging.enable_progress_bar()
    TorchEngine(load_model_dir(model_dir), device="cpu")
    assert capfd.readouterr().err == ""
    assert logging.is_progress_bar_enabled()
