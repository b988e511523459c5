"""The simpler ways to classify that a trained model has to beat, fitted on the same rows.

- `tfidf`: TF-IDF of words (1-2 grams) and of characters (3-5 grams inside words), logistic regression per
  gap.
- `frozen-embedding`: mean-pooled sentence embeddings of an encoder as it comes, logistic regression per gap.
- `setfit-style`: the encoder is first tuned on pairs of texts so that texts with the same gaps lie close (the
  recipe of Tunstall et al. 2022, "Efficient few-shot learning without prompts", for several labels), then as
  above.

Each hands out uncalibrated probabilities; `gapnlp.calibration.cross_fit(logit(proba), …)` gives them the same
calibration and thresholds as the model's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.errors import ConfigError, CorpusError, MissingExtraError
from gapnlp.metrics import with_none
from gapnlp.taxonomy import LABELS
from training.precision import Precision, autocast

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Baseline = Callable[[Sequence[str]], FloatArray]

BASELINES = ("tfidf", "frozen-embedding", "setfit-style")
MAX_TOKENS = 256  # longer texts are cut: a baseline reads one window
_TOKENS_PER_BATCH = 4096  # padding included
_TOKENS_PER_GROUP = 768  # the same while tuning: an update of 32 texts runs as a few groups of like length
_WORD = r"(?u)\b\w+\b"
_COST = 10.0  # inverse strength of the L2 penalty


@dataclass(frozen=True, slots=True, kw_only=True)
class ContrastiveSettings:
    """How `setfit-style` tunes its encoder.

    Attributes:
        n_steps: Updates, at least 1.
        n_pairs: Pairs of texts per update, at least 1.
        learning_rate: Peak of a linear rise over the first tenth and a linear fall to zero.
    """

    n_steps: int = 300
    n_pairs: int = 16
    learning_rate: float = 2e-5

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.n_pairs < 1 or not self.learning_rate > 0:
            raise ConfigError(f"got {self}, expected n_steps and n_pairs of at least 1 and learning_rate above 0")


def fit_baseline(
    name: str,
    train_texts: Sequence[str],
    train_targets: npt.ArrayLike,
    *,
    encoder: str | Path | None = None,
    seed: int,
    contrastive: ContrastiveSettings | None = None,
    precision: Precision = "fp32",
) -> Baseline:
    """Fit one baseline.

    Args:
        name: One of `BASELINES`.
        train_texts: *Length* n, at least 1.
        train_targets: True where the text carries the gap. *Shape:* (n, 5).
        encoder: Path or name of a Hugging Face encoder; `tfidf` needs none.
        seed: Of the pairs and of the solver.
        contrastive: How `setfit-style` tunes; its defaults if left out.
        precision: What an encoder computes in; see `training.precision.autocast`.

    Returns:
        A function from texts to probabilities, 0-1, uncalibrated, *shape* (n_texts, 5).

    Raises:
        ConfigError: Unknown name, or no encoder where one is needed.
        CorpusError: No rows, or texts and targets that do not fit together.
        MissingExtraError: scikit-learn, torch or transformers is not installed.
    """
    texts, targets = list(train_texts), np.asarray(train_targets, dtype=np.bool_)
    if not texts or targets.shape != (len(texts), len(LABELS)):
        raise CorpusError(
            f"baseline: got {len(texts)} texts and targets of shape {targets.shape}, "
            f"expected at least 1 text and (n_texts, {len(LABELS)})"
        )
    if name == "tfidf":
        return _fit_tfidf(texts, targets, seed=seed)
    if name not in BASELINES:
        raise ConfigError(f"baseline: got {name!r}, expected one of {', '.join(BASELINES)}")
    if encoder is None:
        raise ConfigError(f"baseline {name!r}: got no encoder, expected the path or name of one")
    embedder = _Embedder(encoder, precision=precision)
    if name == "setfit-style":
        embedder.tune(texts, targets, settings=contrastive or ContrastiveSettings(), seed=seed)
    head = _OneVsRest.fit(embedder.embed(texts), targets, cost=_COST, seed=seed)
    return lambda new_texts: head.proba(embedder.embed(new_texts))


def sample_pairs(targets: BoolArray, n_pairs: int, *, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """Draw pairs of rows, half of them with a label in common, and how alike their label sets are.

    `none` counts as a label. The label in common is drawn first and evenly, so that rare gaps get as many
    pairs as frequent ones. The likeness is labels in common / labels in either (Jaccard 1912).

    Args:
        targets: *Shape:* (n, 5), n at least 1.
        n_pairs: Number of pairs.
        rng: Source of the draws.

    Returns:
        Row numbers, *shape* (n_pairs, 2), and likeness, 0-1, *shape* (n_pairs,).
    """
    sets = with_none(targets)
    present = np.flatnonzero(sets.any(axis=0))
    pairs = np.empty((n_pairs, 2), dtype=np.int64)
    for i in range(n_pairs):
        label = rng.choice(present)
        first = rng.choice(np.flatnonzero(sets[:, label]))
        shares = sets[:, label] if i % 2 == 0 else ~(sets & sets[first]).any(axis=1)
        others = np.flatnonzero(shares)
        pairs[i] = first, rng.choice(others) if len(others) else rng.integers(len(sets))
    left, right = sets[pairs[:, 0]], sets[pairs[:, 1]]
    return pairs, (left & right).sum(axis=1) / (left | right).sum(axis=1)


class _OneVsRest:
    """One logistic regression per gap; a gap without both outcomes in training gets the outcome it had."""

    def __init__(self, models: list[Any]) -> None:
        self._models = models

    @classmethod
    def fit(cls, features: Any, targets: BoolArray, *, cost: float, seed: int) -> _OneVsRest:
        """Fit on features of shape (n, width); `cost` is the inverse strength of the L2 penalty."""
        try:
            from sklearn.linear_model import LogisticRegression
        except ImportError as exc:
            raise MissingExtraError("scikit-learn", "train") from exc
        models: list[Any] = []
        for column in targets.T:
            if column.all() or not column.any():
                models.append(float(column[0]))
                continue
            models.append(LogisticRegression(C=cost, solver="liblinear", random_state=seed).fit(features, column))
        return cls(models)

    def proba(self, features: Any) -> FloatArray:
        """Probabilities for features of shape (n, width). *Shape:* (n, 5)."""
        n_rows = features.shape[0]
        if n_rows == 0:
            return np.zeros((0, len(self._models)))
        columns = [
            np.full(n_rows, model) if isinstance(model, float) else model.predict_proba(features)[:, 1]
            for model in self._models
        ]
        return np.column_stack(columns)


def _fit_tfidf(texts: list[str], targets: BoolArray, *, seed: int) -> Baseline:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union
    except ImportError as exc:
        raise MissingExtraError("scikit-learn", "train") from exc
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=_WORD),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True),
    )
    head = _OneVsRest.fit(features.fit_transform(texts), targets, cost=_COST, seed=seed)

    def proba(new_texts: Sequence[str]) -> FloatArray:
        return head.proba(features.transform(new_texts)) if len(new_texts) else np.zeros((0, len(LABELS)))

    return proba


class _Embedder:
    """A sentence encoder: texts to unit vectors, the mean over their tokens.

    Attention is the plain ("eager") one and the network stays in evaluation mode even while it is tuned, that
    is without dropout: on a CPU both cost more time than the pairs they would help with.
    """

    def __init__(self, encoder: str | Path, *, precision: Precision = "fp32") -> None:
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
        except ImportError as exc:
            raise MissingExtraError(exc.name or "transformers", "train") from exc
        self._precision = precision
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer = AutoTokenizer.from_pretrained(encoder)
        model = AutoModel.from_pretrained(encoder, attn_implementation="eager", dtype=torch.float32)
        self._model = model.eval().to(self._device)
        self._max_tokens = min(MAX_TOKENS, self._tokenizer.model_max_length, model.config.max_position_embeddings)

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, the longest first. *Shape:* (n_texts, width)."""
        import torch

        vectors = np.zeros((len(texts), self._model.config.hidden_size))
        if not len(texts):
            return vectors
        ids = self._tokenize(texts)
        with torch.inference_mode():
            for rows in _batches([len(row) for row in ids], max_tokens=_TOKENS_PER_BATCH):
                vectors[rows] = self._forward([ids[i] for i in rows]).cpu().numpy()
        return vectors

    def tune(self, texts: Sequence[str], targets: BoolArray, *, settings: ContrastiveSettings, seed: int) -> None:
        """Move texts with the same gaps together: squared error of the pair's cosine against its likeness."""
        import torch

        ids = self._tokenize(texts)
        rng = np.random.default_rng(seed)
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=settings.learning_rate)
        for step in range(settings.n_steps):
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(step, settings.n_steps)
            pairs, likeness = sample_pairs(targets, settings.n_pairs, rng=rng)
            left, right = self._forward_grouped([ids[i] for i in pairs.T.ravel()]).chunk(2)
            wanted = torch.tensor(likeness, dtype=torch.float32, device=self._device)
            loss = torch.nn.functional.mse_loss((left * right).sum(dim=1), wanted)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
            optimizer.step()

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)
        return [list(row) for row in encoded["input_ids"]]

    def _forward_grouped(self, ids: list[list[int]]) -> Any:
        """Run rows of mixed lengths without padding all to the longest. *Shape:* (len(ids), width)."""
        import torch

        groups = _batches([len(row) for row in ids], max_tokens=_TOKENS_PER_GROUP)
        vectors = torch.cat([self._forward([ids[i] for i in rows]) for rows in groups])
        return vectors[torch.as_tensor(np.argsort(np.concatenate(groups)), device=self._device)]

    def _forward(self, ids: list[list[int]]) -> Any:
        """Run one batch of token ids. *Shape:* (len(ids), width), unit length."""
        import torch

        batch = self._tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self._device)
        mask = batch["attention_mask"].unsqueeze(-1)
        with autocast(self._precision):
            hidden = self._model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        hidden = hidden.float()
        return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1), dim=1)


def _batches(lengths: Sequence[int], *, max_tokens: int) -> list[IntArray]:
    """Cut the rows, longest first, into batches of at most `max_tokens` tokens, padding included."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        n_rows = max(1, max_tokens // max(1, lengths[order[start]]))
        batches.append(order[start : start + n_rows])
        start += n_rows
    return batches


def _rate(step: int, n_steps: int) -> float:
    """Share of the peak learning rate at a step: up over the first tenth, then down to zero."""
    n_rising = max(1, n_steps // 10)
    return min((step + 1) / n_rising, (n_steps - step) / max(1, n_steps - n_rising))
