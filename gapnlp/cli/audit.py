"""`gapnlp audit`: how many rows to read by hand, and which."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapnlp.cli.console import err_console, out_console, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from gapnlp.archive.labelled import LabelledArchive
    from gapnlp.audit import Draw, GapPlan, Plan
    from gapnlp.prevalence.gap_score import FloatArray

WORDS_PER_MINUTE = 238  # silent reading of English, Brysbaert (2019, "How many words do we read per minute?")
SECONDS_TO_DECIDE = 15  # and to mark it; a guess, said to be one
_WIDTH = re.compile(r"(?:±|\+-|\+/-)?\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:pp|%|points?)", re.IGNORECASE)

app = typer.Typer(
    no_args_is_help=True,
    help="Read a small part of an archive by hand, for shares that hold however the model errs.",
)

Labelled = Annotated[
    list[str], typer.Argument(metavar="LABELLED...", help="What `gapnlp classify` wrote: CSV, XLSX, JSONL or Parquet.")
]
GapName = Annotated[str | None, typer.Option("--gap", metavar="GAP", help="Draw for this one gap, say a rare one.")]
TextColumn = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column with the text.", show_default="told by its name")
]
ModelDir = Annotated[
    Path | None,
    typer.Option("--model", metavar="DIR", help="The model that labelled LABELLED.", show_default="the shipped model"),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


@app.command()
def plan(
    labelled: Labelled,
    *,
    width: Annotated[str, typer.Option(metavar="POINTS", help="2pp: the share is to be known to within ±2 points.")],
    gap: GapName = None,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="How often the interval is to hold the true share.")
    ] = 0.95,
    model: ModelDir = None,
    text_column: TextColumn = None,
    as_json: AsJson = False,
) -> None:
    """Say how many rows to read by hand for an interval of a wanted width.

    Without --gap, rows are drawn at random and serve all five gaps. With --gap, more are drawn of the texts
    whose score leaves that gap in doubt, which saves much reading where it is rare.

    Example:
      gapnlp audit plan labelled.csv --width 2pp
    """
    from gapnlp.archive.labelled import read_labelled
    from gapnlp.audit import plan_audit
    from gapnlp.taxonomy import resolve_gap

    half_width = parse_width(width)
    label = resolve_gap(gap) if gap is not None else ""
    archive = read_labelled(_files(labelled), text_column=text_column)
    priors = _priors(archive, model)
    made = plan_audit(archive.proba, half_width=half_width, gap=label, confidence=confidence, priors=priors)
    if as_json:
        print_json(plan_as_dict(made, archive))
    else:
        _print_plan(made, archive, model=model)


@app.command()
def draw(
    labelled: Labelled,
    *,
    rows: Annotated[int, typer.Option(min=1, metavar="N", help="How many rows to draw.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="AUDIT", help="For the reader: .csv, .xlsx or .jsonl.")
    ],
    gap: GapName = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same rows.")] = 0,
    double: Annotated[
        str, typer.Option(metavar="PART", help="Part that a second reader reads too, such as 20%.")
    ] = "0%",
    model: ModelDir = None,
    text_column: TextColumn = None,
    id_column: Annotated[str | None, typer.Option(metavar="NAME", help="A column to copy beside the text.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace AUDIT, and what lies beside it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Draw the rows to read, in random order and without the model's answer.

    In AUDIT, put x under each gap that a text points to, and x under `read` in every row that was read, also where
    there is no gap. Then  gapnlp report LABELLED --audit AUDIT  uses it.

    Example:
      gapnlp audit draw labelled.csv --rows 400 -o audit.xlsx --double 20%
    """
    from gapnlp.archive.audit_file import AuditFiles, write_audit
    from gapnlp.archive.labelled import read_labelled, read_texts
    from gapnlp.audit import choose_design, draw_rows
    from gapnlp.taxonomy import resolve_gap

    label = resolve_gap(gap) if gap is not None else ""
    part = parse_part(double)
    files = AuditFiles.beside(output)
    _check_output(files, labelled, force=force)
    archive = read_labelled(_files(labelled), text_column=text_column)
    design = choose_design(archive.proba, rows, gap=label, priors=_priors(archive, model) if label else None)
    drawn = draw_rows(archive.proba, design, seed=seed, double=part)
    texts = read_texts(archive, archive.number[drawn.rows].tolist(), id_column=id_column)
    write_audit(files, drawn, archive=archive, texts=texts, seed=seed)
    summary = {
        "rows": len(drawn.rows),
        "gap": label or None,
        "seed": seed,
        "audit": str(files.rows),
        "plan": str(files.plan),
        "second_reader": str(files.second) if drawn.n_double else None,
        "second_reader_rows": drawn.n_double,
        "left_out": archive.n_failed,
    }
    if as_json:
        print_json(summary)
    else:
        _print_draw(drawn, archive, files=files)


