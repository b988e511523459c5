"""From texts to the tokens that an engine reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapnlp.errors import InputError
from gapnlp.text import check_text, replace_surrogates, windows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_CHARACTERS = 100_000
WINDOW_OVERLAP = 64
_FEW = 4  # texts: handing so few to threads, and waiting for them, takes longer than to encode them here


@dataclass(frozen=True, slots=True)
class EncodedWindow:
    """Some tokens of a text, as many as the model reads at once.

    Attributes:
        ids: Token ids, special tokens included.
        offsets: First character of each token in the text, and the one after its last; of special tokens none.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class EncodedText:
    """A text, ready to be read.

    Attributes:
        text: What the customer wrote; empty where that was no text.
        windows: At least one; none where `error` is set.
        error: Empty, or why this text cannot be read.
    """

    text: str
    windows: Sequence[EncodedWindow]
    error: str = ""

    @property
    def n_tokens(self) -> int:
        """How many tokens an engine reads, special tokens and overlaps included."""
        return sum(len(window.ids) for window in self.windows)

    @property
    def truncated(self) -> bool:
        """Whether the end of the text was left out."""
        return len(self.text) > MAX_CHARACTERS


class TextEncoder:
    """Cut texts into windows of tokens that overlap.

    Attributes:
        pad_id: The token that fills a batch up.
        n_first: Special tokens before each window.
        n_last: Special tokens after each window.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int) -> None:
        """Take over a tokenizer, which must not be used by others after.

        Args:
            tokenizer: Of the model.
            max_length: Tokens in one window, special tokens included.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._first, self._last = _special_tokens(tokenizer)
        self._size = max_length - len(self._first) - len(self._last)
        self._overlap = min(WINDOW_OVERLAP, self._size // 4)
        self.n_first, self.n_last = len(self._first), len(self._last)
        self.pad_id = tokenizer.token_to_id("[PAD]") or tokenizer.token_to_id("<pad>") or 0

    def encode(self, texts: Sequence[object]) -> list[EncodedText]:
        """Encode texts; one that cannot be read has its `error` set. *Shape:* (n_texts,) in and out."""
        readable: dict[int, str] = {}
        errors: dict[int, str] = {}
        for index, text in enumerate(texts):
            try:
                readable[index] = check_text(text)
            except InputError as exc:
                errors[index] = str(exc)
        encoded = dict(zip(readable, self._encode(list(readable.values())), strict=True))
        return [
            encoded[index] if index in encoded else EncodedText("", (), errors[index]) for index in range(len(texts))
        ]

    def _encode(self, texts: Sequence[str]) -> list[EncodedText]:
        clean = [replace_surrogates(text[:MAX_CHARACTERS]) for text in texts]
        if len(clean) <= _FEW:
            encodings = [self._tokenizer.encode(text, add_special_tokens=False) for text in clean]
        else:
            encodings = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        return [
            EncodedText(text, self._windows(encoding.ids, encoding.offsets))
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def _windows(self, ids: list[int], offsets: list[tuple[int, int]]) -> list[EncodedWindow]:
        return [
            EncodedWindow([*self._first, *ids[start:end], *self._last], offsets[start:end])
            for start, end in windows(len(ids), size=self._size, overlap=self._overlap)
        ]


def _special_tokens(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids that stand before and after every text, told from how the tokenizer wraps one."""
    inner = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], whole[start + len(inner) :]
    return [], []
