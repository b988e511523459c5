"""Labelling past one machine: partitions, workers, and the Ray that joins them."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, fields
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gapnlp.archive import GAP_COLUMNS, JobOptions, Summary, Watch, open_job
from gapnlp.classifier import GapClassifier
from gapnlp.distributed import PartitionOptions, classify_partitions, load_once, run_distributed
from gapnlp.distributed.output import MARK, SUCCESS, OutputFolder
from gapnlp.distributed.plan import common_schema, cut, fingerprint, look_into
from gapnlp.distributed.run import add_up, follow, with_whole_paths
from gapnlp.distributed.storage import expand, list_names, publish
from gapnlp.distributed.worker import Worker, WorkerOptions
from gapnlp.errors import ColumnError, ConfigError, InputError, MissingExtraError

PAGE = Path(__file__).parent.parent / "docs" / "ray.md"
TEXTS = ("slow", "promised", "fine", None, "slow promised", "", "the rest")


@pytest.fixture
def fake(loads):
    """The fake engine for every load, and no model left from another test."""
    load_once.cache_clear()
    yield loads
    load_once.cache_clear()


@pytest.fixture
def parquet_file(tmp_path):
    """22 rows in row groups of 5, with types that must stay, and texts that cannot be read."""
    table = pa.table(
        {
            "id": pa.array([None if i == 4 else 2**60 + i for i in range(22)], pa.int64()),
            "text": [TEXTS[i % 7] for i in range(22)],
            "when": pa.array([i * 10**9 for i in range(22)], pa.timestamp("us", tz="UTC")),
            "tags": pa.array([["a", str(i)] for i in range(22)]),
            "branch": pa.array(["Leeds", "York"] * 11).dictionary_encode(),
        }
    ).replace_schema_metadata({"made by": "somebody"})
    path = tmp_path / "in.parquet"
    pq.write_table(table, path, row_group_size=5)
    return path


def label(*inputs, output, text_column="text", watch=None, **options):
    """Do what `classify_partitions` does, in this process and without Ray."""
    options = PartitionOptions(**options)
    files = [look_into(url, text_column=text_column, id_column=options.id_column) for url in expand(inputs)]
    scored_by = GapClassifier.load(options.model).fingerprint
    folder = OutputFolder(str(output), fingerprint=fingerprint(files, options=options, scored_by=scored_by))
    worker = Worker(
        WorkerOptions(
            output=str(output),
            schema=common_schema(files),
            model=options.model,
            engine=options.engine,
            scored_by=scored_by,
            n_threads=options.n_threads,
            mask=options.mask,
            id_column=options.id_column,
            done=frozenset(folder.begin(restart=options.restart)),
        )
    )
    rows = [asdict(partition) for partition in cut(files, n_rows=options.partition_rows)]
    batches = ({key: [value] for key, value in row.items()} for row in rows)
    reports = (json.loads(worker(batch)["report"][0]) for batch in batches)
    summary = Summary(str(output), "tiny@1.0")
    add_up(follow(reports, folder, watch=watch or Watch()), summary)
    folder.finish(summary.as_dict())
    return summary


def on_one_machine(*inputs, output, classifier=None, **options):
    with open_job(JobOptions(inputs=tuple(map(str, inputs)), output=str(output), **options)) as job:
        summary = job.run(classifier or GapClassifier.load())
    return pq.read_table(output), summary


def parts(folder):
    return sorted(Path(folder).glob("part-*.parquet"))


def joined(folder):
    return pa.concat_tables([pq.read_table(path) for path in parts(folder)])


def as_text(path):
    """Write the text column of a Parquet file as CSV and JSON lines, with rows that cannot be read as they stand."""
    texts = pq.read_table(path)["text"].to_pylist()
    lines = [f'{i},"{text or ""}"' for i, text in enumerate(texts)]
    path.with_suffix(".csv").write_text("\n".join(["id,text", *lines[:9], "9,a,b,c", *lines[10:]]) + "\n")
    objects = [json.dumps({"id": i, "text": text}) for i, text in enumerate(texts)]
    path.with_suffix(".jsonl").write_text("\n".join([*objects[:9], "{broken", *objects[10:]]) + "\n")


def test_types_and_values_are_those_of_one_machine(tmp_path, parquet_file, fake):
    summary = label(str(parquet_file), output=tmp_path / "out", partition_rows=4, id_column="id")
    expected, alone = on_one_machine(
        parquet_file, output=tmp_path / "alone.parquet", text_column="text", id_column="id"
    )
    assert [path.name for path in parts(tmp_path / "out")] == [f"part-{i:06d}.parquet" for i in range(6)]
    assert [pq.read_metadata(path).num_rows for path in parts(tmp_path / "out")] == [4, 4, 4, 4, 4, 2]
    found = joined(tmp_path / "out")
    assert found.schema.equals(expected.schema, check_metadata=True)
    assert found.equals(expected)
    assert pq.read_table(tmp_path / "out").equals(expected)  # what any reader of Parquet folders sees
    ignored = ("output", "seconds", "rows_per_second", "failures", "duplicates")
    assert {k: v for k, v in summary.as_dict().items() if k not in ignored} == {
        k: v for k, v in alone.as_dict().items() if k not in ignored
    }
    assert summary.n_failed == 6
    assert summary.failures[0].startswith(f"{parquet_file}, row 4 (id {2**60 + 3}): got no text (an empty cell), but")
    assert len(summary.failures) == 5


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_that_cannot_be_read_say_why_and_the_rest_goes_on(tmp_path, parquet_file, fake, suffix):
    as_text(parquet_file)
    path = parquet_file.with_suffix(suffix)
    label(str(path), output=tmp_path / "out", partition_rows=4)
    expected, _ = on_one_machine(path, output=tmp_path / "alone.parquet", text_column="text")
    found = joined(tmp_path / "out")
    assert found.equals(expected)
    assert "line 1" in found["gap_error"][9].as_py()
    assert found["gap_primary"][14].as_py() == "delivery"


def test_several_inputs_share_one_schema(tmp_path, parquet_file, fake):
    as_text(parquet_file)
    inputs = [str(parquet_file), str(parquet_file.with_suffix(".csv"))]
    label(*inputs, output=tmp_path / "out", partition_rows=10)
    expected, _ = on_one_machine(*inputs, output=tmp_path / "alone.parquet", text_column="text")
    assert [pq.read_metadata(path).num_rows for path in parts(tmp_path / "out")] == [10, 10, 2, 10, 10, 2]
    assert {str(pq.read_schema(path)) for path in parts(tmp_path / "out")} == {str(expected.schema)}
    assert joined(tmp_path / "out").to_pylist() == expected.to_pylist()


def test_masking_masks_what_is_written(tmp_path, fake):
    (tmp_path / "in.csv").write_text("id,text\n1,slow for ada@example.org\n2,ada@example.org,x,y\n")
    label(str(tmp_path / "in.csv"), output=tmp_path / "out", mask=True)
    expected, _ = on_one_machine(tmp_path / "in.csv", output=tmp_path / "alone.parquet", mask=True)
    assert joined(tmp_path / "out").equals(expected)
    assert "[email]" in joined(tmp_path / "out")["text"][0].as_py()
    assert "ada@" not in str(joined(tmp_path / "out").to_pylist())


def test_an_archive_without_rows_has_the_columns(tmp_path, fake):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in.parquet")
    assert label(str(tmp_path / "in.parquet"), output=tmp_path / "out").n_rows == 0
    assert pq.read_table(tmp_path / "out").schema.names == ["text", *GAP_COLUMNS]


def test_object_storage_for_inputs_and_output(parquet_file, tmp_path, fake):
    as_text(parquet_file)
    store = fsspec.filesystem("memory")
    for path in (parquet_file, parquet_file.with_suffix(".csv")):
        store.put_file(str(path), f"/bucket/in/{path.name}")
    store.pipe_file("/bucket/in/_SUCCESS", b"")
    try:
        summary = label("memory://bucket/in", output="memory://bucket/out", partition_rows=10)
        expected, _ = on_one_machine(
            *(parquet_file.with_suffix(".csv"), parquet_file), output=tmp_path / "alone.parquet", text_column="text"
        )
        names = sorted(list_names("memory://bucket/out"))
        assert names == [SUCCESS, MARK, *(f"part-{i:06d}.parquet" for i in range(6))]
        assert pq.read_table("/bucket/out", filesystem=store).to_pylist() == expected.to_pylist()
        assert summary.failures[0].startswith("memory://")
        assert expand(["memory://bucket/in/*.csv"]) == ["memory:///bucket/in/in.csv"]
    finally:
        store.rm("/bucket", recursive=True)


def test_each_stretch_reads_its_own_row_groups_alone(tmp_path, parquet_file, monkeypatch):
    read = []
    iter_batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *a, **k: read.append(k.get("row_groups")) or iter_batches(self, *a, **k),
    )
    from gapnlp.distributed.rows import opened

    with opened(str(parquet_file), range(9, 12), text_column="text") as item:
        rows = [row.values["id"] - 2**60 for chunk in item.source.chunks(100) for row in chunk.rows]
    assert rows == [9, 10, 11]
    assert read[0] == [1, 2]


def test_a_second_run_skips_what_is_done(tmp_path, parquet_file, fake):
    label(str(parquet_file), output=tmp_path / "out", partition_rows=4)
    expected = joined(tmp_path / "out")
    for path in (parts(tmp_path / "out")[2], tmp_path / "out" / SUCCESS):
        path.unlink()
    times = {path: path.stat().st_mtime_ns for path in parts(tmp_path / "out")}
    told = {"labelled": [], "kept": []}
    watch = Watch(on_rows=told["labelled"].append, on_kept=told["kept"].append)
    summary = label(str(parquet_file), output=tmp_path / "out", partition_rows=4, watch=watch)
    assert (summary.n_rows, summary.n_kept, summary.n_failed) == (22, 18, 6)
    assert told == {"labelled": [4], "kept": [4, 4, 4, 4, 2]}
    assert all(path.stat().st_mtime_ns == at for path, at in times.items())
    assert joined(tmp_path / "out").equals(expected)
    assert (tmp_path / "out" / SUCCESS).is_file()


def test_a_torn_file_is_done_again(tmp_path, parquet_file, fake):
    label(str(parquet_file), output=tmp_path / "out", partition_rows=10)
    expected = joined(tmp_path / "out")
    torn = parts(tmp_path / "out")[1]
    torn.write_bytes(torn.read_bytes()[:100])
    assert label(str(parquet_file), output=tmp_path / "out", partition_rows=10).n_kept == 12
    assert joined(tmp_path / "out").equals(expected)


def test_what_dead_workers_left_is_cleared_away(tmp_path, parquet_file, fake):
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / ".part-000000.parquet.0123abcd.part"
    left.write_bytes(b"half")
    label(str(parquet_file), output=tmp_path / "out")
    assert not left.exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"partition_rows": 7}, "rows in a partition"),
        ({"mask": True}, "masking of personal data"),
        ({"text_column": "branch"}, "text columns"),
    ],
)
def test_two_jobs_never_share_an_output(tmp_path, parquet_file, fake, change, named):
    label(str(parquet_file), output=tmp_path / "out", partition_rows=4)
    before = joined(tmp_path / "out")
    with pytest.raises(InputError, match=f"another job, with other {named}.* --restart"):
        label(str(parquet_file), output=tmp_path / "out", **{"partition_rows": 4, **change})
    assert joined(tmp_path / "out").equals(before)
    label(str(parquet_file), output=tmp_path / "out", restart=True, **{"partition_rows": 4, **change})
    assert len(parts(tmp_path / "out")) == (4 if "partition_rows" in change else 6)


def renamed(classifier):
    classifier.fingerprint += " in another precision"
    return classifier


def test_a_changed_input_or_model_is_another_job(tmp_path, parquet_file, fake, monkeypatch):
    label(str(parquet_file), output=tmp_path / "out")
    load = GapClassifier.load
    with monkeypatch.context() as patch:
        patch.setattr(GapClassifier, "load", lambda *a, **k: renamed(load(*a, **k)))
        with pytest.raises(InputError, match="with other model or engine"):
            label(str(parquet_file), output=tmp_path / "out")
    os.utime(parquet_file, (1, 1))
    with pytest.raises(InputError, match="with other inputs"):
        label(str(parquet_file), output=tmp_path / "out")


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_somebody_elses_is_left_alone(tmp_path, parquet_file, fake, restart):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-000000.parquet").write_bytes(b"precious")
    with pytest.raises(InputError, match="holds something else"):
        label(str(parquet_file), output=tmp_path / "out", restart=restart)
    assert (tmp_path / "out" / "part-000000.parquet").read_bytes() == b"precious"


def test_a_damaged_mark_is_refused_unless_begun_again(tmp_path, parquet_file, fake):
    label(str(parquet_file), output=tmp_path / "out")
    (tmp_path / "out" / MARK).write_text("{")
    with pytest.raises(InputError, match=f"{MARK} is damaged"):
        label(str(parquet_file), output=tmp_path / "out")
    assert label(str(parquet_file), output=tmp_path / "out", restart=True).n_kept == 0


def test_rows_on_which_the_model_failed_are_tried_again(tmp_path, parquet_file, fake, monkeypatch):
    predict = GapClassifier.predict

    def fail(self, texts, **others):
        if any("fine" in text for text in texts if text):
            raise MemoryError
        return predict(self, texts, **others)

    monkeypatch.setattr(GapClassifier, "predict", fail)
    summary = label(str(parquet_file), output=tmp_path / "out", partition_rows=4)
    assert summary.n_failed == 9
    assert summary.notes == ["on 3 rows the model failed for a reason that may pass; the same call tries them again"]
    assert json.loads((tmp_path / "out" / MARK).read_text())["again"] == [f"part-{i:06d}.parquet" for i in (0, 2, 4)]
    monkeypatch.setattr(GapClassifier, "predict", predict)
    again = label(str(parquet_file), output=tmp_path / "out", partition_rows=4)
    assert (again.n_failed, again.n_kept, again.notes) == (6, 10, [])
    assert json.loads((tmp_path / "out" / MARK).read_text())["again"] == []


def test_a_damaged_partition_costs_no_other(tmp_path, parquet_file, fake):
    """The last row group is damaged, which nobody sees before it is read."""
    good = tmp_path / "a.parquet"
    shutil.copy(parquet_file, good)
    bad = tmp_path / "b.parquet"
    content = bytearray(parquet_file.read_bytes())
    place = pq.read_metadata(parquet_file).row_group(4).column(1).data_page_offset
    content[place : place + 30] = bytes(30)
    bad.write_bytes(content)
    with pytest.raises(InputError, match=r"1 of 6 partitions could not be labelled.*b\.parquet, rows 21 to 22"):
        label(str(good), str(bad), output=tmp_path / "out", partition_rows=10)
    assert len(parts(tmp_path / "out")) == 5
    assert not (tmp_path / "out" / SUCCESS).exists()


def test_a_worker_with_another_model_refuses(tmp_path, parquet_file, fake):
    options = WorkerOptions(
        output=str(tmp_path / "out"),
        schema=pq.read_schema(parquet_file),
        model=None,
        engine=None,
        scored_by="another@1.0",
        n_threads=1,
        mask=False,
        id_column=None,
        done=frozenset(),
    )
    file = look_into(str(parquet_file), text_column="text")
    report = Worker(options).label(cut([file], n_rows=100)[0])
    assert "this worker would score with 'tiny@1.0" in report["error"]
    assert "openvino-f32" in report["error"]
    assert not (tmp_path / "out").exists()


def test_a_model_is_loaded_once_with_its_share_of_threads(fake):
    assert load_once(n_threads=3) is load_once(n_threads=3)
    assert fake == [(None, 3)]


def test_folders_and_globs_become_files_in_a_fixed_order(tmp_path):
    for name in ("b.csv", "a.csv", "_SUCCESS", ".hidden.csv", "deep/c.csv", "_temporary/d.csv", "e.jsonl"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text("text\nx\n")
    folder = tmp_path / "in"
    assert expand([str(folder)]) == [f"{folder}/{name}" for name in ("a.csv", "b.csv", "deep/c.csv", "e.jsonl")]
    assert expand([f"{folder}/*.csv", f"file://{folder}/a.csv"]) == [f"{folder}/a.csv", f"{folder}/b.csv"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.csv", "no such file"),
        ("*.none", "no such file"),
        ("-", "stdin"),
        ("nosuch://bucket/a.csv", "cannot be reached"),
        ("hive", "'branch=Leeds' holds a column in its name"),
    ],
)
def test_inputs_that_cannot_be_read(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hive" / "branch=Leeds").mkdir(parents=True)
    (tmp_path / "hive" / "branch=Leeds" / "a.csv").write_text("text\nx\n")
    with pytest.raises(InputError, match=said):
        expand([name])


def test_messages_name_the_file_that_the_user_knows(tmp_path, parquet_file):
    with pytest.raises(ColumnError, match=f"^{parquet_file}: --text-column 'txt' is no column"):
        look_into(str(parquet_file), text_column="txt")
    parquet_file.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=f"^{parquet_file}: cannot be read as Parquet"):
        look_into(str(parquet_file))


def test_a_file_is_published_whole_or_not_at_all(tmp_path):
    (tmp_path / "file").write_bytes(b"whole")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        publish(tmp_path / "file", str(tmp_path / "taken" / "x"))
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["x"]
    publish(tmp_path / "file", str(tmp_path / "new" / "y"))
    assert (tmp_path / "new" / "y").read_bytes() == b"whole"


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for call in (classify_partitions, run_distributed):
        with pytest.raises(MissingExtraError, match=r"gapnlp\[ray\]"):
            call(["in.csv"], "out")


def test_a_model_is_named_by_its_whole_path_for_every_worker(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert with_whole_paths(PartitionOptions(model="models/ours")).model == f"{tmp_path}/models/ours"
    assert with_whole_paths(PartitionOptions()).model is None


@pytest.mark.parametrize("output", ["-", "out.csv", "out.jsonl.gz"])
def test_the_output_is_a_folder(output):
    with pytest.raises(InputError, match="folder of Parquet files"):
        run_distributed(["in.csv"], output)


def test_a_cluster_is_given_no_path_of_this_machine():
    with pytest.raises(InputError, match=r"^in\.csv: a cluster cannot know this path"):
        run_distributed(["in.csv"], "s3://bucket/out", address="ray://head:10001")


def test_numbers_below_one_are_refused():
    with pytest.raises(ConfigError, match="n_workers: got 0"):
        PartitionOptions(n_workers=0)


def test_a_stop_ends_between_partitions(tmp_path, parquet_file, fake):
    done = []
    watch = Watch(on_rows=done.append, stop=lambda: len(done) == 2)
    with pytest.raises(KeyboardInterrupt):
        label(str(parquet_file), output=tmp_path / "out", partition_rows=4, watch=watch)
    assert len(parts(tmp_path / "out")) == 2
    assert label(str(parquet_file), output=tmp_path / "out", partition_rows=4).n_kept == 8


N_PARTS = 24
RUN = """
import json, sys
from gapnlp.distributed import PartitionOptions, run_distributed

