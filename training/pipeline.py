"""One training run from labelled rows to a model directory."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gapnlp.classifier import GapClassifier
from gapnlp.engines import EngineName
from gapnlp.errors import ConfigError, CorpusError, ModelError
from gapnlp.model_dir import (
    DECISION,
    MANIFEST,
    Manifest,
    ModelDir,
    check_replaceable,
    load_model_dir,
    write_json,
    write_model_dir,
    write_validation,
)
from gapnlp.text import fold_text, replace_surrogates
from training.calibrate import fit_decision, neutral_decision
from training.card import write_card
from training.config import TrainingConfig, dump_config
from training.corpus import Example, check_examples, check_floor, check_leakage
from training.distil import pool_opinions, soften, teacher_logits
from training.encode import Encoded, encode_examples, to_targets
from training.excerpt import draw_excerpts
from training.export import export_graph
from training.finetune import Progress, Rows, finetune, validate
from training.network import GapNetwork
from training.precision import find_device
from training.split import split_examples
from training.start import build_network, find_start

logger = logging.getLogger(__name__)

CODEBOOK_VERSION = "1.0"
N_PARITY = 200
SAME_LABELS = 0.995
RECIPE = "training.toml"
ENGINES: tuple[EngineName, EngineName] = ("openvino-f32", "torch")
PACKAGES = ("torch", "transformers", "tokenizers", "onnx", "openvino")

Listener = Callable[[str, Progress], object]


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """The rows of a run.

    Attributes:
        train: Labelled rows to learn from.
        validation: Rows that choose the best epoch; empty: a share of `train` is held out for it.
        calibration: Rows that fit probabilities and thresholds; empty: the validation rows.
        unlabelled: Texts that only teachers have an opinion on.
    """

    train: Sequence[Example]
    validation: Sequence[Example] = ()
    calibration: Sequence[Example] = ()
    unlabelled: Sequence[str] = field(default=())


def train_model(
    rows: TrainingRows,
    output: Path,
    *,
    config: TrainingConfig,
    teachers: Sequence[Path] = (),
    restart: bool = False,
    listen: Listener = lambda *_: None,
) -> ModelDir:
    """Train, export, calibrate and write a model directory.

    The run keeps its checkpoints in `<output>.run` and goes on from them after an interruption; the folder goes away
    once the model is written.

    Args:
        rows: What to learn from, and what to hold out.
        output: Where the model goes.
        config: The settings.
        teachers: Model directories whose mean opinion is blended into the targets.
        restart: Begin again, whatever checkpoints there are.
        listen: Called after every step with what is being done (such as `seed 1`) and the progress.

    Raises:
        CorpusError: The rows cannot be trained on.
        ConfigError: Checkpoints of another run are in the way, or unlabelled texts came without a teacher.
        ModelError: The exported model does not give the labels of the trained one.
    """
    check_replaceable(output)
    for teacher in teachers:
        load_model_dir(teacher)
    config = _named(config, output)
    rows = prepare_rows(rows, config=config)
    if rows.unlabelled and not teachers:
        raise ConfigError("got unlabelled texts without a teacher: name a model directory with --teacher")
    texts = [*(example.text for example in rows.train), *rows.unlabelled]
    start = find_start(config.model, texts=texts)
    tokenizer, begun_from = start.tokenizer, start.model
    models = [*teachers, *([begun_from.path] if begun_from else [])]
    run_dir = _open_run(output, fingerprint=_fingerprint(rows, config=config, models=models), restart=restart)
    encoded = _encode(rows, tokenizer=tokenizer, config=config, teachers=teachers, run_dir=run_dir, listen=listen)
    network = build_network(start, encoded, config=config, tell=partial(_tell, listen, stage="pruning"))
    _train_seeds(network, encoded, config=config, run_dir=run_dir, listen=listen)
    network.round_weights(weights=config.model.weights)
    manifest = Manifest(
        name=config.model.name,
        version=config.model.version,
        max_length=config.model.max_length,
        base=begun_from.manifest.base if begun_from else config.model.base,
        codebook=CODEBOOK_VERSION,
        trained_on=_describe(rows, config=config, teachers=teachers, begun_from=begun_from),
        versions={name: metadata.version(name) for name in ("gapnlp", *PACKAGES)}
        | {"python": platform.python_version()},
    )

    def fill(folder: Path) -> None:
        tokenizer.model_max_length = config.model.max_length
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.save_pretrained(folder)
        network.save(folder, weights=config.model.weights)
        export_graph(network, folder)
        write_json(folder / DECISION, neutral_decision().to_dict())
        (folder / RECIPE).write_text(dump_config(config), encoding="utf-8")

    draft = write_model_dir(run_dir / "draft", manifest=manifest, fill=fill)
    calibrated = _calibrate(draft, run_dir / "calibrated", rows=rows, config=config)
    check_parity(calibrated, [example.text for example in rows.calibration[:N_PARITY]])
    model = write_model_dir(output, manifest=manifest, fill=partial(_copy_files, calibrated))
    write_card(model)
    shutil.rmtree(run_dir)
    return model


def prepare_rows(rows: TrainingRows, *, config: TrainingConfig) -> TrainingRows:
    """Check the rows and hold out what was not given.

    Raises:
        CorpusError: Rows that cannot be trained on, leak between the sides, or are too few.
    """
    train = check_examples(rows.train)
    validation = check_examples(rows.validation)
    if not validation:
        share = config.data.validation_share
        parts = split_examples(train, shares={"train": 1 - share, "validation": share}, seed=config.optim.seeds[0])
        train, validation = parts["train"], parts["validation"]
    calibration = check_examples(rows.calibration) or validation
    if not validation:
        raise CorpusError(
            f"{len(train)} rows leave none for validation: give more rows, or a file of its own with --validation"
        )
    check_leakage(train, validation)
    check_leakage(train, calibration)
    check_floor(train, floor=config.data.floor)
    known = {fold_text(example.text) for example in (*train, *validation, *calibration)}
    unlabelled = _without(known, (replace_surrogates(text) for text in rows.unlabelled))
    return TrainingRows(train, validation, calibration, unlabelled)


def _without(known: Set[str], texts: Iterable[str]) -> list[str]:
    """Return the texts that are not known, each once; white space makes no other text, and alone is none."""
    folded: dict[str, str] = {}
    for text in texts:
        folded.setdefault(fold_text(text), text)
    return [text for key, text in folded.items() if key and key not in known]


def check_parity(model: ModelDir, texts: Sequence[str]) -> float:
    """Return the share of texts that the light engine labels as torch does.

    Raises:
        ModelError: It is below 99.5 %.
    """
    light, reference = (GapClassifier.load(model.path, engine=engine) for engine in ENGINES)
    pairs = zip(light.predict(texts, evidence=False), reference.predict(texts, evidence=False), strict=True)
    same = float(np.mean([a.labels == b.labels for a, b in pairs]))
    if same < SAME_LABELS:
        raise ModelError(
            f"the exported model gives the labels of the trained one on {same:.1%} of texts, expected 99.5 %"
        )
    return same


def _named(config: TrainingConfig, output: Path) -> TrainingConfig:
    """Give a model without a name that of its folder, so that no two models go by one."""
    name = config.model.name or re.sub(r"[^a-z0-9._-]+", "-", output.name.lower()).lstrip("._-") or "model"
    return config.model_copy(update={"model": config.model.model_copy(update={"name": name})})


def _describe(
    rows: TrainingRows, *, config: TrainingConfig, teachers: Sequence[Path], begun_from: ModelDir | None
) -> str:
    sources = Counter(Path(example.where.rpartition(":")[0]).name for example in rows.train)
    listing = ", ".join(f"{source} {count:,}" for source, count in sources.most_common())
    words = f"{len(rows.train):,} labelled comments ({listing})."
    if begun_from:
        words += f" Training began from the weights of {begun_from.name}."
    if config.model.vocab_size:
        words += f" Its vocabulary was pruned to {config.model.vocab_size:,} tokens."
    if config.model.intermediate_size:
        words += f" Its feed-forward layers were pruned to {config.model.intermediate_size:,} neurons each."
    if teachers:
        names = [load_model_dir(teacher).name for teacher in teachers]
        others = "another model" if len(names) == 1 else "other models, on average"
        words += f" Their targets are blended with the probabilities of {' and '.join(names)}, {others}"
        n_texts = len(_texts_for_teacher(rows, config=config))
        words += f", which also gave targets for {n_texts:,} excerpts and unlabelled comments." if n_texts else "."
    if begun_from:
        words += f"\n\n{begun_from.name} before that: {begun_from.manifest.trained_on}"
    return words


def _open_run(output: Path, *, fingerprint: str, restart: bool) -> Path:
    folder = output.with_name(f"{output.name}.run")
    mark = folder / "fingerprint"
    other = folder.is_dir() and not (mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint)
    if other and not restart and any(folder.glob("seed-*.pt")):
        raise ConfigError(
            f"{folder.name} holds checkpoints of a run with other rows or settings: "
            "repeat that run to finish it, or add --restart to begin again"
        )
    if other or restart:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(fingerprint, encoding="utf-8")
    return folder


def _fingerprint(rows: TrainingRows, *, config: TrainingConfig, models: Sequence[Path]) -> str:
    digest = hashlib.sha256(config.model_dump_json().encode())
    for part in (rows.train, rows.validation, rows.calibration):
        for example in part:
            row = [example.text, list(example.labels), sorted(example.evidence.items())]
            digest.update(json.dumps(row, ensure_ascii=True).encode())
        digest.update(b"|")
    digest.update(json.dumps(list(rows.unlabelled)).encode())
    for model in models:
        digest.update((model / MANIFEST).read_bytes() + b"|")
    return digest.hexdigest()


def _encode(
    rows: TrainingRows,
    *,
    tokenizer: Any,
    config: TrainingConfig,
    teachers: Sequence[Path],
    run_dir: Path,
    listen: Listener,
) -> Rows:
    encode = partial(encode_examples, tokenizer=tokenizer, max_length=config.model.max_length)
    train, validation = encode(rows.train), encode(rows.validation)
    if not teachers:
        return Rows(train, validation, tokenizer.pad_token_id)
    unlabelled = [Example("", text, ()) for text in _texts_for_teacher(rows, config=config)]
    texts = [example.text for example in (*rows.train, *unlabelled)]
    proba = pool_opinions(
        [
            teacher_logits(
                teacher,
                texts,
                cache=run_dir / f"teacher-{number}.npy",
                precision=config.optim.precision,
                tell=partial(_tell, listen, stage=f"teacher {number}"),
            )
            for number, teacher in enumerate(teachers, start=1)
        ]
    )
    taught = [
        *soften(train, proba[: len(train)], soft_weight=config.distil.soft_weight),
        *soften([_without_evidence(row) for row in encode(unlabelled)], proba[len(train) :], soft_weight=1.0),
    ]
    return Rows(taught, validation, tokenizer.pad_token_id)


def _tell(listen: Listener, n_done: int, n_in_all: int, *, stage: str) -> None:
    listen(stage, Progress(n_done, n_in_all))


def _texts_for_teacher(rows: TrainingRows, *, config: TrainingConfig) -> list[str]:
    """Return the texts that only teachers speak on: excerpts, and unlabelled texts that gave none, whole."""
    n, seed = config.distil.excerpts, config.optim.seeds[0]
    labelled = [example.text for example in rows.train]
    held_out = [example.text for example in (*rows.validation, *rows.calibration)]
    whole = [text for text in rows.unlabelled if not draw_excerpts([text], n=n, seed=seed)]
    excerpts = draw_excerpts([*labelled, *rows.unlabelled], n=n, seed=seed)
    return _without({fold_text(text) for text in (*labelled, *held_out)}, [*whole, *excerpts])


def _without_evidence(row: Encoded) -> Encoded:
    return replace(row, has_evidence=False)


def _train_seeds(network: GapNetwork, rows: Rows, *, config: TrainingConfig, run_dir: Path, listen: Listener) -> None:
    """Train once per seed; the network ends as the runs' average, or as the best where averaging does not help."""
    device = find_device()
    candidates: list[dict[str, torch.Tensor]] = []
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for seed in config.optim.seeds:
        network.load_state_dict(start)
        checkpoint = run_dir / f"seed-{seed}.pt"
        for progress in finetune(network, rows, config=config.optim, seed=seed, device=device, checkpoint=checkpoint):
            listen(f"seed {seed}", progress)
        candidates.append({name: tensor.detach().clone() for name, tensor in network.state_dict().items()})
    if len(candidates) > 1:
        candidates.append(
            {name: torch.stack([c[name].float() for c in candidates]).mean(0).to(start[name].dtype) for name in start}
        )
    scores = []
    for weights in candidates:
        network.load_state_dict(weights)
        scores.append(validate(network, rows, precision=config.optim.precision, device=device))
    best = int(np.argmax(scores))
    logger.info("validation per seed, then of their average: %s", ", ".join(f"{score:.4f}" for score in scores))
    network.load_state_dict(candidates[best])


def _calibrate(draft: ModelDir, output: Path, *, rows: TrainingRows, config: TrainingConfig) -> ModelDir:
    readings = GapClassifier.load(draft.path).read([example.text for example in rows.calibration])
    decision = fit_decision(
        readings,
        rows.calibration,
        promised_precision=config.calibrate.promised_precision,
        fitted_on=f"{len(rows.calibration)} held-out rows",
    )

    def fill(folder: Path) -> None:
        _copy_files(draft, folder)
        write_json(folder / DECISION, decision.to_dict())
        logits = [reading.logits for reading in readings]
        write_validation(folder, logits, labels=to_targets(rows.calibration))

    return write_model_dir(output, manifest=draft.manifest, fill=fill)


def _copy_files(model: ModelDir, folder: Path) -> None:
    for file in model.path.iterdir():
        if file.name != MANIFEST:
            shutil.copy2(file, folder / file.name)
