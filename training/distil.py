"""A larger teacher's opinion as targets for a smaller student."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoConfig, AutoTokenizer

from gapnlp.calibration import sigmoid
from gapnlp.classifier import GapClassifier
from gapnlp.errors import ConfigError
from gapnlp.taxonomy import LABELS
from training.encode import Encoded, collate
from training.network import GapNetwork
from training.precision import Precision, autocast, find_device

BATCH_SIZE = 32
SLICE_SIZE = 1024  # texts that are asked about together

# What two encoders of one make share, however many of their layers are taken.
_SAME = ("model_type", "hidden_size", "intermediate_size", "num_attention_heads", "max_position_embeddings")

Tell = Callable[[int], object]


def teacher_proba(
    teacher: Path, texts: Sequence[str], *, cache: Path, precision: Precision, tell: Tell
) -> npt.NDArray[np.float64]:
    """Return the teacher's uncalibrated probabilities, 0-1. *Shape:* (n_texts, 5).

    Uncalibrated on purpose: calibration follows the shares of the rows it was fitted on, and the student is
    calibrated by itself.

    Args:
        teacher: A model directory.
        texts: Texts to ask it about.
        precision: What it computes in; see `training.precision.autocast`.
        cache: File that keeps the answers, so that a resumed run need not ask again.
        tell: Called with the number of texts done.
    """
    if cache.is_file():
        kept: npt.NDArray[np.float64] = np.load(cache, allow_pickle=False)
        if kept.shape == (len(texts), len(LABELS)):
            return kept
    classifier = GapClassifier.load(teacher, engine="torch")
    logits = np.zeros((len(texts), len(LABELS)))
    for start in range(0, len(texts), SLICE_SIZE):
        with autocast(precision):
            readings = classifier.read(texts[start : start + SLICE_SIZE])
        logits[start : start + SLICE_SIZE] = [reading.logits for reading in readings]
        tell(start + len(readings))
    proba = sigmoid(logits)
    partial = cache.with_suffix(".partial")
    with partial.open("wb") as handle:
        np.save(handle, proba)
    partial.replace(cache)
    return proba


def check_same_encoder(teacher: Path, base: str) -> None:
    """Check that the teacher grew from the encoder, so that its layers and their states are those of the student.

    Raises:
        ConfigError: It did not.
    """
    ours, theirs = AutoConfig.from_pretrained(base), AutoConfig.from_pretrained(teacher, local_files_only=True)
    differing = [name for name in _SAME if getattr(ours, name, None) != getattr(theirs, name, None)]
    if not differing and AutoTokenizer.from_pretrained(base).get_vocab() != _vocabulary(teacher):
        differing = ["tokens"]
    if differing:
        raise ConfigError(
            f"the teacher {teacher.name} was made from another encoder than {base} ({', '.join(differing)} differ), so "
            "its layers cannot be taken over: name a teacher made from the same one, or add  "
            "--set optim.state_weight=0  to learn from its probabilities alone"
        )


def _vocabulary(folder: Path) -> dict[str, int]:
    return dict(AutoTokenizer.from_pretrained(folder, local_files_only=True).get_vocab())


def with_states(
    encoded: Sequence[Encoded], teacher: Path, *, cache: Path, pad_id: int, precision: Precision, tell: Tell
) -> list[Encoded]:
    """Give every row the teacher's last hidden states, as targets for the student's.

    They are as many as there are tokens, so they lie in a file and are read row by row.

    Args:
        encoded: Rows; only their ids matter.
        teacher: A model directory.
        cache: File for the states, float16; one that is whole is used as it is.
        pad_id: Id of the padding token.
        precision: What the teacher computes in; see `training.precision.autocast`.
        tell: Called with the number of rows done.

    Raises:
        ConfigError: The disk has no room for them.
    """
    bounds = np.cumsum([0, *(len(row.ids) for row in encoded)])
    shape = (int(bounds[-1]), AutoConfig.from_pretrained(teacher).hidden_size)
    if not (cache.is_file() and np.load(cache, mmap_mode="r").shape == shape):
        _check_space(cache.parent, n_bytes=2 * shape[0] * shape[1])
        device = find_device()
        network = GapNetwork.from_encoder(str(teacher), layers=0, dropout=0.0, frozen_layers=0).to(device).eval()
        partial = cache.with_suffix(".partial")
        states = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float16, shape=shape)
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            batch = collate([encoded[index] for index in part], pad_id=pad_id).to(device)
            with torch.inference_mode(), autocast(precision):
                read = network(batch.input_ids, batch.attention_mask)[2].half().cpu().numpy()
            for row, index in enumerate(part):
                states[bounds[index] : bounds[index + 1]] = read[row, : len(encoded[index].ids)]
            tell(start + len(part))
        states.flush()
        partial.replace(cache)
    states = np.load(cache, mmap_mode="r")
    return [replace(row, states=states[a:b]) for row, a, b in zip(encoded, bounds[:-1], bounds[1:], strict=True)]


def _check_space(folder: Path, *, n_bytes: int) -> None:
    """Refuse before a mapped file meets a full disk: that would end the process without a word."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise ConfigError(
            f"the teacher's states take {n_bytes / 1e9:.1f} GB in {folder}, which has {free / 1e9:.1f} GB left: make "
            "room, give fewer unlabelled texts, or add  --set optim.state_weight=0"
        )


def soften(encoded: Sequence[Encoded], proba: npt.NDArray[np.float64], *, soft_weight: float) -> list[Encoded]:
    """Blend a teacher's probabilities into the targets (Hinton et al., 2015, "Distilling the knowledge").

    Args:
        encoded: Rows with their own targets.
        proba: The teacher's probabilities, 0-1. *Shape:* (n_rows, 5).
        soft_weight: Share of the teacher in the target, 0-1.
    """
    return [
        replace(row, target=(soft_weight * soft + (1 - soft_weight) * row.target).astype(np.float32))
        for row, soft in zip(encoded, proba, strict=True)
    ]
