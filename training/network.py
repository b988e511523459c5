"""The network that is fine-tuned: a text head for the gaps and a token head for their evidence, on one encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from gapnlp.engines.torch import without_progress_bar
from gapnlp.model_dir import EVIDENCE_HEAD, WEIGHTS
from gapnlp.taxonomy import LABELS
from training.config import Weights

HEAD_SEED = 0
SMALL = 4096  # matrices with fewer elements save no space worth a digit


class GapNetwork(nn.Module):
    """Five sigmoid outputs per text and five per token.

    The text head is the encoder family's own `…ForSequenceClassification`, so that the saved folder loads in
    `transformers` as it is and gives the same numbers there. The evidence head is one linear layer on the last hidden
    state, so that evidence costs no second pass.
    """

    def __init__(self, text: PreTrainedModel) -> None:
        super().__init__()
        self.text = text
        self.evidence = nn.Linear(text.config.hidden_size, len(LABELS))
        nn.init.normal_(self.evidence.weight, std=0.02)
        nn.init.zeros_(self.evidence.bias)

    @classmethod
    def from_encoder(cls, base: str, *, layers: int, dropout: float, frozen_layers: int) -> GapNetwork:
        """Put heads on a pretrained encoder: new ones, which start the same every time, or those of a model directory.

        Args:
            base: A folder or a name on the hub.
            layers: So many of its lowest layers are taken (0: all). Top layers can go at little cost (Sajjad, Dalvi,
                Durrani & Nakov, 2023, "On the effect of dropping layers of pre-trained transformer models").
            dropout: Probability for hidden states, 0-1; attention has none.
            frozen_layers: The embeddings and so many of the lowest layers do not learn (0: everything does).
        """
        config = AutoConfig.from_pretrained(base)
        config.num_hidden_layers = layers or config.num_hidden_layers
        config.id2label = dict(enumerate(LABELS))
        config.label2id = {label: index for index, label in enumerate(LABELS)}
        config.problem_type = "multi_label_classification"
        config.hidden_dropout_prob = dropout
        config.attention_probs_dropout_prob = 0.0
        torch.manual_seed(HEAD_SEED)
        # "eager": on CPUs the backward pass of the fused attention takes about twice as long.
        with _without_load_report():
            text = AutoModelForSequenceClassification.from_pretrained(
                base, config=config, dtype=torch.float32, attn_implementation="eager"
            )
        network = cls(text)
        evidence_head = Path(base) / EVIDENCE_HEAD
        if evidence_head.is_file():
            network.evidence.load_state_dict(load_file(evidence_head))
        network._freeze(frozen_layers)
        return network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return text logits (batch, 5) and token logits (batch, seq, 5) for ids and mask of shape (batch, seq)."""
        output = self.text(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return output.logits, self.evidence(output.hidden_states[-1])

    def _freeze(self, n_layers: int) -> None:
        frozen = tuple(f".layer.{index}." for index in range(n_layers))
        for name, parameter in self.text.base_model.named_parameters():
            below = "embeddings" in name or "relative_attention_bias" in name or any(f in f".{name}" for f in frozen)
            if n_layers and below:
                parameter.requires_grad_(requires_grad=False)

    def save(self, folder: Path, *, weights: Weights) -> None:
        """Write the Hugging Face folder of the text head and the evidence head.

        Loaders widen what the files hold to float32; `round_weights` makes what is in memory equal to it.

        Args:
            folder: Where they go.
            weights: What the large matrices are stored in; everything else is stored in half precision.
        """
        self.text.config.dtype = "float32"  # what loaders compute in, whatever the file holds
        self.text.config.architectures = [type(self.text).__name__]
        self.text.config.save_pretrained(folder)
        for part, name in ((self.text, WEIGHTS), (self.evidence, EVIDENCE_HEAD)):
            stored = {key: _stored(tensor, weights=weights) for key, tensor in part.state_dict().items()}
            save_file(stored, folder / name, metadata={"format": "pt"})

    def round_weights(self, *, weights: Weights) -> None:
        """Round every weight to what `save` stores, so that memory and disk hold the same numbers."""
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(_stored(parameter, weights=weights).float())


def _stored(tensor: Tensor, *, weights: Weights) -> Tensor:
    """Return a tensor in the type that it is stored in.

    Eight bits (four of exponent, three of mantissa: Micikevicius et al., 2022, "FP8 formats for deep learning") are
    off by at most a sixteenth; over the many weights of a matrix, such errors cancel.
    """
    if weights == "fp8" and tensor.ndim == 2 and tensor.numel() >= SMALL:
        largest = torch.finfo(torch.float8_e4m3fn).max
        return tensor.detach().clamp(-largest, largest).to(torch.float8_e4m3fn).contiguous()
    return tensor.detach().half().contiguous()


@contextmanager
def _without_load_report() -> Iterator[None]:
    """Keep the report that the text head is new away from the user: it is meant to be."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_progress_bar():
            yield
    finally:
        logging.set_verbosity(verbosity)
