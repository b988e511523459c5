from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gapnlp.cli.console import err_console, out_console, print_json
from gapnlp.cli.main import app
from gapnlp.taxonomy import LABELS, load_taxonomy

RUN_MAIN = [sys.executable, "-c", "from gapnlp.cli.main import main; main()"]
HEAVY = {
    "torch",
    "transformers",
    "spacy",
    "sklearn",
    "pandas",
    "pyarrow",
    "onnxruntime",
    "openvino",
    "numpy",
    "tokenizers",
    "rich",
}

AddPlugin = Callable[..., None]


def run(*args: str) -> Any:
    return CliRunner().invoke(app, list(args), prog_name="gapnlp")


def run_process(*args: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RUN_MAIN, *args], capture_output=True, text=True, check=False, **settings)


@pytest.fixture
def add_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AddPlugin]:
    """Install a package of one module, with commands, for this test and the processes that it starts."""

    def add(module: str, code: str, *, commands: str, metadata: str = "") -> None:
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n{metadata}")
        (info / "entry_points.txt").write_text(f"[gapnlp.commands]\n{commands}\n")

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


def paths_of_commands() -> list[tuple[str, ...]]:
    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        if hasattr(command, "list_commands"):
            with command.make_context("gapnlp", [], resilient_parsing=True) as ctx:
                for name in command.list_commands(ctx):
                    yield from walk(command.get_command(ctx, name), (*path, name))

    return list(walk(typer.main.get_command(app), ()))


# The command line as a whole


def test_help_lists_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in ("explain", "classify", "gaps", "corpus", "train", "evaluate"):
        assert f"\n  {name} " in result.stdout
    assert "completion" not in result.stdout
    assert "Not available" not in result.stdout


@pytest.mark.parametrize("path", paths_of_commands(), ids=" ".join)
def test_every_help_ends_with_an_example(path: tuple[str, ...]) -> None:
    result = run(*path, "--help")
    assert result.exit_code == 0, result.stderr
    last = result.stdout.rstrip().rpartition("Example")[2]
    assert " ".join(("gapnlp", *path)) in last, "the example shows this very command"
    assert "Options:" not in last, "and nothing comes after it"


def test_help_is_fast_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from gapnlp.cli.main import main
try:
    main()
finally:
    heavy = {HEAVY} & set(sys.modules)
    assert not heavy, heavy
"""
    fastest = 60.0
    for _ in range(5):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
        fastest = min(fastest, time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
        if fastest <= 0.5:
            break
    assert fastest <= 0.5


def test_version() -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"gapnlp {version('gapnlp')}\n")


def test_unknown_command_offers_the_nearest(add_plugin: AddPlugin) -> None:
    add_plugin("plug", "def weigh():\n    'Weigh.'\n", commands="weigh = plug:weigh")
    assert "'classify'" in run("clasify").stderr
    result = run("wiegh")
    assert result.exit_code == 2
    assert "'weigh'" in result.stderr


# Errors


def test_a_users_mistake_is_one_message_and_exit_2() -> None:
    done = run_process("gaps", "delivry")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "did you mean 'delivery'?" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(add_plugin: AddPlugin) -> None:
    add_plugin("plug", "def fail():\n    'Fail.'\n    1 / 0\n", commands="fail = plug:fail")
    done = run_process("fail")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_interrupt_is_one_line_and_exit_130(add_plugin: AddPlugin) -> None:
    code = """
import os, signal, time
def wait():
    "Wait."
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(9)
"""
    add_plugin("plug", code, commands="wait = plug:wait")
    done = run_process("wait")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("how", ["print", "rich"])
def test_closed_pipe_is_quiet(add_plugin: AddPlugin, how: str) -> None:
    line = "print('x' * 999)" if how == "print" else "out_console().print('x' * 999)"
    code = f"""
from gapnlp.cli.console import out_console
def pour():
    "Pour."
    while True:
        {line}
"""
    add_plugin("plug", code, commands="pour = plug:pour")
    with subprocess.Popen([*RUN_MAIN, "pour"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=30) == 141


def test_pipe_closed_before_the_last_flush_is_quiet() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        for args in (["gaps", "1", "--json"], ["gaps"], ["--help"], ["--version"]):
            done = subprocess.run([*RUN_MAIN, *args], stdout=closed, stderr=subprocess.PIPE, env=buffered, check=False)
            assert done.returncode == 141 if args[0] == "gaps" else done.returncode > 0
            assert done.stderr == b"", args


# Commands of other packages


def test_a_function_joins_as_a_command(add_plugin: AddPlugin) -> None:
    code = """
def weigh(what: str):
    '''Weigh it.

    Example: gapnlp weigh tea
    '''
    print(len(what), "g")
