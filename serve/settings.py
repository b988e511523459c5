"""The settings of the service: from `GAPNLP_*` environment variables, checked at the start."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gapnlp.engines import EngineName
from gapnlp.errors import ConfigError

PREFIX = "GAPNLP_"
_Count = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
_RATE = re.compile(rf"([1-9]\d{{0,9}})/({'|'.join(_UNITS)})")


class Settings(BaseSettings):
    """Every setting of the service; the field `host` is the variable `GAPNLP_HOST`, and so on."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on. A public one needs API keys.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    model: Path | None = Field(None, description="Model directory; none for the shipped model.")
    engine: EngineName = Field("openvino", description="What runs the model.")
    threads: _Count | None = Field(None, description="Cores that the model may use; none for all.")
    reload_seconds: float = Field(
        5, ge=0, description="How often to look for a new model in the model directory; 0 for SIGHUP alone."
    )

    database_url: SecretStr = Field(
        SecretStr("sqlite:///gapnlp-service.db"), description="The store: sqlite:///FILE or postgresql://…"
    )
    store_predictions: bool = Field(
        True, description="Keep predictions, so that feedback and prevalence can name them."
    )
    store_text: bool = Field(False, description="Keep the customers' texts too; otherwise their hashes alone.")
    retention_days: _Count = Field(90, description="Then predictions, feedback and deliveries go, and what undo needs.")
    idempotency_hours: _Count = Field(24, description="How long the answer to an Idempotency-Key is kept.")

    require_keys: bool = Field(
        False, description="Ask for an API key. Always so on an address that is not of this machine alone."
    )
    rate_limit: str = Field("6000/minute", description="Requests per key, or per address where no key is asked for.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins whose pages may call the service, joined by commas."
    )
    public_metrics: bool = Field(False, description="Serve /metrics without a key even where keys are asked for.")

    max_body_bytes: _Count = Field(2_000_000, description="Of a JSON body, after inflation.")
    max_upload_bytes: _Count = Field(100_000_000, description="Of an archive to be labelled, after inflation.")
    upload_seconds: _Seconds = Field(300, description="In which a whole archive must have come.")
    max_uploads: _Count = Field(2, description="Archives that are labelled at the same time; more get 429.")
    max_texts: _Count = Field(512, description="Texts in one request.")
    max_characters: _Count = Field(20_000, description="Characters of one text.")
    max_waiting: _Count = Field(1024, description="Texts that may wait for the model; more are answered with 429.")
    timeout_seconds: _Seconds = Field(30, description="How long a request may take before it is answered with 503.")
    cache_texts: int = Field(10_000, ge=0, description="Texts whose predictions are remembered; 0 for none.")

    drain_seconds: float = Field(
        2, ge=0, description="After SIGTERM: how long to go on answering while /readyz says 503."
    )
    shutdown_seconds: _Seconds = Field(25, description="After that: how long what is under way may take.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is logged.")
    log_format: Literal["json", "console"] = Field("json", description="`console` is for people.")
    tracing: bool = Field(False, description="Send OpenTelemetry traces; the OTEL_* variables say where.")
    connectors: Path | None = Field(None, description="TOML file of the helpdesks to serve.")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("rate_limit")
    @classmethod
    def _is_rate(cls, value: str) -> str:
        parse_rate(value)
        return value

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def needs_keys(self) -> bool:
        """Whether requests must carry an API key."""
        return self.require_keys or not self.is_loopback


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; `overrides` go first.

    Raises:
        ConfigError: A value cannot be used; the message names its variable and hides secrets.
    """
    try:
        return Settings(**overrides)
    except ValidationError as exc:
        problems = "; ".join(
            f"{variable_of('_'.join(str(part) for part in error['loc']))}: {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors()
        )
        raise ConfigError(f"settings of the service: {problems}") from None


def parse_rate(rate: str) -> tuple[int, int]:
    """Read a limit such as `1200/minute`; return how many, and in how many seconds.

    Raises:
        ValueError: It cannot be read.
    """
    found = _RATE.fullmatch(rate.strip().lower())
    if not found:
        raise ValueError(
            f"got {rate!r}, but expected a whole number from 1, / and one of {', '.join(_UNITS)}, such as 6000/minute"
        )
    return int(found[1]), _UNITS[found[2]]


def unknown_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables GAPNLP_* that set nothing, each with the setting it may have meant; never a value."""
    known = [variable_of(name) for name in Settings.model_fields]
    unknown = sorted(name for name in environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    return {name: next(iter(difflib.get_close_matches(name.upper(), known, n=1)), None) for name in unknown}


def variable_of(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"