def parse_width(text: str) -> float:
    """Read `2pp`, `2%` or `±2 points` as 0.02.

    Raises:
        ConfigError: It is something else, or not between 0 and 50 points.
    """
    from gapnlp.errors import ConfigError

    found = _WIDTH.fullmatch(text.strip())
    value = float(found[1]) / 100 if found else 0.0
    if not 0 < value < 0.5:
        raise ConfigError(
            f"--width {text}: expected points of a hundred, more than 0 and less than 50, such as 2pp for ±2"
        )
    return value


def parse_part(text: str) -> float:
    """Read `20%` or `0.2` as 0.2.

    Raises:
        ConfigError: It is no part from 0 to 1.
    """
    from gapnlp.errors import ConfigError

    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ConfigError(f"--double {text}: expected a part of the rows, such as 20%")
    return value


def plan_as_dict(made: Plan, archive: LabelledArchive) -> dict[str, Any]:
    """Return what `--json` prints: the plan's figures, shares and widths from 0 to 1."""
    return {
        "texts": made.n_texts,
        "left_out": archive.n_failed,
        "half_width": made.half_width,
        "confidence": made.confidence,
        "gap": made.gap or None,
        "rows": made.n_rows,
        "rows_plain_reading": made.n_plain,
        "minutes": round(reading_minutes(made.n_rows, archive)),
        "gaps": {
            item.label: {"share": item.share, "rows": item.n_rows, "rows_plain_reading": item.n_plain}
            for item in made.gaps
        },
    }


def reading_minutes(n_rows: int, archive: LabelledArchive) -> float:
    """Estimate how long a person takes to read and mark rows, in minutes."""
    return n_rows * (float(archive.n_words.mean()) / WORDS_PER_MINUTE + SECONDS_TO_DECIDE / 60)


def _files(names: list[str]) -> list[str]:
    from gapnlp.errors import InputError

    if "-" in names:
        raise InputError("an audit belongs to a file; name what  gapnlp classify  wrote, not - for stdin")
    return names


def _check_output(files: Any, labelled: list[str], *, force: bool) -> None:
    """Refuse before anything is read; the marks of a reader are work that must not be lost."""
    from gapnlp.archive.audit_rows import check_kind
    from gapnlp.archive.writer import choose_target
    from gapnlp.errors import InputError

    check_kind(str(files.rows))
    choose_target(str(files.rows), labelled)
    there = [path for path in (files.rows, files.second, files.plan) if path.exists()]
    if there and not force:
        raise InputError(
            f"{there[0]} is there already, with marks perhaps; choose another name, or replace the audit with  --force"
        )


def _priors(archive: LabelledArchive, model: Path | None) -> FloatArray | None:
    """Return the shares at which the archive's probabilities were calibrated; None, with a note, if nobody knows.

    Raises:
        ModelError: A model that was named cannot be used.
        InputError: A model that was named did not label the archive.
    """
    from gapnlp.errors import InputError, ModelError
    from gapnlp.model_dir import load_model_dir

    by = ", ".join(archive.models) or "an unknown model"
    try:
        loaded = load_model_dir(model)
        if archive.models == (loaded.name,):
            return loaded.load_validation().priors
        if model is not None:
            raise InputError(f"--model {model}: this is {loaded.name}, but the archive was labelled by {by}")
    except ModelError:
        if model is not None:
            raise
    err_console().print(
        f"Labelled by {by}: its probabilities are taken at their word. Name the model with --model DIR; where a gap is "
        "rarer here than where it was checked, fewer rows will do."
    )
    return None