job = json.loads(sys.argv[1])
options = PartitionOptions(**job.pop("options"))
print(json.dumps(run_distributed(**job, options=options).as_dict()))
"""


@pytest.fixture
def scratch():
    """A folder for Ray with a short name, since the names of its sockets must be short."""
    folder = tempfile.mkdtemp(prefix="gapnlp-ray-")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def start(scratch):
    """Return a function that starts a process; whatever it and its children leave running is ended afterwards."""
    settings = {
        "RAY_TMPDIR": scratch,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "of-this-test-0123456789abcdef",
    }
    started = []

    def begin(*command):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | settings
        )
        started.append(process)
        return process

    yield begin
    for pid in alive(scratch):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in started:
        process.communicate()


@pytest.fixture
def archive(tmp_path, real_texts):
    """1,200 rows of real texts, none like another."""
    texts = [f"{text} ({i})" if i % 50 else None for i, text in enumerate(real_texts * 20)]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": range(len(texts)), "comment": texts}), path, row_group_size=700)
    return path


def run_command(inputs, output, model_dir, **job):
    options = {"model": str(model_dir), "n_workers": 2, "partition_rows": 50}
    return [sys.executable, "-c", RUN, json.dumps({"inputs": inputs, "output": output, "options": options, **job})]


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def until(done, *, process=None, seconds=200):
    """Wait for something that happens, at the latest before a process ends."""
    end = time.monotonic() + seconds
    while not done():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def alive(scratch, *, named=""):
    """Return the processes of a test, known by a variable that they have inherited, as Linux tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            ours = f"RAY_TMPDIR={scratch}\0".encode() in (folder / "environ").read_bytes()
            if ours and state not in "ZX" and (folder / "cmdline").read_bytes().startswith(named.encode()):
                found.append(int(folder.name))
    return found


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check(folder, archive, model_dir, tmp_path):
    """Compare an output with what one machine gives."""
    classifier = GapClassifier.load(model_dir, n_threads=1)
    expected, _ = on_one_machine(archive, output=tmp_path / "alone.parquet", classifier=classifier)
    found = joined(folder)
    assert found.schema.equals(expected.schema)
    for name in found.schema.names:
        if name.startswith("gap_") and pa.types.is_floating(found.schema.field(name).type):
            assert found[name].to_pylist() == pytest.approx(expected[name].to_pylist(), abs=1e-5)
        else:
            assert found[name].equals(expected[name]), name
    assert len({tuple(labels) for labels in found["gap_labels"].to_pylist()}) > 3


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are found in /proc, which is not here"
)


