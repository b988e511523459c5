"""A smaller encoder of the same depth: fewer tokens in its vocabulary, fewer neurons in its feed-forward layers."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from gapnlp.errors import ConfigError
from gapnlp.model_dir import TOKENIZER
from training.encode import Encoded, collate
from training.network import GapNetwork

BATCH_SIZE = 32
BLOCK_SIZE = 32  # neurons that are taken out between two looks at what the rest would cost
DAMPING = 1e-2  # share of the mean squared activation that is added to each neuron's

Tell = Callable[[int, int], object]


def prune_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, size: int
) -> tuple[PreTrainedTokenizerBase, list[int]]:
    """Return a tokenizer of `size` tokens, and which tokens of the old one they were, in the new order.

    The tokens stay that the texts have most often, then those with the lowest ids, which the encoder's makers counted
    as frequent; special tokens and single ASCII characters stay in any case, so that every word can still be spelt
    (as in Yang, Cui & Chen, 2022, "TextPruner"). A word whose token goes is read in pieces.

    Args:
        tokenizer: One of word pieces.
        texts: Texts to count tokens in.
        size: Tokens that stay, special ones included.

    Raises:
        ConfigError: The tokenizer is of another kind, has fewer tokens, or needs more.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "WordPiece":
        raise ConfigError("model.vocab_size needs a tokenizer of word pieces, like BERT's: set it to 0")
    counts = Counter(token for ids in tokenizer(list(texts), verbose=False)["input_ids"] for token in ids)
    vocabulary: dict[str, int] = state["model"]["vocab"]
    always = {added["id"] for added in state["added_tokens"]}
    always |= {token for piece, token in vocabulary.items() if len(piece.removeprefix("##")) == 1 and piece.isascii()}
    if not len(always) <= size <= len(vocabulary):
        raise ConfigError(
            f"model.vocab_size is {size}, but this encoder can have {len(always)} to {len(vocabulary)}: "
            "choose one of these, or 0 for all"
        )
    spare = {token for piece, token in vocabulary.items() if piece.startswith("[unused")} - always
    ranked = sorted(vocabulary.values(), key=lambda token: (token not in always, token in spare, -counts[token], token))
    kept = sorted(ranked[:size])
    new = {old: index for index, old in enumerate(kept)}
    state["model"]["vocab"] = {piece: new[token] for piece, token in vocabulary.items() if token in new}
    for added in state["added_tokens"]:
        added["id"] = new[added["id"]]
    _renumber(state["post_processor"], new)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / TOKENIZER).write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder), kept


def _renumber(processor: dict[str, Any], new: dict[int, int]) -> None:
    """Give the tokens that a tokenizer puts around every text their new ids, in place."""
    for end in ("sep", "cls"):  # RobertaProcessing, BertProcessing
        if end in processor:
            processor[end][1] = new[processor[end][1]]
    for special in processor.get("special_tokens", {}).values():  # TemplateProcessing
        special["ids"] = [new[token] for token in special["ids"]]


def prune_embeddings(network: GapNetwork, kept: Sequence[int]) -> None:
    """Leave the network only the embeddings of these tokens, in this order."""
    config, embeddings = network.text.config, network.text.get_input_embeddings()
    new = {old: index for index, old in enumerate(kept)}
    embeddings.weight = _parameter(embeddings.weight[list(kept)], like=embeddings.weight)
    embeddings.num_embeddings = config.vocab_size = len(kept)
    if embeddings.padding_idx is not None:
        embeddings.padding_idx = new[embeddings.padding_idx]
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if getattr(config, name, None) is not None:
            setattr(config, name, new[getattr(config, name)])


