"""What a running job has done so far, kept in a folder beside its output, so that a crash costs one chunk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from gapnlp.archive.disk import explained_writing, sync_folder, write_whole
from gapnlp.archive.fingerprint import Fingerprint
from gapnlp.archive.lock import LOCK, LockedError, locked
from gapnlp.archive.scored import Scored, from_json_bytes, to_json_bytes
from gapnlp.errors import InputError

FORMAT = 1
_JOB = "job.json"  # the fingerprint
_PLACED = "placed.json"  # which file the output is, once it stands in its place
_PART = "output.part"  # the output, while it grows
_CHUNKS = "rows-*.json.z"
_DIGEST = 32  # bytes


class Ledger:
    """The folder of one job; made by `open_ledger`, which holds its lock.

    Each finished chunk has a file of its own, named by its first row and its number of rows: the SHA-256 of the rest,
    then the results as packed JSON. There are no texts in it.

    Attributes:
        part: Where the output grows.
        n_damaged: Chunks that could not be read back, and were done again.
    """

    def __init__(self, folder: Path, *, name: str) -> None:
        self.part = folder / _PART
        self.n_damaged = 0
        self._gone = False
        self._folder = folder
        self._name = name
        self._earlier = self._read_job()
        if self._earlier is None:
            self.clear()  # what is there belongs to no job

    @property
    def n_rows_done(self) -> int:
        """Rows from the first one on that have results."""
        n_rows = 0
        sizes = dict(_span(path) for path in self._folder.glob(_CHUNKS))
        while n_rows in sizes:
            n_rows += sizes[n_rows]
        return n_rows

    def check(self, job: Fingerprint) -> None:
        """Refuse to go on with the results of another job.

        Raises:
            InputError: The ledger is of another job; the message says what differs.
        """
        difference = job.difference_from(self._earlier) if self._earlier else ""
        if difference:
            raise InputError(
                f"{self._name}: an unfinished job for this output is another one: {difference}. Begin again with  "
                "--restart , or name another output, so that the two do not mix"
            )

    def begin(self, job: Fingerprint) -> None:
        """Write down what the job is, unless it goes on.

        Raises:
            InputError: The ledger is of another job, or cannot be written.
        """
        self.check(job)
        if self._earlier is None:
            with self._explained():
                write_whole(self._folder / _JOB, json.dumps({"format": FORMAT, **job.to_dict()}).encode())
            self._earlier = job

    def read(self, first_row: int, *, n_rows: int, n_texts: int) -> list[Scored] | None:
        """Return the results of a chunk, None where there are none or they are damaged.

        Args:
            first_row: Rows before the chunk.
            n_rows: Rows in it.
            n_texts: Rows in it that can be read, which are those with results.
        """
        path = self._chunk(first_row, n_rows)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            self.n_damaged += 1
            return None
        digest, packed = content[:_DIGEST], content[_DIGEST:]
        model = self._earlier.model if self._earlier else ""
        if hashlib.sha256(packed).digest() == digest:
            scored = from_json_bytes(zlib.decompress(packed), model=model)
            if len(scored) == n_texts:
                return scored
        self.n_damaged += 1
        return None

    def write(self, first_row: int, *, n_rows: int, scored: Sequence[Scored]) -> None:
        """Keep the results of a chunk; they are safe when this returns.

        Raises:
            InputError: They cannot be written.
        """
        packed = zlib.compress(to_json_bytes(scored), level=1)
        with self._explained():
            write_whole(self._chunk(first_row, n_rows), hashlib.sha256(packed).digest() + packed)

    def note_placed(self) -> None:
        """Write down which file the output will be, just before it is put in its place.

        A crash between the two, or after them, then leaves an output that the job knows as its own.
        """
        with self._explained():
            write_whole(self._folder / _PLACED, json.dumps(_identity(self.part)).encode())

    def clear(self) -> None:
        """Forget all that was done; the lock stays."""
        names = [_PLACED, _JOB, _PART]  # an output first stands for itself, then the chunks count for nothing
        with self._explained():
            for path in [*(self._folder / name for name in names), *self._folder.glob(f"{_CHUNKS}*")]:
                path.unlink(missing_ok=True)
            for path in self._folder.glob("*.json.part"):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Take the folder away; nothing that others put into it."""
        self.clear()
        self._gone = True  # from here on, a folder of this name is another run's
        with contextlib.suppress(OSError):
            (self._folder / LOCK).unlink()
            self._folder.rmdir()
        sync_folder(self._folder.parent)

    def close(self) -> None:
        """Leave what the next run needs, and nothing where it needs nothing."""
        if self._gone:
            return
        with contextlib.suppress(OSError, InputError):
            self.part.unlink(missing_ok=True)
            if not self.n_rows_done:
                self.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunk(self, first_row: int, n_rows: int) -> Path:
        return self._folder / f"rows-{first_row:012d}-{n_rows:09d}.json.z"

    def _read_job(self) -> Fingerprint | None:
        try:
            values = json.loads((self._folder / _JOB).read_bytes())
            return Fingerprint.from_dict(values) if values.pop("format") == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def _explained(self) -> contextlib.AbstractContextManager[None]:
        return explained_writing(self._name)


@contextmanager
def open_ledger(output: Path, *, name: str, restart: bool = False) -> Iterator[Ledger]:
    """Open the ledger of an output, and let no other run at it meanwhile.

    Args:
        output: The file to be written.
        name: What messages call it.
        restart: Forget what an earlier run has done.

    Raises:
        InputError: Another run writes the same output, or nothing can be written there.
    """
    folder = ledger_folder(output)
    with contextlib.ExitStack() as stack:
        try:
            with explained_writing(name):
                stack.enter_context(locked(folder))
        except LockedError as exc:
            raise InputError(
                f"{name}: another run is writing it; wait until that one has finished, or name another output"
            ) from exc
        ledger = stack.enter_context(Ledger(folder, name=name))
        if restart:
            ledger.clear()
            ledger = Ledger(folder, name=name)
        yield ledger


def ledger_folder(output: Path) -> Path:
    """Return the folder beside an output that its ledger is kept in."""
    return output.with_name(f".{output.name}.gapnlp-job")


def is_placed_by_job(output: Path) -> bool:
    """Tell whether an output that is there was put there by a job whose ledger is there still."""
    try:
        noted = json.loads((ledger_folder(output) / _PLACED).read_bytes())
        return bool(noted == _identity(output))
    except (OSError, ValueError):
        return False


def _identity(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _span(path: Path) -> tuple[int, int]:
    first_row, n_rows = path.name.removesuffix(".json.z").split("-")[1:]
    return int(first_row), int(n_rows)
