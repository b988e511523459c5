"""Servers for benchmarks: started on this machine alone, ended by their process id."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

READY_WITHIN = 120  # seconds
GAPNLP = (sys.executable, "-c", "from gapnlp.cli.main import main; main()")  # the command, of this very Python


@contextmanager
def running(command: Sequence[str], *, port: int, ready: str, env: dict[str, str] | None = None) -> Iterator[int]:
    """Run a server until the block ends; yield its process id once a path of it answers with 200.

    Raises:
        RuntimeError: It ended, or was not ready in time; the message has the end of what it said.
    """
    with TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                list(command),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=scratch,
                start_new_session=True,
            )
        try:
            _wait(process, port=port, ready=ready, log=log)
            yield process.pid
        finally:
            _end(process)


@contextmanager
def gapnlp_server(port: int, *, secrets: Mapping[str, str] | None = None, **settings: object) -> Iterator[int]:
    """Run `gapnlp serve` on a port of this machine, with a store of its own.

    Args:
        port: Where it listens.
        secrets: Variables of its environment that the settings name.
        settings: Named as in `Settings`.
    """
    given = {"host": "127.0.0.1", "port": port, "rate_limit": "1000000/second", "log_level": "warning", **settings}
    env = {f"GAPNLP_{name.upper()}": str(value) for name, value in given.items()} | dict(secrets or {})
    with running([*GAPNLP, "serve"], port=port, ready="/readyz", env=env) as pid:
        yield pid


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status_of(port: int, path: str) -> int:
    """Return the status that a GET is answered with; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def _wait(process: subprocess.Popen[bytes], *, port: int, ready: str, log: Path) -> None:
    end = time.monotonic() + READY_WITHIN
    while status_of(port, ready) != 200:
        if process.poll() is not None or time.monotonic() > end:
            said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise RuntimeError(f"the server did not get ready: {said[-1] if said else 'it said nothing'}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):  # workers that outlive their server
        os.killpg(process.pid, signal.SIGKILL)
