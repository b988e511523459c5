"""The recipe for Spark in the documentation does what it says."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapnlp.archive import GAP_COLUMNS, JobOptions, open_job
from gapnlp.archive.columns import PROBA_COLUMNS
from gapnlp.classifier import GapClassifier

PAGE = Path(__file__).parent.parent / "docs" / "spark.md"


def recipe():
    return re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]


def find_java():
    """Return why there is no Java for Spark; empty where there is one."""
    java = shutil.which("java", path=f"{os.environ.get('JAVA_HOME', '')}/bin{os.pathsep}{os.environ.get('PATH', '')}")
    if java is None:
        return "there is no Java here"
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', said)
    return "" if found and int(found[1]) >= 17 else f"Spark 4 needs Java 17, here is: {said.splitlines()[0]}"


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
@pytest.mark.slow
def test_the_recipe_gives_what_the_command_gives(tmp_path, real_texts, model_dir):
    if missing := find_java():
        pytest.skip(missing)
    texts = [f"{text} ({i})" if i % 10 else None for i, text in enumerate(real_texts * 4)]
    ids = [None if i == 4 else 2**60 + i for i in range(len(texts))]
    days = pa.array(range(len(texts)), pa.date32())
    table = pa.table({"id": pa.array(ids, pa.int64()), "comment": texts, "day": days})
    pq.write_table(table, tmp_path / "comments.parquet", row_group_size=60)
    (tmp_path / "label_comments.py").write_text(recipe(), encoding="utf-8")
    env = os.environ | {
        "PYSPARK_SUBMIT_ARGS": "--master local[2] --conf spark.ui.enabled=false --conf spark.driver.host=127.0.0.1 "
        "--conf spark.driver.bindAddress=127.0.0.1 --conf spark.sql.files.maxPartitionBytes=10000 pyspark-shell",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "GAPNLP_MODEL": str(model_dir),
    }
    command = [sys.executable, "label_comments.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = pq.read_table(tmp_path / "labelled.parquet").sort_by("day")  # Spark keeps no order
    single = JobOptions(inputs=(str(tmp_path / "comments.parquet"),), output=str(tmp_path / "alone.parquet"))
    with open_job(single) as job:
        job.run(GapClassifier.load(model_dir, n_threads=1))
    expected = pq.read_table(tmp_path / "alone.parquet")
    assert len(list((tmp_path / "labelled.parquet").glob("part-*"))) > 1
    assert found.schema.names == expected.schema.names
    for name in found.schema.names:
        assert found[name].type == expected[name].type, name
        if name in PROBA_COLUMNS:
            assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-5)
        else:
            assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_the_page_lists_the_columns_that_there_are():
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r'^    "(gap_\w+)": ', recipe(), re.MULTILINE)
    assert tuple(listed) == GAP_COLUMNS
    told = set(re.findall(r"`(gap_\w+)`", page.partition("## What comes out")[2]))
    assert set(GAP_COLUMNS) - told <= set(PROBA_COLUMNS)
    assert told <= set(GAP_COLUMNS)
