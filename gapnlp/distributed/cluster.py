"""Where Ray runs: on this machine alone, or on a cluster whose address is given."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from gapnlp import __version__
from gapnlp.archive import Summary, Watch
from gapnlp.archive.format import KINDS
from gapnlp.distributed.plan import PartitionOptions
from gapnlp.distributed.run import classify_partitions, import_ray
from gapnlp.distributed.storage import is_local, make_absolute
from gapnlp.errors import ConfigError, GapnlpError, InputError

LOCAL = "local"
_STORE_BYTES = 100 * 2**20  # Ray's shared memory on one machine: partitions do not travel, so it holds little
_POLL_SECONDS = 0.5


def run_distributed(
    inputs: Sequence[str],
    output: str,
    *,
    address: str = LOCAL,
    text_column: str | None = None,
    options: PartitionOptions | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Connect to Ray, label an archive there, and disconnect; see `classify_partitions`.

    Args:
        inputs: Files, globs and folders, as the machines of the cluster see them.
        output: A folder, as the machines of the cluster see it.
        address: `local` to start workers on this machine; `auto` for the cluster that this machine belongs to;
            `ray://HOST:10001` or `HOST:6379` for the one at that address.
        text_column: The column with the text; None to tell it by its name.
        options: How.
        watch: Who is told of the progress, and may stop the job.

    Raises:
        ConfigError: The address is none, or there is no cluster.
        InputError: An input or the output cannot be used; partitions that are done stay.
        ModelError: The model cannot be used.
        GapnlpError: Ray gave the job up; partitions that are done stay.
        MissingExtraError: Ray is not installed.
        KeyboardInterrupt: `watch.stop` said so, or Ctrl-C; partitions that are done stay.
    """
    options, watch = options or PartitionOptions(), watch or Watch()
    _check_output(output)
    names = [_as_seen_there(name, address=address) for name in inputs]
    folder = _as_seen_there(output, address=address)
    if options.model is not None:
        options = replace(options, model=_as_seen_there(options.model, address=address))
    with _connected(address, options=options) as ray:
        driver = ray.remote(num_cpus=0, max_concurrency=2)(_Driver).remote()
        found: Summary | GapnlpError = _wait(
            ray, driver, driver.run.remote(__version__, names, folder, text_column, options), watch=watch
        )
    if isinstance(found, GapnlpError):
        raise found
    found.output = output
    return found


class _Driver:
    """Runs the job inside the cluster: Ray Data does not work through a `ray://` connection."""

    def __init__(self) -> None:
        self._rows = {"labelled": 0, "kept": 0}

    def run(
        self, client: str, inputs: Sequence[str], output: str, text_column: str | None, options: PartitionOptions
    ) -> Summary | GapnlpError:
        if client != __version__:
            return GapnlpError(
                f"this machine has gapnlp {client} and the cluster {__version__}; install the same version on both"
            )
        import ray.data

        ray.data.DataContext.get_current().enable_progress_bars = False
        watch = Watch(on_rows=self._count("labelled"), on_kept=self._count("kept"))
        try:
            return classify_partitions(inputs, output, text_column=text_column, options=options, watch=watch)
        except GapnlpError as exc:  # returned, since Ray would wrap it
            return exc

    def progress(self) -> dict[str, int]:
        """Return the rows that are done."""
        return dict(self._rows)

    def _count(self, key: str) -> Any:
        def add(n_rows: int) -> None:
            self._rows[key] += n_rows

        return add


def _wait(ray: Any, driver: Any, result: Any, *, watch: Watch) -> Any:
    """Pass the progress on until the job has ended."""
    told = {"labelled": 0, "kept": 0}
    try:
        while True:
            ended, _ = ray.wait([result], timeout=_POLL_SECONDS)
            progress = ray.get(driver.progress.remote())
            for key, tell in (("labelled", watch.on_rows), ("kept", watch.on_kept)):
                if progress[key] > told[key]:
                    tell(progress[key] - told[key])
            told = progress
            if ended:
                return ray.get(result)
            if watch.stop():
                raise KeyboardInterrupt
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as exc:
        raise GapnlpError(
            f"the cluster lost the job ({exc}); what is done is kept: when it is well again, the same call goes on"
        ) from exc
    finally:
        ray.kill(driver)


@contextmanager
def _connected(address: str, *, options: PartitionOptions) -> Iterator[Any]:
    ray = import_ray()
    if ray.is_initialized():
        raise ConfigError("this process is connected to Ray already: call classify_partitions, which uses that")
    try:
        _init(ray, address, options=options)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as exc:
        ray.shutdown()
        raise ConfigError(
            f"--engine-address {address}: Ray cannot be reached there ({exc}); expected local, auto or "
            "ray://HOST:10001, and RAY_AUTH_MODE=token with RAY_AUTH_TOKEN where the cluster asks for a token"
        ) from exc
    try:
        yield ray
    finally:
        ray.shutdown()


def _init(ray: Any, address: str, *, options: PartitionOptions) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address != LOCAL:
        ray.init(address, **quiet)
        return
    n_workers = options.n_workers or max((os.cpu_count() or 1) // options.n_threads, 1)
    n_cpus = n_workers * options.n_threads
    ray.init(LOCAL, num_cpus=n_cpus, include_dashboard=False, object_store_memory=_STORE_BYTES, **quiet)


def _check_output(output: str) -> None:
    suffixes = {suffix.lower() for suffix in PurePosixPath(output).suffixes}
    if output == "-" or suffixes & (KINDS.keys() - {".parquet"}):
        raise InputError(f"{output}: with several workers the output is a folder of Parquet files; name a folder")


def _as_seen_there(name: str, *, address: str) -> str:
    """Return a path by a name that holds in every process; on a cluster only the user knows one."""
    if address == LOCAL:
        return make_absolute(name) if name != "-" else name
    if is_local(name) and not name.startswith(("/", "file:///", "local:///")):
        raise InputError(
            f"{name}: a cluster cannot know this path; give an absolute one that all its machines see, or a URL such "
            "as s3://bucket/folder"
        )
    return name
