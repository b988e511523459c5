"""`gapnlp explain`: what one text says, and what closes the gap."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gapnlp.cli.console import out_console, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.text import Text

    from gapnlp.records import Evidence, Prediction
    from gapnlp.taxonomy import Gap

STYLES = {
    "knowledge": "bold blue",
    "policy": "bold magenta",
    "delivery": "bold red",
    "communication": "bold yellow",
    "customer": "bold cyan",
}
MAX_WIDTH = 100
BAR_WIDTH = 20
# Control characters steer a terminal: shown as U+FFFD, but for tab, newline and the \r of Windows line ends.
_CONTROLS: dict[int, str | None] = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}"),
    0x09: "\t",
    0x0A: "\n",
    0x0D: None,
}


class _Marks(NamedTuple):
    opening: str
    closing: str
    full: str
    empty: str


_UNICODE = _Marks("⟦", "⟧", "█", "░")
_ASCII = _Marks("[[", "]]", "#", ".")


def explain(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What the customer wrote; - reads stdin.")],
    *,
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="DIR", help="A model directory.", show_default="the shipped model"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for programs.")] = False,
) -> None:
    """Explain one text: its gaps, the words that show them, likely causes and what closes each gap.

    With --json the object has: text, primary, labels, probabilities (by gap), evidence (by gap: start,
    end, text), review, truncated, model, and gaps (of those found: id, name, definition, causes, questions,
    remedies).

    Example:
      gapnlp explain "They promised a call back within a day. That was two weeks ago."
    """
    from gapnlp.classifier import GapClassifier
    from gapnlp.errors import InputError

    text = _read_stdin() if text == "-" else text
    prediction = GapClassifier.load(model).predict([text])[0]
    if prediction.error:
        raise InputError(prediction.error)
    if as_json:
        print_json(explanation(text, prediction))
    else:
        _print(text, prediction)


def explanation(text: str, prediction: Prediction) -> dict[str, Any]:
    """Build the object that `--json` prints.

    Args:
        text: What the customer wrote.
        prediction: What the model says of it.

    Returns:
        `text`; `primary`, a gap's id or `none`; `labels`, the ids found, the primary first; `probabilities`
        of all five, 0 to 1, by id; `evidence` by id: `start` and `end`, character offsets into the text, and
        `text`, the passage; `review`; `truncated`; `model`, as name@version; `gaps`, in the order of
        `labels`: `id`, `name`, `definition`, `causes`, `questions`, `remedies`.
    """
    return {
        "text": text,
        "primary": prediction.primary,
        "labels": list(prediction.labels),
        "probabilities": prediction.proba_by_label,
        "evidence": {
            passage.label: {
                "start": passage.start,
                "end": passage.end,
                "text": text[passage.start : passage.end],
            }
            for passage in prediction.evidence
        },
        "review": prediction.review,
        "truncated": prediction.truncated,
        "model": prediction.model,
        "gaps": [
            {
                "id": gap.id,
                "name": gap.name,
                "definition": gap.definition,
                "causes": list(gap.causes),
                "questions": list(gap.questions),
                "remedies": list(gap.remedies),
            }
            for gap in _gaps(prediction)
        ],
    }


def cut(text: str, evidence: Iterable[Evidence]) -> list[tuple[str, tuple[str, ...]]]:
    """Cut a text wherever evidence begins or ends.

    Returns:
        The pieces in order, each with the labels it speaks for: passages may overlap, so a piece may have
        several. The pieces joined are the text.
    """
    passages = list(evidence)
    edges = sorted({0, len(text), *(p.start for p in passages), *(p.end for p in passages)})
    return [
        (text[start:end], tuple(p.label for p in passages if p.start <= start and end <= p.end))
        for start, end in pairwise(edges)
    ]


def _read_stdin() -> str:
    from gapnlp.errors import InputError

    raw = sys.stdin.buffer.read()
    try:
        return raw.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as exc:
        raise InputError(
            f"stdin: got the byte 0x{raw[exc.start]:02x} at position {exc.start}, but expected UTF-8 text: "
            "convert it first, for example with  iconv -f cp1252 -t utf-8"
        ) from exc


def _gaps(prediction: Prediction) -> list[Gap]:
    from gapnlp.taxonomy import load_taxonomy

    taxonomy = load_taxonomy()
    return [taxonomy[label] for label in prediction.labels]


def _print(text: str, prediction: Prediction) -> None:
    console = out_console()
    console.width = min(console.width, MAX_WIDTH)
    marks = _ASCII if console.options.ascii_only else _UNICODE
    marked = _marked(text, prediction, marks=marks, console=console)
    for part in (_verdict(prediction), _bars(prediction, marks), marked):
        console.print(part, end="\n\n")
    for gap in _gaps(prediction):
        _print_gap(gap, console)
    console.print(f"Model: {prediction.model}", style="dim")


def _verdict(prediction: Prediction) -> Text:
    from rich.text import Text

    if prediction.labels:
        lines = [Text("Gaps found: " if len(prediction.labels) > 1 else "Gap found: ")]
        names = [Text(gap.name, STYLES[gap.id]) for gap in _gaps(prediction)]
        lines[0].append_text(Text(", ").join(names))
        if len(names) > 1:
            lines[0].append(f" (primary: {prediction.primary})")
    else:
        lines = [Text("none: no grievance was found, so this text points to no gap.")]
    if prediction.review:
        lines.append(Text("For review: below the precision that the model promises, so a person should look."))
    if prediction.truncated:
        lines.append(Text("Truncated: the text is longer than the model reads, and its end was left out."))
    return Text("\n").join(lines)


def _bars(prediction: Prediction, marks: _Marks) -> Text:
    from rich.text import Text

    lines = []
    for label, probability in prediction.proba_by_label.items():
        n_full = round(probability * BAR_WIDTH)
        bar = marks.full * n_full + marks.empty * (BAR_WIDTH - n_full)
        found = label in prediction.labels
        line = f"{'*' if found else ' '} {label:<13} {bar} {probability:.2f}"
        lines.append(Text(line, STYLES[label] if found else "dim"))
    return Text("\n").join(lines)


def _marked(text: str, prediction: Prediction, *, marks: _Marks, console: Console) -> Text:
    from rich.text import Text

    coloured = console.color_system is not None and not console.no_color
    marked = Text()
    for piece, labels in cut(text, prediction.evidence):
        shown = piece.translate(_CONTROLS).encode(console.encoding, "replace").decode(console.encoding)
        if labels and coloured:
            marked.append(shown, f"{STYLES[labels[0]]} underline")
        elif labels:
            marked.append(f"{marks.opening}{', '.join(labels)}: {shown}{marks.closing}")
        else:
            marked.append(shown)
    return marked


def _print_gap(gap: Gap, console: Console) -> None:
    console.print(gap.name, style=STYLES[gap.id])
    console.print(fill(gap.definition, console.width, initial_indent="  ", subsequent_indent="  "))
    for heading, items in (
        ("Likely causes", gap.causes),
        ("Questions to ask", gap.questions),
        ("What closes it", gap.remedies),
    ):
        console.print(f"\n  {heading}", style="bold")
        for item in items:
            console.print(fill(item, console.width, initial_indent="  - ", subsequent_indent="    "))
    console.print()
