"""The model card, and the figures in it: nothing stands there that `evaluation.json` does not hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from gapnlp.model_dir import ModelDir, write_json
from gapnlp.taxonomy import LABELS, NONE, load_taxonomy

EVALUATION = "evaluation.json"
CARD = "README.md"


def read_evaluation(model: ModelDir) -> dict[str, Any]:
    """Return what was measured on this very model; no sets where nothing was yet."""
    path = model.path / EVALUATION
    if path.is_file():
        evaluation: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if evaluation.get("weights") == _weights(model):
            return evaluation
    return {"model": model.name, "weights": _weights(model), "sets": {}}


def read_comparison(model: ModelDir, rows: str) -> dict[str, Any]:
    """Return what was measured next to this very model on these rows, given by their digest, by its name."""
    for figures in read_evaluation(model)["sets"].values():
        if figures.get("rows") == rows:
            return dict(figures.get("comparison", {}))
    return {}


def save_evaluation(model: ModelDir, evaluation: Mapping[str, Any]) -> None:
    """Write `evaluation.json` and the card made of it."""
    write_json(model.path / EVALUATION, evaluation)
    write_card(model)


def write_card(model: ModelDir) -> None:
    """Write the model card from the manifest, the settings and what was measured."""
    evaluation = read_evaluation(model)
    manifest, decision = model.manifest, model.decision
    template = Template(resources.files("training").joinpath("card.md").read_text(encoding="utf-8"))
    gaps = load_taxonomy()
    card = template.substitute(
        name=manifest.name,
        version=manifest.version,
        base=manifest.base,
        codebook=manifest.codebook,
        max_length=manifest.max_length,
        fitted_on=decision.fitted_on,
        trained_on=manifest.trained_on,
        precision=f"{decision.promised_precision:.0%}",
        model_index=_model_index(evaluation),
        labels="\n".join(f"| `{label}` | {gaps[label].definition} |" for label in LABELS),
        figures="\n".join(_set_section(name, figures) for name, figures in evaluation["sets"].items())
        or "Not measured yet: run `gapnlp evaluate` with `--save`.",
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    )
    (model.path / CARD).write_text(card, encoding="utf-8")


def _weights(model: ModelDir) -> str:
    return model.manifest.files["model.safetensors"]


def _set_section(name: str, figures: Mapping[str, Any]) -> str:
    scores = figures["scores"]
    how = (
        "Probabilities and thresholds were fitted on these rows; for the figures they were cross-fitted: each row "
        "is decided by a calibration that never saw it."
        if figures["cross_fitted"]
        else "Thresholds as shipped."
    )
    lines = [f"### {name} ({figures['n_rows']} rows)", "", how, ""]
    lines += [
        "| gap | rows | precision | recall | F1 | average precision | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("precision", "recall", "f1", "average_precision", "calibration_error")
    for label in (*LABELS, NONE):
        row = scores["labels"][label]
        lines.append(f"| {label} | {row['n_positive']} | " + " | ".join(figure(row.get(key)) for key in keys) + " |")
    lines += ["", "| over all | value |", "|---|---|"]
    lines += [f"| {caption} | {figure(scores[key])} |" for key, caption in OVERALL.items() if key in scores]
    if "evidence_given_label" in figures:
        lines.append(f"| evidence token-F1 where the label is known | {figures['evidence_given_label']:.3f} |")
    for key, value in figures.get("agreement", {}).items():
        lines.append(f"| two independent readers: {key.replace('_', ' ')} | {value:.3f} |")
    if "comparison" in figures:
        lines += ["", "In one table, all with cross-fitted probabilities and thresholds:", ""]
        lines += ["| | macro-F1, five | macro-F1, six | whole label set |", "|---|---|---|---|"]
        for contender, other in figures["comparison"].items():
            cells = (figure(other[key]) for key in ("macro_f1_five", "macro_f1_six", "exact_match"))
            lines.append(f"| {contender} | {' | '.join(cells)} |")
        told = "; ".join(f"`{name}`: {words}" for name, words in OTHERS.items() if name in figures["comparison"])
        lines += ["", f"Other ways, fitted on rows of the same corpus: {told}."] if told else []
    return "\n".join([*lines, ""])


OTHERS = {
    "plain-fine-tune": "the whole base encoder, which is three times as large, fine-tuned without a teacher",
    "tfidf": "logistic regression on TF-IDF of words and characters",
    "frozen-embedding": "logistic regression on the base encoder's sentence embeddings",
    "setfit-style": "the same after the encoder was tuned on pairs of texts (Tunstall et al., 2022)",
}
OVERALL = {
    "macro_f1_five": "macro-F1 over the five gaps",
    "macro_f1_six": "macro-F1 with `none` as a sixth",
    "exact_match": "whole label set right",
    "primary_accuracy": "primary label right",
    "evidence_token_f1": "evidence token-F1",
}


def figure(values: Mapping[str, float] | None) -> str:
    """Return a figure and its interval as people read them; empty where there is none."""
    return f"{values['value']:.3f} ({values['low']:.3f}-{values['high']:.3f})" if values else ""


def _model_index(evaluation: Mapping[str, Any]) -> str:
    """Return the metrics in the shape that model hubs read, as YAML (JSON is YAML)."""
    results = [
        {
            "task": {"type": "text-classification"},
            "dataset": {"name": name, "type": name},
            "metrics": [
                {
                    "type": "f1",
                    "name": "macro-F1 over five gaps",
                    "value": round(figures["scores"]["macro_f1_five"]["value"], 4),
                }
            ],
        }
        for name, figures in evaluation["sets"].items()
    ]
    return json.dumps([{"name": evaluation["model"], "results": results}] if results else [])
