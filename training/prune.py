"""Narrower feed-forward layers: neurons are taken out, and those that stay are refitted to stand in for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gapnlp.errors import ConfigError
from training.encode import Encoded, collate
from training.network import GapNetwork

BATCH_SIZE = 32
BLOCK_SIZE = 32  # neurons that are taken out between two looks at what the rest would cost
DAMPING = 1e-2  # share of the mean squared activation that is added to each neuron's

Tell = Callable[[int, int], object]


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
        ConfigError: The encoder's layers are not built like BERT's, or have no more than `width` neurons.
    """
    pairs = _feed_forward(network)
    wide = network.text.config.intermediate_size
    if width > wide:
        raise ConfigError(f"model.intermediate_size is {width}, but the encoder has {wide}: lower it, or set it to 0")
    network.eval()
    for done, (inner, outer) in enumerate(pairs, start=1):
        moment = _second_moment(network, outer, rows, pad_id=pad_id)
        kept, weight = _choose_neurons(outer.weight.detach().double(), moment, width=width)
        _resize(inner, weight=inner.weight[kept], bias=inner.bias[kept])
        _resize(outer, weight=weight.float(), bias=outer.bias)
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
    """Return the sum, over all tokens, of the products of what goes into `outer`. *Shape:* (n_neurons, n_neurons)."""
    moment = torch.zeros((outer.in_features, outer.in_features), dtype=torch.float64)
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
        moment.add_(activations.T @ activations)


def _choose_neurons(weight: Tensor, moment: Tensor, *, width: int) -> tuple[Tensor, Tensor]:
    """Return which neurons stay, and the output matrix refitted to them.

    Taking out neurons P at the least squared error changes the rest by -W_P (H⁻¹_PP)⁻¹ H⁻¹_P, where H is the second
    moment; one neuron alone costs |W_p|² / H⁻¹_pp.

    Args:
        weight: Output matrix. *Shape:* (hidden, n_neurons).
        moment: Second moment of the neurons' activations. *Shape:* (n_neurons, n_neurons).
        width: Neurons that stay.
    """
    kept = torch.arange(weight.shape[1])
    damping = DAMPING * moment.diagonal().mean()
    inverse = torch.linalg.inv(moment + damping * torch.eye(len(moment), dtype=moment.dtype))
    while len(kept) > width:
        cost = weight.square().sum(0) / inverse.diagonal()
        order = cost.argsort()
        size = min(BLOCK_SIZE, len(kept) - width)
        gone, stay = order[:size], order[size:].sort().values
        share = torch.linalg.solve(inverse[gone][:, gone], inverse[gone][:, stay])
        weight = weight[:, stay] - weight[:, gone] @ share
        inverse = inverse[stay][:, stay] - inverse[stay][:, gone] @ share
        kept = kept[stay]
    return kept, weight


def _resize(dense: nn.Linear, *, weight: Tensor, bias: Tensor) -> None:
    learns = dense.weight.requires_grad
    dense.weight = nn.Parameter(weight.detach().clone(), requires_grad=learns)
    dense.bias = nn.Parameter(bias.detach().clone(), requires_grad=learns)
    dense.out_features, dense.in_features = dense.weight.shape