@pytest.mark.slow
@needs_proc
def test_two_workers_of_which_one_is_killed(tmp_path, scratch, start, archive, model_dir):
    out = tmp_path / "out"
    process = start(*run_command([str(archive)], f"file://{out}", model_dir))
    until(lambda: len(alive(scratch, named="ray::MapWorker")) == 2 and len(parts(out)) >= 3, process=process)
    os.kill(alive(scratch, named="ray::MapWorker")[0], signal.SIGKILL)
    assert len(parts(out)) < N_PARTS, "all was done before the worker died"
    summary = ended(process)
    assert (summary["rows"], summary["failed"], summary["kept"]) == (1200, 24, 0)
    assert [path.name for path in parts(out)] == [f"part-{i:06d}.parquet" for i in range(N_PARTS)]
    assert sorted(path.name for path in out.iterdir() if path not in parts(out)) == [SUCCESS, MARK]
    check(out, archive, model_dir, tmp_path)
    until(lambda: alive(scratch) == [])


@pytest.mark.slow
@needs_proc
def test_a_killed_driver_and_a_second_run(tmp_path, scratch, start, archive, model_dir):
    out = tmp_path / "out"
    process = start(*run_command([str(archive)], str(out), model_dir))
    until(lambda: len(parts(out)) >= 3, process=process)
    process.kill()
    until(lambda: alive(scratch, named="ray::MapWorker") == [])
    times = {path: path.stat().st_mtime_ns for path in parts(out)}
    assert 3 <= len(times) < N_PARTS
    assert not (out / SUCCESS).exists()
    summary = ended(start(*run_command([str(archive)], str(out), model_dir)))
    assert (summary["rows"], summary["kept"]) == (1200, 50 * len(times))
    assert {path: path.stat().st_mtime_ns for path in times} == times
    check(out, archive, model_dir, tmp_path)


