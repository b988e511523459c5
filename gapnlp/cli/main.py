"""The `gapnlp` command: its own commands, and those that other installed packages add to it.

A command is a plain function with Typer annotations. Its docstring is its help; the last paragraph, which
begins with `Example:`, is shown at the very end. Packages join through the entry-point group
`gapnlp.commands`, with such a function or with a `typer.Typer` of several; they are imported only when they
are called or listed.
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gapnlp.cli.audit import app as audit
from gapnlp.cli.classify import classify
from gapnlp.cli.console import escape_unprintable, presented_errors
from gapnlp.cli.explain import explain
from gapnlp.cli.gaps import gaps
from gapnlp.cli.report import report
from gapnlp.errors import GapnlpError

GROUP = "gapnlp.commands"

_EXAMPLE = re.compile(r"\s*^(?:\x08\n)?(Examples?:.*)\Z", re.MULTILINE | re.DOTALL)


class CommandGroup(TyperGroup):
    """Commands known by name, plus those of other packages, joined when they are needed."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command; a package's one is imported here, all of them if the name is unknown."""
        self._join(cmd_name)
        if cmd_name not in self.commands:
            self._join()  # so that the nearest names can be suggested
        command = super().get_command(ctx, cmd_name)
        return command and _move_example(command)

    def list_commands(self, ctx: Any) -> list[str]:
        """Return every command's name, the packages' ones last."""
        self._join()
        return super().list_commands(ctx)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for and present its errors."""
        with presented_errors():
            return super().invoke(ctx)

    def _join(self, name: str | None = None) -> None:
        """Add the packages' command of this name, or all of them; a name that is taken stays as it is."""
        for entry_point in entry_points(group=GROUP):
            if entry_point.name not in self.commands and name in (None, entry_point.name):
                self.commands[entry_point.name] = _load_command(entry_point)


def _new_app() -> typer.Typer:
    # Plain help: quick to print, and examples stay in one piece to be pasted.
    return typer.Typer(
        name="gapnlp",
        cls=CommandGroup,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
    )


def _move_example(command: Any) -> Any:
    """Move the example of a command's help to its very end, and keep its lines whole; of sub-commands too.

    A group without an example shows that of its first command.
    """
    found = _EXAMPLE.search(command.help or "")
    if found:
        command.help = command.help[: found.start()]
        command.epilog = f"\b\n{found[1].rstrip()}"
    parts = [_move_example(part) for part in getattr(command, "commands", {}).values()]
    command.epilog = command.epilog or (parts[0].epilog if parts else None)
    return command


def _load_command(entry_point: EntryPoint) -> Any:
    """Import a package's command; one that cannot be imported becomes a command that says why."""
    holder = typer.Typer(add_completion=False, rich_markup_mode=None)
    holder.callback()(lambda: None)
    try:
        loaded = entry_point.load()
    except Exception as exc:  # noqa: BLE001  whatever another package does at import, `gapnlp` must go on
        _register_missing(holder, entry_point, _what_is_missing(entry_point, exc))
    else:
        if isinstance(loaded, typer.Typer):
            holder.add_typer(loaded, name=entry_point.name)
        else:
            holder.command(entry_point.name)(loaded)
    return typer.main.get_group(holder).commands[entry_point.name]


def _register_missing(holder: typer.Typer, entry_point: EntryPoint, reason: str) -> None:
    @holder.command(
        entry_point.name,
        help=f"Not available here: {reason}",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def refuse() -> None:
        raise GapnlpError(f"the command {entry_point.name!r} is not available here: {reason}")


def _what_is_missing(entry_point: EntryPoint, exc: Exception) -> str:
    """Say why a command could not be imported, and what to install where that is known."""
    if isinstance(exc, GapnlpError):
        return str(exc)
    package = entry_point.dist.name if entry_point.dist else entry_point.module
    if not isinstance(exc, ModuleNotFoundError) or not exc.name:
        return f"{package} failed to load it ({type(exc).__name__}: {exc}); reinstall {package}"
    module = exc.name.partition(".")[0]
    if module == entry_point.module.partition(".")[0]:
        return f"{package} has no module {exc.name!r}; reinstall {package}"
    requires = (entry_point.dist.requires if entry_point.dist else None) or []
    extra = next((name for line in requires if (name := _extra_of(line, module))), None)
    remedy = f"run  pip install '{package}[{extra}]'" if extra else "install the package that has it"
    return f"it needs the module {module!r}, which is not installed: {remedy}"


def _extra_of(requirement: str, module: str) -> str | None:
    """Return the extra that a requirement such as `torch>=2; extra == "train"` brings a module in for."""
    found = re.match(r"""([\w.-]+).*extra == ['"]([\w.-]+)['"]""", requirement)
    same = found and re.sub(r"[-_.]+", "_", found[1]).lower() == module.lower()
    return found[2] if found and same else None


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"gapnlp {version('gapnlp')}")
        raise typer.Exit


app = _new_app()


@app.callback(epilog='\b\nExample:\n  gapnlp explain "Nobody told us the pool would be closed."')
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Read customers' comments as service gaps: which gap each complaint points to, and what closes it."""


app.command()(explain)
app.command()(classify)
app.command()(gaps)
app.add_typer(audit, name="audit")
app.command()(report)


def main() -> None:
    """Run the command line; exit 0 when done, 1 when some rows failed, 2 at a user's mistake."""
    escape_unprintable()
    with presented_errors():
        app()
