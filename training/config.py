"""The settings of one training run: read from TOML, overridden by dotted names, validated before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from gapnlp.errors import ConfigError
from training.precision import Precision

Share = Field(ge=0, le=1)
Weights = Literal["fp16", "fp8"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(_Section):
    """What is trained; see `recipe.toml` for each setting."""

    name: str = Field(pattern=r"^([a-z0-9][a-z0-9._-]*)?$")
    version: str = Field(pattern=r"^[0-9A-Za-z.+-]+$")
    base: str
    layers: int = Field(ge=0)
    vocab_size: int = Field(ge=0)
    intermediate_size: int = Field(ge=0)
    max_length: int = Field(ge=16, le=8192)
    dropout: float = Field(ge=0, lt=1)
    frozen_layers: int = Field(ge=0)
    weights: Weights


class OptimConfig(_Section):
    """How it is trained."""

    epochs: PositiveInt
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: float = Field(ge=0)
    warmup: float = Share
    evidence_weight: float = Field(ge=0)
    patience: PositiveInt
    seeds: list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(min_length=1)
    precision: Precision


class DataConfig(_Section):
    """What the rows must be like."""

    floor: int = Field(ge=1)
    validation_share: float = Field(gt=0, lt=0.5)


class DistilConfig(_Section):
    """How much the teacher's opinion counts."""

    soft_weight: float = Share
    excerpts: int = Field(ge=0)


class CalibrateConfig(_Section):
    """How logits become decisions."""

    promised_precision: float = Field(gt=0, lt=1)


class TrainingConfig(_Section):
    """All settings of a run."""

    model: ModelConfig
    optim: OptimConfig
    data: DataConfig
    distil: DistilConfig
    calibrate: CalibrateConfig


def load_config(path: Path | None = None, *, overrides: Sequence[str] = ()) -> TrainingConfig:
    """Read the settings: the shipped recipe, then a file, then overrides.

    Args:
        path: A TOML file that changes some or all settings of the recipe, or the name of one that is shipped beside
            it, such as `further`; None for the recipe as it is.
        overrides: `section.name=value`, the value in TOML; a bare word, and whatever stands for a text, is a string.

    Raises:
        ConfigError: A setting is unknown, of the wrong kind or out of its range.
    """
    values = tomllib.loads(resources.files("training").joinpath("recipe.toml").read_text(encoding="utf-8"))
    if path is not None:
        try:
            given = tomllib.loads(_read_settings(path))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
            raise ConfigError(f"the settings in {path.name} cannot be read: {exc}") from exc
        for section, settings in given.items():
            if not isinstance(settings, dict):
                raise ConfigError(
                    f"{path.name}: got {section!r} outside of a section, expected it under one like [optim]"
                )
            values.setdefault(section, {}).update(settings)
    for override in overrides:
        section, name, value = _parse_override(override)
        values.setdefault(section, {})[name] = value
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as exc:
        problems = "; ".join(f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in exc.errors())
        raise ConfigError(f"settings that cannot be used: {problems}. training/recipe.toml explains each one") from exc


def dump_config(config: TrainingConfig) -> str:
    """Return the resolved settings as TOML that `load_config` reads back."""
    lines: list[str] = []
    for section, settings in config.model_dump().items():
        lines += [f"[{section}]", *(f"{name} = {_toml_value(value)}" for name, value in settings.items()), ""]
    return "\n".join(lines)


def _read_settings(path: Path) -> str:
    shipped = resources.files("training").joinpath(f"{path}.toml")
    if not path.exists() and path.name == str(path) and shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    return path.read_text(encoding="utf-8")


def _parse_override(override: str) -> tuple[str, str, Any]:
    dotted, equals, raw = override.partition("=")
    section, dot, name = dotted.strip().partition(".")
    if not (equals and dot and section and name):
        raise ConfigError(f"got the override {override!r}, expected section.name=value, for example optim.epochs=3")
    try:
        value = tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()
    if _is_text(section, name) and not isinstance(value, str):  # model.version=1.10 is no number
        value = raw.strip()
    return section, name, value


def _is_text(section: str, name: str) -> bool:
    part = TrainingConfig.model_fields.get(section)
    settings = getattr(part and part.annotation, "model_fields", {})
    return name in settings and settings[name].annotation is str


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value).lower() if isinstance(value, bool) else str(value)