@pytest.mark.slow
@needs_proc
def test_a_cluster_at_an_address(tmp_path, start, archive, model_dir):
    """The driver runs inside the cluster, since Ray Data does not work through a `ray://` connection."""
    pytest.importorskip("grpc", reason="a ray:// connection needs the package grpcio")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = start(
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--num-cpus=2", "--port=0"),
        *("--object-store-memory=104857600", f"--ray-client-server-port={port}", "--include-dashboard=false"),
    )
    address = f"ray://127.0.0.1:{port}"
    until(lambda: listens(port), process=head)
    probe = f"import ray; ray.init({address!r}, logging_level=40)"
    until(lambda: start(sys.executable, "-c", probe).wait() == 0, process=head)  # on a busy machine it takes a while
    out = tmp_path / "out"
    summary = ended(start(*run_command([str(archive)], str(out), model_dir, address=address)))
    assert summary["rows"] == 1200
    check(out, archive, model_dir, tmp_path)
    refused = start(*run_command([str(tmp_path / "none.csv")], str(out), model_dir, address=address))
    last = refused.communicate(timeout=200)[1].splitlines()[-1]
    assert last.startswith("gapnlp.errors.InputError: ")
    assert "no such file" in last


@pytest.mark.slow
@needs_proc
def test_the_example_of_the_page_runs(tmp_path, scratch, start, archive, model_dir, monkeypatch):
    example = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GAPNLP_MODEL", str(model_dir))
    (tmp_path / "comments").mkdir()
    archive = archive.rename(tmp_path / "comments" / "in.parquet")
    (tmp_path / "example.py").write_text(example.replace("ray.init()", "ray.init(num_cpus=2, include_dashboard=False)"))
    process = start(sys.executable, "example.py")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.startswith("1,200 rows, 24 without labels, ")
    check(tmp_path / "labelled", archive, model_dir, tmp_path)


def test_the_page_lists_every_option():
    page = PAGE.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \| (.*?) \|", page.rpartition("| option |")[2], re.MULTILINE)
    assert {name for name, _ in listed} == {field.name for field in fields(PartitionOptions)}
    assert dict(listed)["partition_rows"] == f"{PartitionOptions().partition_rows:,}"
