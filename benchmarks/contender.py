"""The ways of labelling texts that are compared, each as one function that reads all texts.

Every contender runs the weights of one model directory (`setfit`, which cannot, runs the encoder it grew from), and
each is what a user of that library would write, not a strawman: sorted where the library's guide says to sort.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.classifier import GapClassifier
from gapnlp.engines import EngineName
from gapnlp.model_dir import GRAPH, load_model_dir
from gapnlp.taxonomy import LABELS

Array = npt.NDArray[Any]
Label = Callable[[Sequence[str]], Array]  # texts → labels, (n_texts, 5) of bool

TOKENS_PER_BATCH = 4096


def pipeline(model: Path) -> Label:
    """Read with `transformers.pipeline` in batches of 32 as they come, the way its guide shows."""
    from transformers import pipeline as make

    read = make("text-classification", str(model), top_k=None, device="cpu", truncation=True, max_length=256)

    def label(texts: Sequence[str]) -> Array:
        found = [{item["label"]: item["score"] for item in scores} for scores in read(list(texts), batch_size=32)]
        scores = np.array([[row[label] for label in LABELS] for row in found])
        return _decide(model, np.log(scores) - np.log1p(-scores))

    return label


def torch_sorted(model: Path) -> Label:
    """Run torch in float32 on texts sorted by length, 4,096 tokens a batch."""
    import torch
    from transformers import AutoModelForSequenceClassification

    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32).eval()

    def run(ids: Array, mask: Array) -> Array:
        with torch.inference_mode():
            logits: Array = network(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits
        return np.asarray(logits)

    return _sorted(model, run)


def onnxruntime_f32(model: Path) -> Label:
    """Run ONNX Runtime in float32, sorted the same way."""
    return _onnxruntime(model, model / GRAPH)


def onnxruntime_int8(model: Path) -> Label:
    """Run ONNX Runtime with dynamic int8, sorted the same way: fast, but a text's score depends on its batch."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        plain = Path(scratch) / "plain.onnx"
        onnx.save(_with_plain_weights(onnx.load(str(model / GRAPH))), str(plain))
        quantize_dynamic(plain, path, weight_type=QuantType.QInt8)
        return _onnxruntime(model, path)


def setfit(model: Path) -> Label:
    """Predict with SetFit: the sentence encoder of the model and a logistic regression, in batches of 32."""
    from setfit import SetFitModel

    from training.corpus import read_examples
    from training.encode import to_targets
    from training.encoder import resolve_encoder

    base = load_model_dir(model).manifest.base
    fitted = SetFitModel.from_pretrained(resolve_encoder(base), multi_target_strategy="one-vs-rest")
    examples = read_examples(Path(__file__).parent.parent / "data" / "train.jsonl")[:400]
    head_rows = fitted.model_body.encode([example.text for example in examples], show_progress_bar=False)
    fitted.model_head.fit(head_rows, to_targets(examples).astype(int))

    def label(texts: Sequence[str]) -> Array:
        return np.asarray(fitted.predict(list(texts), batch_size=32, show_progress_bar=False)).astype(bool)

    return label


def gapnlp(model: Path) -> Label:
    """Predict with this project, evidence included, as `gapnlp classify` does."""
    return _gapnlp(model, "openvino")


def gapnlp_f32(model: Path) -> Label:
    """Do the same in float32: what a processor without bfloat16 gets."""
    return _gapnlp(model, "openvino-f32")


CONTENDERS: dict[str, Callable[[Path], Label]] = {
    "transformers pipeline, batches of 32": pipeline,
    "torch float32, sorted": torch_sorted,
    "ONNX Runtime float32, sorted": onnxruntime_f32,
    "ONNX Runtime dynamic int8, sorted": onnxruntime_int8,
    "SetFit predict": setfit,
    "gapnlp in float32": gapnlp_f32,
    "gapnlp": gapnlp,
}
BASELINE, REFERENCE, OURS = "transformers pipeline, batches of 32", "torch float32, sorted", "gapnlp"


def _gapnlp(model: Path, engine: EngineName) -> Label:
    classifier = GapClassifier.load(model, engine=engine)

    def label(texts: Sequence[str]) -> Array:
        return np.array([[gap in prediction.labels for gap in LABELS] for prediction in classifier.predict(texts)])

    return label


def _onnxruntime(model: Path, graph: Path) -> Label:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(graph), sess_options=options, providers=["CPUExecutionProvider"])
    return _sorted(model, lambda ids, mask: session.run(["logits"], {"input_ids": ids, "attention_mask": mask})[0])


def _sorted(model: Path, run: Callable[[Array, Array], Array]) -> Label:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.no_padding()

    def label(texts: Sequence[str]) -> Array:
        ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
        logits = np.zeros((len(texts), len(LABELS)))
        for rows in _batches(ids):
            width = max(len(ids[row]) for row in rows)
            filled = np.zeros((2, len(rows), width), dtype=np.int64)
            for place, row in enumerate(rows):
                filled[0, place, : len(ids[row])], filled[1, place, : len(ids[row])] = ids[row], 1
            logits[rows] = run(filled[0], filled[1])
        return _decide(model, logits)

    return label


def _batches(ids: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    rows: list[int] = []
    for row in sorted(range(len(ids)), key=lambda row: len(ids[row])):
        if rows and (len(rows) + 1) * len(ids[row]) > TOKENS_PER_BATCH:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def _decide(model: Path, logits: Array) -> Array:
    calibration = load_model_dir(model).decision.calibration
    return calibration.decide(calibration.proba(logits))


def _with_plain_weights(graph: Any) -> Any:
    """Fold the casts and transpositions of weights, which hide them from the quantiser."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    kept = []
    for node in graph.graph.node:
        source = weights.get(node.input[0]) if node.input else None
        if source is None or node.op_type not in ("Cast", "Transpose"):
            kept.append(node)
            continue
        values = numpy_helper.to_array(source)
        values = values.astype(np.float32) if node.op_type == "Cast" else values.T
        weights[node.output[0]] = numpy_helper.from_array(np.ascontiguousarray(values), node.output[0])
    used = {name for node in kept for name in node.input}
    del graph.graph.node[:], graph.graph.initializer[:], graph.graph.value_info[:]
    graph.graph.node.extend(kept)
    graph.graph.initializer.extend(tensor for name, tensor in weights.items() if name in used)
    return graph


def open_contender(name: str, model: Path) -> Label:
    """Load one contender, keeping what its libraries say about themselves to themselves."""
    warnings.simplefilter("ignore")
    return CONTENDERS[name](model)