"""
    add_plugin("plug", code, commands="weigh = plug:weigh")
    assert run("weigh", "tea").stdout == "3 g\n"
    assert "  weigh " in run("--help").stdout
    assert run("weigh", "--help").stdout.rstrip().endswith("Example: gapnlp weigh tea")


def test_a_typer_app_joins_as_a_group(add_plugin: AddPlugin) -> None:
    code = """
import typer
app = typer.Typer(help="Shelves.")
@app.command()
def add(): print("added")
@app.command()
def drop(): print("dropped")
"""
    add_plugin("plug", code, commands="shelf = plug:app")
    assert run("shelf", "drop").stdout == "dropped\n"
    assert "Shelves." in run("--help").stdout


def test_own_commands_cannot_be_replaced(add_plugin: AddPlugin) -> None:
    add_plugin("plug", "def gaps():\n    print('mine')\n", commands="gaps = plug:gaps")
    assert "mine" not in run("gaps").stdout


def test_packages_are_imported_only_when_needed(add_plugin: AddPlugin) -> None:
    add_plugin("plug", "raise SystemExit('imported')\n", commands="weigh = plug:weigh")
    assert run("gaps", "1").exit_code == 0
    assert run("gaps", "--help").exit_code == 0


NOT_LOADED = {
    "extra": ("import scale_lib\n", "run  pip install 'plug[scales]'"),
    "unknown module": ("import nowhere_lib.part\n", "'nowhere_lib', which is not installed"),
    "said by itself": (
        "from gapnlp.errors import MissingExtraError\nraise MissingExtraError('scales', 'weighing')\n",
        "pip install 'gapnlp[weighing]'",
    ),
    "fault": ("1 / 0\n", "ZeroDivisionError"),
    "no such function": ("", "reinstall plug"),
}


@pytest.mark.parametrize("case", NOT_LOADED)
def test_a_command_that_cannot_load_says_why_and_breaks_nothing(add_plugin: AddPlugin, case: str) -> None:
    code, reason = NOT_LOADED[case]
    requires = "Requires-Dist: numpy\nRequires-Dist: Scale-Lib>=2; extra == 'scales'\n"
    add_plugin("plug", code, commands="weigh = plug:weigh", metadata=requires)
    shown = run("--help")
    assert shown.exit_code == 0
    assert "  weigh " in shown.stdout
    called = run("weigh", "tea", "--fast", "-o", "x")
    assert called.exit_code == 2
    assert "'weigh' is not available here" in called.stderr
    assert reason in called.stderr
    assert "Traceback" not in called.stderr


def test_a_package_whose_own_module_is_gone_is_to_be_reinstalled(add_plugin: AddPlugin) -> None:
    add_plugin("plug", "", commands="weigh = plug.inner:weigh")
    assert "plug has no module 'plug.inner'; reinstall plug" in run("weigh").stderr


# gapnlp gaps


def test_gaps_shows_the_five() -> None:
    result = run("gaps")
    assert result.exit_code == 0
    for gap in load_taxonomy().gaps:
        assert gap.id in result.stdout
        assert gap.name in result.stdout
    assert "1985" in result.stdout


@pytest.mark.parametrize("name", ["communication", "Promise-Gap", "gap 4", "4"])
def test_gaps_shows_the_full_card_of_one(name: str) -> None:
    shown = " ".join(run("gaps", name).stdout.split())
    gap = load_taxonomy()["communication"]
    for line in (gap.name, gap.definition, *gap.names, *gap.causes, *gap.questions, *gap.remedies):
        assert line in shown


def test_gaps_as_json() -> None:
    everything = json.loads(run("gaps", "--json").stdout)
    assert [gap["id"] for gap in everything["gaps"]] == list(LABELS)
    assert everything["version"] == load_taxonomy().version
    assert everything["source"] == load_taxonomy().source
    one = json.loads(run("gaps", "3", "--json").stdout)
    assert one == everything["gaps"][2]
    assert set(one) == {"id", "number", "name", "names", "definition", "causes", "questions", "remedies"}


def test_stdout_that_knows_only_ascii_suffices() -> None:
    settings = {"env": os.environ | {"PYTHONIOENCODING": "ascii"}}
    done = run_process("gaps", "customer", "--json", **settings)
    assert json.loads(done.stdout)["names"] == list(load_taxonomy()["customer"].names)
    for args in (["gaps"], ["gaps", "customer"]):
        done = run_process(*args, **settings)
        assert (done.returncode, done.stderr) == (0, "")


# Printing


def test_json_escapes_what_utf8_cannot_carry_and_refuses_nan(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stdout)
    print_json({"é": "\ud800"})
    print_json("é")
    with pytest.raises(ValueError, match="JSON"):
        print_json(float("nan"))
    stdout.seek(0)
    assert stdout.read() == '{\n  "\\u00e9": "\\ud800"\n}\n"é"\n'


def test_consoles_print_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    out_console().print("[bold]data[/bold] :smile:")
    err_console().print("[bold]message")
    assert capsys.readouterr() == ("[bold]data[/bold] :smile:\n", "[bold]message\n")
