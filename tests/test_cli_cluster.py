"""`gapnlp classify --engine-address`: the cluster's door on the command line."""

import json
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from gapnlp.cli.cluster import check_unused
from gapnlp.errors import InputError


@pytest.mark.parametrize("name", ["raw", "force", "format"])
def test_options_of_a_single_file_are_refused(name):
    with pytest.raises(InputError, match=rf"--{name} is of no use with --engine-address"):
        check_unused(**{"raw": False, "force": False, "format": None} | {name: "csv"})
    check_unused(raw=False, force=False, format=None)


def test_the_command_hands_every_option_on(monkeypatch, tmp_path):
    import typer

    import gapnlp.distributed as distributed
    from gapnlp.archive import Summary
    from gapnlp.cli.classify import classify

    calls = []

    def run(inputs, output, **options):
        calls.append((inputs, output, options["address"], options["text_column"], options["options"]))
        return Summary(output, "tiny@1.0", n_rows=3, n_failed=1)

    monkeypatch.setattr(distributed, "run_distributed", run)
    app = typer.Typer()
    app.command()(classify)
    words = "in.parquet -o out --engine-address ray://head:10001 --text-column comment --id-column id --workers 3"
    flags = "--model m --engine openvino-f32 --mask-personal-data --restart --json --quiet"
    done = CliRunner().invoke(app, [*words.split(), *flags.split()])
    assert done.exit_code == 1, "a failed row"
    assert json.loads(done.stdout)["failed"] == 1
    [(inputs, output, address, column, options)] = calls
    assert (inputs, output, address, column) == (["in.parquet"], "out", "ray://head:10001", "comment")
    expected = {"model": "m", "engine": "openvino-f32", "id_column": "id", "mask": True, "restart": True}
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.n_workers == 3


@pytest.mark.slow
def test_a_local_cluster_writes_a_folder_of_parquet(model_dir, real_texts, tmp_path):
    pytest.importorskip("ray")
    parquet.write_table(pa.table({"id": range(len(real_texts)), "comment": real_texts}), tmp_path / "in.parquet")
    command = [sys.executable, "-m", "gapnlp", "classify", tmp_path / "in.parquet", "-o", tmp_path / "out"]
    command += ["--engine-address", "local", "--workers", "2", "--model", model_dir, "--text-column", "comment"]
    done = subprocess.run(map(str, command), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{len(real_texts)} rows, 0 failed" in done.stderr
    rows = parquet.read_table(tmp_path / "out").to_pylist()
    assert [row["comment"] for row in rows] == real_texts
    assert {row["gap_model"] for row in rows} == {"tiny@1.0"}
