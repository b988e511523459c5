"""The folder of the output: whose it is, what is done in it, and that two jobs never mix there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gapnlp.distributed.storage import join, list_names, read_text, remove, write_text
from gapnlp.errors import InputError

MARK = "_gapnlp.json"  # what the job depends on; readers of Parquet folders pass over names with `_` and `.`
SUCCESS = "_SUCCESS"  # the summary; there when all is done
_PART = re.compile(r"part-\d{6,}\.parquet|\.part-\d{6,}\.parquet\.[0-9a-f]{8}\.part")


class OutputFolder:
    """The output of one job.

    Attributes:
        url: Where it is.
    """

    def __init__(self, url: str, *, fingerprint: Mapping[str, Any]) -> None:
        self.url = url
        self._fingerprint = json.loads(json.dumps(fingerprint))
        self._again: list[str] = []

    def begin(self, *, restart: bool) -> set[str]:
        """Take the folder for this job; return the names of the files that an earlier run has finished.

        Args:
            restart: Throw away what an earlier run wrote.

        Raises:
            InputError: There is something else in it, or another job's output.
        """
        names = list_names(self.url)
        if MARK not in names:
            if any(not name.startswith(".") for name in names):
                raise InputError(
                    f"{self.url}: the folder holds something else than an output of gapnlp; name a new folder"
                )
            names = set()
        elif restart:
            self._clear(names)
            names = set()
        else:
            self._resume()
        if MARK not in names:
            self._write_mark()
        return {name for name in names if _PART.fullmatch(name)} - set(self._again)

    def note(self, name: str, *, again: bool) -> None:
        """Note whether the next run must do a file again, since the model failed on rows for a reason that may pass."""
        if again != (name in self._again):
            self._again = sorted({*self._again, name} if again else {*self._again} - {name})
            self._write_mark()

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Say that all is done, and clear away what workers that died have left."""
        write_text(join(self.url, SUCCESS), json.dumps(summary, indent=2) + "\n")
        remove(self.url, [name for name in list_names(self.url) if name.endswith(".part") and _PART.fullmatch(name)])

    def _resume(self) -> None:
        mark = self._read_mark()
        different = [key for key, value in self._fingerprint.items() if mark["fingerprint"].get(key) != value]
        if different:
            raise InputError(
                f"{self.url}: holds the output of another job, with other {different[0]}; name a new folder, or throw "
                "that output away with  --restart"
            )
        self._again = list(mark["again"])

    def _read_mark(self) -> dict[str, Any]:
        try:
            mark = json.loads(read_text(join(self.url, MARK)))
            if isinstance(mark["fingerprint"], dict) and isinstance(mark["again"], list):
                return dict(mark)
        except (ValueError, KeyError, TypeError):
            pass
        raise InputError(f"{self.url}: its {MARK} is damaged; name a new folder, or begin again with  --restart")

    def _write_mark(self) -> None:
        mark = {"fingerprint": self._fingerprint, "again": self._again}
        write_text(join(self.url, MARK), json.dumps(mark, indent=2) + "\n")

    def _clear(self, names: Sequence[str] | set[str]) -> None:
        """Remove what jobs write and nothing else; the mark goes last, so that the folder never has no owner."""
        ours = sorted(name for name in names if _PART.fullmatch(name))
        remove(self.url, [*(name for name in (SUCCESS,) if name in names), *ours, MARK])
