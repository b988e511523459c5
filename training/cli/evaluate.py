"""`gapnlp evaluate`: how good a model is on labelled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.engines import EngineName
from gapnlp.errors import MissingExtraError
from training.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model directory.")],
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Labelled rows that training never saw.")],
    *,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Another model for the same table, and what its card compares it with; may be repeated."),
    ] = None,
    baseline_data: Annotated[
        list[Path] | None, typer.Option(help="Fit the baselines on these rows, for the same table.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="What the baselines' encoder computes in. auto: bf16 on CUDA, fp32 on the CPU.")
    ] = "auto",
    engine: Annotated[EngineName, typer.Option(help="What runs the model.")] = "openvino",
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    labels_column: Annotated[str, typer.Option(help="Column of the labels: a list, or joined by ';'.")] = "labels",
    save: Annotated[bool, typer.Option("--save", help="Put the figures into the model's card.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Measure a model: precision, recall and F1 per gap, calibration, evidence, each with its interval.

    Example:  gapnlp evaluate models/mine data/test.jsonl
    """
    try:
        from training.evaluate import compare, evaluate_model, gather_contenders, load_models, read_evaluation_set
    except ImportError as exc:
        raise MissingExtraError(exc.name or "torch", "train") from exc
    from gapnlp.model_dir import load_model_dir
    from training.card import read_comparison, read_evaluation, save_evaluation
    from training.corpus import read_examples

    judged = load_model_dir(model)
    others = load_models(against or [])
    train = read_examples(baseline_data or [], text_column=text_column, labels_column=labels_column)
    evaluation: dict[str, Any] = read_evaluation(judged) if save else {"model": judged.name, "sets": {}}
    models = {judged.path.name: judged, **others}
    contenders = (
        gather_contenders(models, train=train, encoder=judged.manifest.base, precision=precision)
        if others or train
        else {}
    )
    for path in data:
        rows = read_evaluation_set(path, text_column=text_column, labels_column=labels_column)
        figures = evaluate_model(judged, rows, engine=engine)
        measured = compare(contenders, rows)
        known = {
            name: row for model in models.values() for name, row in read_comparison(model, figures["rows"]).items()
        }
        if measured or known:
            figures["comparison"] = measured | {name: known[name] for name in known if name not in measured}
        evaluation["sets"][rows.name] = figures
        if not as_json:
            _show(rows.name, figures)
    if save:
        save_evaluation(judged, evaluation)
    if as_json:
        typer.echo(json.dumps(evaluation, indent=2))


def _show(name: str, figures: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from training.card import OVERALL, figure

    scores = figures["scores"]
    fair = ", thresholds cross-fitted" if figures["cross_fitted"] else ""
    table = Table(title=f"{name}: {figures['n_rows']} rows{fair}", title_justify="left")
    for column in ("gap", "rows", "precision", "recall", "F1", "avg. precision", "calib. error"):
        table.add_column(column, justify="left" if column == "gap" else "right")
    names = ("precision", "recall", "f1", "average_precision", "calibration_error")
    for label, row in scores["labels"].items():
        cells = (f"{row[key]['value']:.3f}" if key in row else "" for key in names)
        table.add_row(label, str(row["n_positive"]), *cells)
    console = Console()
    console.print(table)
    for key, caption in OVERALL.items():
        if key in scores:
            console.print(f"{caption:<34} {figure(scores[key])}")
    if "evidence_given_label" in figures:
        console.print(f"{'evidence token-F1, label known':<34} {figures['evidence_given_label']:.3f}")
    for key, value in figures.get("agreement", {}).items():
        console.print(f"{'two readers: ' + key.replace('_', ' '):<34} {value:.3f}")
    for contender, other in figures.get("comparison", {}).items():
        console.print(f"{contender:<34} macro-F1 {figure(other['macro_f1_five'])} / {figure(other['macro_f1_six'])}")
