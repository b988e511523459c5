"""The file of the helpdesks: one table for each, secrets from the environment."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gapnlp.errors import ConfigError
from serve.connectors import KINDS, Connector, make_connector

_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
_RESERVED = frozenset({"api"})  # what predictions of the HTTP interface are filed under


def load_connectors(path: Path, *, environ: Mapping[str, str] = os.environ) -> dict[str, Connector]:
    """Read the file and make a connector for each table.

    Args:
        path: TOML; each table is named as in the address of the webhook, and says `kind` where that is another word.
        environ: Where the secrets are.

    Returns:
        Connectors by name. Nothing has been sent yet.

    Raises:
        ConfigError: The file cannot be read, or says something that cannot be used. No secret is in the message.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"{path}: cannot be read ({exc.strerror}): name the TOML file of the helpdesks in GAPNLP_CONNECTORS, or "
            "with --file, which is --connectors for  gapnlp serve"
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: this is no text in UTF-8: save the TOML file of the helpdesks as that") from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(
            f"{path}: this is no TOML: {exc}; mend that place. A helpdesk begins with a line such as [zendesk], and "
            'below it each setting has a line such as  base_url = "https://example.zendesk.com"'
        ) from exc
    if not tables:
        raise ConfigError(
            f"{path}: there is no helpdesk in it: expected a table for each, which begins with a line such as [zendesk]"
        )
    return {name: _make(name, table, where=f"{path}: [{name}]", environ=environ) for name, table in tables.items()}


def _make(name: str, table: Any, *, where: str, environ: Mapping[str, str]) -> Connector:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: expected a table")
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise ConfigError(f"{where}: expected a name of small letters, digits and hyphens that is not 'api'")
    kind = table.get("kind", name)
    if kind not in KINDS:
        raise ConfigError(f"{where}: got the kind {kind!r}, but expected one of: {', '.join(KINDS)}")
    try:
        config = KINDS[kind][0].model_validate({**table, "kind": kind}, context={"environ": environ})
    except ValidationError as exc:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in error['loc'])}: {error['msg'].removeprefix('Value error, ')}"
            for error in exc.errors(include_input=False, include_context=False)
        )
        raise ConfigError(f"{where} {problems}") from None
    return make_connector(kind, name=name, config=config)
