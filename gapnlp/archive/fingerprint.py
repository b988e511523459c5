"""What the results of a job depend on, and how two jobs differ in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_SETTINGS = {
    "text_columns": "text column",
    "mask": "masking of personal data",
    "chunk_rows": "rows in a chunk",
    "gapnlp": "version of gapnlp",
}


@dataclass(frozen=True, slots=True)
class InputPrint:
    """One input.

    Attributes:
        name: What messages call it; it may change.
        digest: SHA-256 of its bytes.
        how: How it is read: the same bytes may be read in two ways.
    """

    name: str
    digest: str
    how: str


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that the results of a job depend on.

    Attributes:
        inputs: The inputs in their order.
        settings: Values by the keys of `_SETTINGS`.
        model: `name@version`; empty while it is not loaded.
        model_print: Differs whenever the model's results may; empty while it is not loaded.
    """

    inputs: tuple[InputPrint, ...]
    settings: Mapping[str, Any]
    model: str = ""
    model_print: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint:
        """Build from the parsed JSON.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is not what it should be.
        """
        inputs = tuple(InputPrint(**item) for item in values["inputs"])
        return cls(inputs, dict(values["settings"]), values["model"], values["model_print"])

    def difference_from(self, earlier: Fingerprint) -> str:
        """Say how this job differs from an earlier one; empty where it does not.

        The model is compared only where both know theirs.
        """
        return (
            _input_difference(earlier.inputs, self.inputs)
            or _setting_difference(earlier.settings, self.settings)
            or _model_difference(earlier, self)
        )


def _input_difference(earlier: Sequence[InputPrint], now: Sequence[InputPrint]) -> str:
    before, after = ([(item.digest, item.how) for item in inputs] for inputs in (earlier, now))
    if before == after:
        return ""
    if sorted(before) == sorted(after):
        return "the inputs come in another order"
    if len(before) != len(after):
        return f"it began with {len(before)} inputs, now there are {len(after)}"
    changed = next(item for item, was, is_now in zip(now, before, after, strict=True) if was != is_now)
    return f"the input {changed.name} is not what it was when the job began"


def _setting_difference(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for key, what in _SETTINGS.items():
        before, after = earlier.get(key), now.get(key)
        if before != after:
            return f"the setting {what} was {_plain(before)}, now it is {_plain(after)}"
    return ""


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(dict.fromkeys(repr(item) for item in value))
    return str(value)


def _model_difference(earlier: Fingerprint, now: Fingerprint) -> str:
    if not earlier.model or not now.model or (earlier.model, earlier.model_print) == (now.model, now.model_print):
        return ""
    if earlier.model != now.model:
        return f"the model was {earlier.model}, now it is {now.model}"
    return f"the model {now.model} has other files or another engine than when the job began"