def prune_feed_forward(network: GapNetwork, rows: Sequence[Encoded], *, width: int, pad_id: int, tell: Tell) -> None:
    """Prune every feed-forward layer of the encoder to `width` neurons, in place.

    Layer by layer from below, the neurons go whose loss changes the layer's output on the rows least, and the output
    matrix is refitted by least squares after each block (Kurtic, Frantar & Alistarh, 2023, "ZipLM: Inference-aware
    structured pruning of language models"; the closed form is that of Hassibi & Stork, 1992, "Optimal brain surgeon").

    Args:
        network: What is pruned, on the CPU.
        rows: What its activations are looked at on; labels are not used.
        width: Neurons that stay in each layer.
        pad_id: Token that rows are padded with.
        tell: Called with the layers done and their number.

    Raises:
        ConfigError: The encoder's layers are not built like BERT's, or have fewer than `width` neurons.
    """
    pairs = _feed_forward(network)
    wide = network.text.config.intermediate_size
    if width > wide:
        raise ConfigError(f"model.intermediate_size is {width}, but the encoder has {wide}: lower it, or set it to 0")
    network.eval()
    for done, (inner, outer) in enumerate(pairs, start=1):
        moment = _second_moment(network, outer, rows, pad_id=pad_id)
        weight, bias = outer.weight.detach().double(), outer.bias.detach().double()
        kept, weight, bias = _choose_neurons(weight, bias, moment, width=width)
        inner.weight, inner.bias = (_parameter(part[kept], like=part) for part in (inner.weight, inner.bias))
        outer.weight, outer.bias = (_parameter(part.float(), like=outer.weight) for part in (weight, bias))
        inner.out_features = outer.in_features = width
        tell(done, len(pairs))
    network.text.config.intermediate_size = width


def _feed_forward(network: GapNetwork) -> list[tuple[nn.Linear, nn.Linear]]:
    """Return the two matrices of each feed-forward layer, from below."""
    layers = getattr(getattr(network.text.base_model, "encoder", None), "layer", [])
    try:
        pairs = [(layer.intermediate.dense, layer.output.dense) for layer in layers]
    except AttributeError:
        pairs = []
    if not pairs:
        raise ConfigError("model.intermediate_size needs an encoder with layers like BERT's: set it to 0")
    return pairs


def _second_moment(network: GapNetwork, outer: nn.Linear, rows: Sequence[Encoded], *, pad_id: int) -> Tensor:
    """Return the sum, over all tokens, of the products of what goes into `outer`, and of 1, which its bias stands for.

    *Shape:* (n_neurons + 1, n_neurons + 1).
    """
    moment = torch.zeros((outer.in_features + 1, outer.in_features + 1), dtype=torch.float64)
    rows = sorted(rows, key=lambda row: len(row.ids))
    for start in range(0, len(rows), BATCH_SIZE):
        batch = collate(rows[start : start + BATCH_SIZE], pad_id=pad_id)
        hook = outer.register_forward_pre_hook(partial(_add, moment, batch.attention_mask.bool()))
        with torch.inference_mode():
            network(batch.input_ids, batch.attention_mask)
        hook.remove()
    return moment


def _add(moment: Tensor, mask: Tensor, _: nn.Module, inputs: tuple[Tensor]) -> None:
    with torch.autocast("cpu", enabled=False):  # it will be inverted: bf16 would not do
        activations = inputs[0][mask].float()
        activations = torch.cat([activations, activations.new_ones((len(activations), 1))], dim=1)
        moment.add_(activations.T @ activations)


def _choose_neurons(weight: Tensor, bias: Tensor, moment: Tensor, *, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return which neurons stay, and the output matrix and bias refitted to them.

    Taking out neurons P at the least squared error changes the rest by -W_P (H⁻¹_PP)⁻¹ H⁻¹_P, where H is the second
    moment; one neuron alone costs |W_p|² / H⁻¹_pp.

    Args:
        weight: Output matrix. *Shape:* (hidden, n_neurons).
        bias: *Shape:* (hidden,).
        moment: Second moment of the neurons' activations and 1. *Shape:* (n_neurons + 1, n_neurons + 1).
        width: Neurons that stay.
    """
    kept = torch.arange(weight.shape[1] + 1)
    weight = torch.cat([weight, bias[:, None]], dim=1)
    damping = DAMPING * moment.diagonal()[:-1].mean()
    inverse = torch.linalg.inv(moment + damping * torch.eye(len(moment), dtype=moment.dtype))
    while len(kept) > width + 1:
        cost = weight.square().sum(0) / inverse.diagonal()
        cost[-1] = torch.inf  # the bias stays
        order = cost.argsort()
        size = min(BLOCK_SIZE, len(kept) - width - 1)
        gone, stay = order[:size], order[size:].sort().values
        share = torch.linalg.solve(inverse[gone][:, gone], inverse[gone][:, stay])
        weight = weight[:, stay] - weight[:, gone] @ share
        inverse = inverse[stay][:, stay] - inverse[stay][:, gone] @ share
        kept = kept[stay]
    return kept[:-1], weight[:, :-1], weight[:, -1]


def _parameter(values: Tensor, *, like: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=like.requires_grad)