def _print_plan(made: Plan, archive: LabelledArchive, *, model: Path | None) -> None:
    console = out_console()
    points = f"±{100 * made.half_width:g} points"
    what = f"the share of {made.gap}" if made.gap else "the share of every gap"
    _warn_left_out(archive)
    console.print(
        f"Read {made.n_rows:,} of {made.n_texts:,} texts by hand to know {what} to within {points}.", style="bold"
    )
    console.print(
        f"That is: an interval {200 * made.half_width:g} points wide, {100 * made.half_width:g} on each side, "
        f"that holds the true share {made.confidence:.0%} of the time.\n"
        f"Time: about {_duration(reading_minutes(made.n_rows, archive))} for one reader "
        f"({archive.n_words.mean():.0f} words a text on average at {WORDS_PER_MINUTE} words a minute, "
        f"{SECONDS_TO_DECIDE} seconds to decide)."
    )
    console.print(_plan_table(made))
    console.print(_plan_advice(made))
    typer.echo(f"\nNext:  {_draw_command(made, archive, model=model)}")  # in one piece, to be pasted


def _plan_table(made: Plan) -> Table:
    from rich import box
    from rich.table import Table

    table = Table("gap", box=box.SIMPLE_HEAD)
    for heading in ("share foretold", "rows to read", "without model", "saved"):
        table.add_column(heading, justify="right")
    for item in made.gaps:
        table.add_row(item.label, f"{item.share:.1%}", f"{item.n_rows:,}", f"{item.n_plain:,}", _saving(item))
    return table


def _plan_advice(made: Plan) -> str:
    if made.gap:
        how = (
            f"The rows are drawn for {made.gap}: more of those texts whose score leaves it in doubt, some of all "
            "others. The other gaps get an interval as well, a wider one."
        )
    else:
        needy = max(made.gaps, key=lambda item: item.n_rows)
        how = (
            f"The rows are drawn at random and serve all gaps at once; {needy.label} needs the most. "
            "For one rare gap alone, --gap NAME needs fewer."
        )
    return (
        f"{how}\nThe model saves reading where its scores are good. If they are worse than they claim, the "
        "interval comes out wider than planned; it holds all the same."
    )


def _saving(item: GapPlan) -> str:
    return f"{max(1 - item.n_rows / item.n_plain, 0):.0%}"


def _draw_command(made: Plan, archive: LabelledArchive, *, model: Path | None) -> str:
    import shlex

    names = " ".join(shlex.quote(name) for name in archive.names)
    option = f" --gap {made.gap}" if made.gap else ""
    option += f" --model {shlex.quote(str(model))}" if model is not None else ""
    return f"gapnlp audit draw {names} --rows {made.n_rows}{option} -o audit.xlsx"


def _print_draw(drawn: Draw, archive: LabelledArchive, *, files: Any) -> None:
    import shlex

    _warn_left_out(archive)
    console = err_console()
    how = f"drawn for {drawn.design.gap}" if drawn.design.gap else "drawn at random"
    minutes = reading_minutes(len(drawn.rows), archive)
    console.print(
        f"{files.rows}: {len(drawn.rows):,} of {len(archive.proba):,} texts, {how}; about {_duration(minutes)}"
    )
    if drawn.n_double:
        console.print(f"{files.second}: the first {drawn.n_double:,} of them, for a second reader who reads alone")
    console.print(f"{files.plan}: how they were drawn; keep it beside them, and away from the readers")
    names = " ".join(shlex.quote(name) for name in archive.names)
    console.print(
        "\nPut x under each gap that a text points to, and x under 'read' in every row you have read, also where there "
        "is no gap.\nThe order is random: you may stop at any row, and what is not marked as read does not count."
    )
    typer.echo(f"Then:  gapnlp report {names} --audit {shlex.quote(str(files.rows))} -o report.html", err=True)


def _warn_left_out(archive: LabelledArchive) -> None:
    if archive.n_failed:
        err_console().print(f"{archive.n_failed:,} rows have no labels (see gap_error) and are left out.")


def _duration(minutes: float) -> str:
    """Put a time into words, rounded up: 50 minutes, 2 h 10 min."""
    if minutes < 60:
        return f"{max(math.ceil(minutes / 5) * 5, 5)} minutes"
    tens = math.ceil(minutes / 10) * 10
    return f"{tens // 60} h {tens % 60} min" if tens % 60 else f"{tens // 60} h"
