"""Predictions of texts that were read before, by the digest of the exact text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from gapnlp.records import Prediction


class PredictionCache:
    """The predictions of one model that were used last, without the texts.

    Args:
        n_texts: How many are remembered; 0 for none.
    """

    def __init__(self, n_texts: int) -> None:
        self._found: LRUCache[bytes, Prediction] = LRUCache(n_texts)

    def get(self, key: bytes) -> Prediction | None:
        """Return what is remembered under a key of `key_of`."""
        found: Prediction | None = self._found.get(key)
        return found

    def put(self, key: bytes, prediction: Prediction) -> None:
        """Remember a prediction, unless it is of a text that could not be read."""
        if self._found.maxsize and not prediction.error:
            self._found[key] = prediction


def key_of(text: str) -> bytes:
    """Return the key of the exact text: 128 bits, so that no two texts ever share one."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
