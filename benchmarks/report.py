"""What every benchmark does alike: take `--save`, judge goals, write figures and table with how and where made."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gapnlp.engines.openvino import n_cores

RESULTS = Path(__file__).parent / "results"
# What decides the speed of a processor.
FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """What was found, and how much it may be at the most."""

    name: str
    found: float
    limit: float
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Whether it is; not where nothing was found (NaN)."""
        return self.found <= self.limit


def new_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with `--save`, described by the first line of a module's docstring."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--save", type=Path, default=RESULTS, metavar="DIR", help="folder of the results")
    return parser


def write_report(
    name: str,
    figures: Figures,
    *,
    title: str,
    lines: Sequence[str],
    options: argparse.Namespace,
    goals: Sequence[Goal] = (),
) -> int:
    """Write `name.json` and `name.md`, and print the latter.

    Args:
        name: Of the benchmark's module.
        figures: What was measured, ready for JSON.
        title: The heading of the Markdown.
        lines: Its lines.
        options: What the benchmark was called with.
        goals: A table of them follows.

    Returns:
        Exit status: 1 where a goal is missed.
    """
    made = {"command": command_of(name, options), "machine": machine()}
    judged = [asdict(goal) | {"is_met": goal.is_met} for goal in goals]
    about = f"Made by `{made['command']}` on {made['machine']}."
    shown = "\n".join([f"# {title}", "", about, "", *lines, *_goal_table(goals)]).rstrip("\n") + "\n"
    options.save.mkdir(parents=True, exist_ok=True)
    whole = made | figures | ({"goals": judged} if goals else {})
    (options.save / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    (options.save / f"{name}.md").write_text(shown, encoding="utf-8")
    sys.stdout.write(shown)
    return 0 if all(goal.is_met for goal in goals) else 1


def command_of(name: str, options: argparse.Namespace) -> str:
    """Return the command that gives these figures again: each option but `--save`, of a file its name."""
    given = vars(options).items()
    return " ".join([f"python -m benchmarks.{name}", *(f for key, value in given for f in _arguments(key, value))])


def machine() -> str:
    """Say what this machine is, as far as it decides the speed."""
    found = [feature for feature in FEATURES if feature in _flags()]
    processor = f"{platform.machine()} ({', '.join(found)})" if found else platform.machine()
    return f"{processor}, {n_cores()} cores, Python {platform.python_version()}"


def say(line: str) -> None:
    """Tell on stderr how far the benchmark is."""
    sys.stderr.write(line + "\n")


def table_head(*cells: str) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [table_row(*cells), "|" + "---|" * len(cells)]


def table_row(*cells: str) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def _arguments(key: str, value: Any) -> Iterator[str]:
    if key == "save" or value is None:
        return
    for one in value if isinstance(value, list) else [value]:
        shown = one.name if isinstance(one, Path) else f"{one:g}" if isinstance(one, float) else str(one)
        yield f"--{key.replace('_', '-')} {shown}"


def _flags() -> list[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _goal_table(goals: Sequence[Goal]) -> list[str]:
    if not goals:
        return []
    rows = [
        table_row(goal.name, _shown(goal.found, goal), _shown(goal.limit, goal), "met" if goal.is_met else "missed")
        for goal in goals
    ]
    return ["", *table_head("what", "found", "at most", ""), *rows]


def _shown(value: float, goal: Goal) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{digits} {goal.unit}".strip()
