"""The job: look into the inputs, hand partitions to workers over Ray Data, gather what became of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from gapnlp.archive import Summary, Watch
from gapnlp.distributed.output import OutputFolder
from gapnlp.distributed.plan import InputFile, PartitionOptions, common_schema, cut, fingerprint, look_into
from gapnlp.distributed.rows import Partition
from gapnlp.distributed.storage import expand, make_absolute
from gapnlp.distributed.worker import N_FAILURES, Worker, WorkerOptions, load_once
from gapnlp.errors import GapnlpError, InputError, MissingExtraError

_SUMMED = {
    "rows": "n_rows",
    "failed": "n_failed",
    "duplicates": "n_duplicates",
    "truncated": "n_truncated",
    "review": "n_review",
}


def classify_partitions(
    inputs: Sequence[str],
    output: str,
    *,
    text_column: str | None = None,
    options: PartitionOptions | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Label an archive with the workers of the Ray that this process is connected to.

    The output is a folder of Parquet files, each with the labelled rows of one partition, and each there whole or
    not at all. Where a run was cut short, the same call goes on with the partitions that are missing.

    Args:
        inputs: Files, globs and folders: paths, or URLs such as `s3://bucket/comments/`, as the workers see them.
        output: A folder: a path or a URL.
        text_column: The column with the text; None to tell it by its name.
        options: How.
        watch: Who is told of the progress after each partition, and may stop the job.

    Raises:
        InputError: An input or the output cannot be used; partitions that are done stay.
        ModelError: The model cannot be used.
        GapnlpError: Ray gave the job up; partitions that are done stay.
        MissingExtraError: Ray is not installed.
        KeyboardInterrupt: `watch.stop` said so; partitions that are done stay.
    """
    ray = import_ray()
    options = with_whole_paths(options or PartitionOptions())
    began = time.perf_counter()
    classifier = load_once(options.model, engine=options.engine, n_threads=options.n_threads)
    summary = Summary(output, classifier.name)
    with _explained(ray):
        files = _look_into_all(ray, expand(inputs), text_column=text_column, options=options)
        job = fingerprint(files, options=options, scored_by=classifier.fingerprint)
        folder = OutputFolder(make_absolute(output), fingerprint=job)
        worker_options = WorkerOptions(
            output=folder.url,
            schema=common_schema(files),
            model=options.model,
            engine=options.engine,
            scored_by=classifier.fingerprint,
            n_threads=options.n_threads,
            mask=options.mask,
            id_column=options.id_column,
            done=frozenset(folder.begin(restart=options.restart)),
        )
        partitions = cut(files, n_rows=options.partition_rows)
        reports = follow(_reports(ray, partitions, worker_options, options=options), folder, watch=watch or Watch())
    add_up(reports, summary)
    summary.seconds = time.perf_counter() - began
    folder.finish(summary.as_dict())
    return summary


def with_whole_paths(options: PartitionOptions) -> PartitionOptions:
    """Name the model so that a worker, which runs in another folder, finds it too."""
    return replace(options, model=make_absolute(options.model)) if options.model else options


def import_ray() -> Any:
    """Import Ray with Ray Data.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as exc:
        raise MissingExtraError(exc.name or "ray", "ray") from exc
    return ray


def _look_into_all(
    ray: Any, urls: Sequence[str], *, text_column: str | None, options: PartitionOptions
) -> list[InputFile]:
    """Look into all inputs at once; opening a large text file takes its time."""
    look = ray.remote(_try_look_into)
    found = ray.get([look.remote(url, text_column=text_column, id_column=options.id_column) for url in urls])
    for item in found:
        if isinstance(item, GapnlpError):
            raise item
    return list(found)


def _try_look_into(url: str, **columns: str | None) -> InputFile | GapnlpError:
    """Return the error rather than raise it: Ray would wrap it."""
    try:
        return look_into(url, **columns)
    except GapnlpError as exc:
        return exc


def _reports(
    ray: Any, partitions: Sequence[Partition], worker_options: WorkerOptions, *, options: PartitionOptions
) -> Iterator[dict[str, Any]]:
    """Let Ray Data hand one partition at a time to the workers; yield their reports as they come.

    Ray Data starts a worker that died again, and does the partition again that it was at.
    """
    n_workers = options.n_workers or max(int(ray.cluster_resources().get("CPU", 1)) // options.n_threads, 1)
    pool = ray.data.ActorPoolStrategy(size=min(n_workers, len(partitions)), max_tasks_in_flight_per_actor=1)
    rows = ray.data.from_items([asdict(item) for item in partitions], override_num_blocks=len(partitions))
    reports = rows.map_batches(
        Worker,
        batch_size=1,
        compute=pool,
        num_cpus=options.n_threads,
        fn_constructor_kwargs={"options": worker_options},
    )
    return (json.loads(row["report"]) for row in reports.iter_rows())


def follow(reports: Iterator[dict[str, Any]], folder: OutputFolder, *, watch: Watch) -> list[dict[str, Any]]:
    """Take in the reports, in the order of the output.

    Raises:
        InputError: Some partitions could not be labelled; all others are.
    """
    taken = []
    for report in reports:
        taken.append(report)
        if "error" not in report:
            (watch.on_kept if report["kept"] else watch.on_rows)(report["rows"])
            folder.note(report["name"], again=bool(report.get("retry")))
        if watch.stop():
            raise KeyboardInterrupt
    taken.sort(key=lambda report: str(report["name"]))
    errors = [report["error"] for report in taken if "error" in report]
    if errors:
        raise InputError(
            f"{len(errors):,} of {len(taken):,} partitions could not be labelled; the same call tries these alone "
            f"again. The first: {errors[0]}"
        )
    return taken


def add_up(reports: Sequence[dict[str, Any]], summary: Summary) -> None:
    """Add the reports of all partitions to the summary."""
    for report in reports:
        for key, name in _SUMMED.items():
            setattr(summary, name, getattr(summary, name) + report.get(key, 0))
        summary.n_kept += report["rows"] * report["kept"]
        for label, n_rows in report["counted"].items():
            summary.counted[label] += n_rows
        summary.failures += report["failures"][: N_FAILURES - len(summary.failures)]
    n_retry = sum(report.get("retry", 0) for report in reports)
    if n_retry:
        summary.notes.append(
            f"on {n_retry:,} rows the model failed for a reason that may pass; the same call tries them again"
        )


@contextmanager
def _explained(ray: Any) -> Iterator[None]:
    """Turn what Ray says of machines and processes into a message; an error in our own code stays what it is."""
    from ray.data.exceptions import ExecutionTimeoutError

    try:
        yield
    except ray.exceptions.RayTaskError:
        raise
    except (ray.exceptions.RayError, ExecutionTimeoutError) as exc:
        raise GapnlpError(
            f"Ray gave the job up ({exc}); what is done is kept: when the cluster is well again, the same call goes on"
        ) from exc
