"""`gapnlp train`: labelled rows in, a model directory out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapnlp.errors import MissingExtraError

if TYPE_CHECKING:
    from training.pipeline import Listener


def train(
    data: Annotated[list[Path], typer.Argument(metavar="DATA...", help="Labelled rows: JSONL, CSV, TSV or Parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the model directory goes.")],
    *,
    validation: Annotated[list[Path] | None, typer.Option(help="Rows that choose the best epoch.")] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(help="Rows that fit probabilities and thresholds; as in real archives."),
    ] = None,
    teacher: Annotated[
        list[Path] | None, typer.Option(help="Another model directory, to learn from as well; may be repeated.")
    ] = None,
    unlabelled: Annotated[
        list[Path] | None, typer.Option(help="Texts without labels, for the teachers to speak on, mostly in excerpts.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    labels_column: Annotated[str, typer.Option(help="Column of the labels: a list, or joined by ';'.")] = "labels",
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with settings that differ from the recipe's; or teacher, narrow, small, further."),
    ] = None,
    override: Annotated[
        list[str] | None, typer.Option("--set", help="One setting, as section.name=value; may be repeated.")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin again instead of going on.")] = False,
) -> None:
    """Fine-tune a model on labelled rows. An interrupted run goes on from its last epoch when repeated.

    Example:  gapnlp train mine.csv data/train.jsonl --validation data/validation.jsonl -o models/mine
    """
    try:
        from training.pipeline import TrainingRows, train_model
    except ImportError as exc:
        raise MissingExtraError(exc.name or "torch", "train") from exc
    from training.config import load_config
    from training.corpus import read_examples
    from training.table import read_texts

    def read(paths: list[Path] | None) -> list:  # type: ignore[type-arg]
        return read_examples(paths or [], text_column=text_column, labels_column=labels_column)

    settings = load_config(config, overrides=override or ())
    rows = TrainingRows(
        train=read(data),
        validation=read(validation),
        calibration=read(calibrate),
        unlabelled=[text for path in unlabelled or () for text in read_texts(path, column=text_column)],
    )
    with _shown() as listen:
        model = train_model(rows, output, config=settings, teachers=teacher or (), restart=restart, listen=listen)
    told = f"{model.name} is in {output}. Measure it on rows that training never saw:  gapnlp evaluate {output} ROWS"
    typer.echo(told, err=True)


@contextmanager
def _shown() -> Iterator[Listener]:
    """Show a progress bar on a terminal, and a line per epoch anywhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    from training import finetune

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def listen(stage: str, progress: finetune.Progress) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=progress.n_steps)
            loss = "" if progress.loss is None else f"  loss {progress.loss:.3f}"
            bar.update(tasks[stage], completed=progress.step, description=f"{stage}{loss}")
            if progress.loss is None and progress.step == progress.n_steps:
                console.print(f"{stage}  {progress.step} of {progress.n_steps} done")
            if progress.validation is not None:
                console.print(
                    f"{stage}  step {progress.step}/{progress.n_steps}  loss {progress.loss:.4f}  "
                    f"validation average precision {progress.validation:.4f}"
                )

        yield listen
