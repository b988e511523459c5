"""The texts that were scored last, so that a text that comes again is not scored again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from gapnlp.archive.scored import Scored, from_json_bytes, to_json_bytes

N_REMEMBERED = 100_000  # texts; about 450 bytes each


def text_key(text: object) -> bytes | None:
    """Return the 16-byte digest of a text, None for what is none.

    Texts are compared exactly: the offsets of evidence hold for these very characters.
    """
    if not isinstance(text, str):
        return None
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class Memory:
    """Results by the digest of their text; the one not asked for the longest goes first.

    What it holds depends on the texts and their order alone, so that a job that resumes has the same one.
    """

    def __init__(self, *, model: str, n_texts: int = N_REMEMBERED) -> None:
        self._model = model
        self._n_texts = n_texts
        self._found: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, key: bytes) -> Scored | None:
        """Return the result of a text that was scored lately."""
        content = self._found.get(key)
        if content is None:
            return None
        self._found.move_to_end(key)
        return from_json_bytes(content, model=self._model)[0]

    def put(self, key: bytes, scored: Scored) -> None:
        """Remember a result."""
        self._found[key] = to_json_bytes([scored])
        if len(self._found) > self._n_texts:
            self._found.popitem(last=False)
