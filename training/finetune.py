"""Fine-tuning as a generator: it trains and tells; saving, showing and stopping are the caller's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from gapnlp.errors import ConfigError
from gapnlp.metrics import average_precision
from gapnlp.taxonomy import LABELS
from training.config import OptimConfig
from training.encode import Batch, Encoded, collate, shuffled_batches
from training.network import GapNetwork
from training.precision import Precision, autocast

MAX_GRADIENT_NORM = 1.0
PRESENT = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is after a step.

    Attributes:
        step: Steps done.
        n_steps: Steps in all, were it not stopped early.
        loss: Mean loss of this epoch so far; None where nothing is learnt.
        validation: Mean average precision over the gaps on the validation rows, 0-1; None inside an epoch.
    """

    step: int
    n_steps: int
    loss: float | None = None
    validation: float | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run learns from and what it is watched on."""

    train: Sequence[Encoded]
    validation: Sequence[Encoded]
    pad_id: int


def finetune(
    network: GapNetwork, rows: Rows, *, config: OptimConfig, seed: int, device: str, checkpoint: Path
) -> Iterator[Progress]:
    """Train the network in place; when the generator ends, it holds its best epoch's weights.

    After every epoch the whole state goes to `checkpoint`; a run that finds one there goes on from it, and gives the
    same result as one that was never stopped.

    Args:
        network: What learns.
        rows: Rows to learn from and to be watched on.
        config: How.
        seed: Of the order of the rows.
        device: `cpu` or `cuda`.
        checkpoint: File for the state of the run.
    """
    run = _Run(network.to(device), rows, config=config, seed=seed, device=device)
    if checkpoint.is_file():
        run.load(checkpoint)
    while not run.finished:
        yield from run.epoch()
        progress = run.close_epoch()
        run.save(checkpoint)
        yield progress
    network.load_state_dict(run.best_weights)


def predict_logits(
    network: GapNetwork, rows: Sequence[Encoded], *, pad_id: int, device: str, batch_size: int = 32
) -> npt.NDArray[np.float32]:
    """Return the text head's logits, float32. *Shape:* (n_rows, 5)."""
    network.eval()
    logits = np.zeros((len(rows), len(LABELS)), dtype=np.float32)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            batch = collate([rows[index] for index in part], pad_id=pad_id).to(device)
            logits[part] = network(batch.input_ids, batch.attention_mask)[0].float().cpu().numpy()
    return logits


def loss_of(text_logits: Tensor, token_logits: Tensor, *, batch: Batch, evidence_weight: float) -> Tensor:
    """Return binary cross-entropy of the text head plus the weighted one of the evidence head.

    Nothing is re-weighted by class: that would ruin the calibration that prevalence estimates need.
    """
    text = binary_cross_entropy_with_logits(text_logits.float(), batch.targets)
    per_token = binary_cross_entropy_with_logits(token_logits.float(), batch.token_targets, reduction="none").mean(-1)
    tokens = (per_token * batch.token_weights).sum() / batch.token_weights.sum().clamp(min=1)
    return text + evidence_weight * tokens


class _Run:
    """The state of one run."""

    _PLAIN = ("epochs_done", "best", "best_epoch", "best_weights")

    def __init__(self, network: GapNetwork, rows: Rows, *, config: OptimConfig, seed: int, device: str) -> None:
        self.network, self.rows, self.config, self.seed, self.device = network, rows, config, seed, device
        self.steps_per_epoch = -(-len(rows.train) // config.batch_size)
        self.n_steps = self.steps_per_epoch * config.epochs
        self.epochs_done, self.best, self.best_epoch, self.loss = 0, -1.0, -1, 0.0
        self.best_weights: dict[str, Tensor] = {}
        learning = [(name, weight) for name, weight in network.named_parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [w for _, w in learning if w.ndim > 1], "weight_decay": config.weight_decay},
                {"params": [w for _, w in learning if w.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        n_warm = max(1, round(config.warmup * self.n_steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / n_warm, max(0.0, (self.n_steps - step) / max(1, self.n_steps - n_warm))),
        )

    @property
    def finished(self) -> bool:
        waited = self.epochs_done - 1 - self.best_epoch
        return self.epochs_done >= self.config.epochs or (self.epochs_done > 0 and waited >= self.config.patience)

    def epoch(self) -> Iterator[Progress]:
        rng = np.random.default_rng([self.seed, self.epochs_done])
        torch.manual_seed(self.seed * 1_000_003 + self.epochs_done)
        total, first = 0.0, self.epochs_done * self.steps_per_epoch
        batches = shuffled_batches(self.rows.train, batch_size=self.config.batch_size, pad_id=self.rows.pad_id, rng=rng)
        self.network.train()
        for index, batch in enumerate(batches, start=1):
            total += self._step(batch.to(self.device))
            self.loss = total / index
            if not math.isfinite(self.loss):
                raise ConfigError(
                    f"the loss is {self.loss} at step {first + index}: training ran away. "
                    f"Lower optim.learning_rate (it is {self.config.learning_rate:g})"
                )
            yield Progress(first + index, self.n_steps, self.loss)

    def close_epoch(self) -> Progress:
        validation = validate(self.network, self.rows, precision=self.config.precision, device=self.device)
        if validation > self.best:
            self.best, self.best_epoch = validation, self.epochs_done
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.epochs_done += 1
        return Progress(self.epochs_done * self.steps_per_epoch, self.n_steps, self.loss, validation)

    def save(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        torch.save({**{name: getattr(self, name) for name in self._PLAIN}, **self._parts("state_dict")}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location=self.device)
        for name in self._PLAIN:
            setattr(self, name, state[name])
        for name in ("network", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])

    def _parts(self, method: str) -> dict[str, Any]:
        return {name: getattr(getattr(self, name), method)() for name in ("network", "optimizer", "schedule")}

    def _step(self, batch: Batch) -> float:
        with autocast(self.config.precision):
            text_logits, token_logits = self.network(batch.input_ids, batch.attention_mask)
        loss = loss_of(text_logits, token_logits, batch=batch, evidence_weight=self.config.evidence_weight)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        return float(loss.detach())


def validate(network: GapNetwork, rows: Rows, *, precision: Precision, device: str) -> float:
    """Return the mean average precision over the gaps that the validation rows have, 0-1."""
    with autocast(precision):
        logits = predict_logits(network, rows.validation, pad_id=rows.pad_id, device=device)
    targets = np.stack([row.target for row in rows.validation]) >= PRESENT
    present = [j for j in range(len(LABELS)) if targets[:, j].any()]
    return float(np.mean([average_precision(logits[:, j], targets[:, j]) for j in present])) if present else 0.0
