"""The model directory on disk: what it holds, how it is checked, how it is written.

A model directory is a Hugging Face folder of the text head (`config.json`, `model.safetensors`, `tokenizer.json`,
`tokenizer_config.json`, `README.md`) with six files beside it: `evidence_head.safetensors`, `model.onnx` (the graph
only: its weights are those of the two safetensors files), `calibration.json`, `validation.parquet` (the logits and the
true labels of the rows it was calibrated on, without their texts: prevalence estimates rest on them),
`evaluation.json` and `manifest.json`.
The manifest names every file that loading reads, with its SHA-256; nothing else is read, and nothing may hold code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gapnlp.calibration import Calibration
from gapnlp.errors import ModelError, ModelNotFoundError, UnsafeModelError
from gapnlp.prevalence.gap_score import ValidationScores
from gapnlp.taxonomy import LABELS

FORMAT = 1
MANIFEST = "manifest.json"
GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
WEIGHTS = "model.safetensors"
EVIDENCE_HEAD = "evidence_head.safetensors"
DECISION = "calibration.json"
VALIDATION = "validation.parquet"
REQUIRED = ("config.json", WEIGHTS, EVIDENCE_HEAD, GRAPH, TOKENIZER, "tokenizer_config.json", DECISION)
# Files that describe a model and that no one computes with: they may change without a new manifest.
DESCRIPTIVE = frozenset({MANIFEST, "README.md", "evaluation.json"})
CODE_SUFFIXES = frozenset({".bin", ".ckpt", ".dll", ".joblib", ".pickle", ".pkl", ".pt", ".pth", ".py", ".so"})
DEFAULT_NAME = "gapnlp-en"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        name: The model's name.
        version: Its version.
        max_length: Tokens in one window, special tokens included.
        base: The encoder that the model grew from.
        codebook: Version of the codebook its labels follow.
        trained_on: The rows it learnt from, in words.
        labels: Label order; must be that of `LABELS`.
        versions: Package name → version at training time.
        files: File name → SHA-256 of its bytes, hexadecimal.
        format: Version of this layout.
    """

    name: str
    version: str
    max_length: int
    base: str
    codebook: str
    trained_on: str = ""
    labels: tuple[str, ...] = LABELS
    versions: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Manifest:
        """Build from the parsed JSON.

        Raises:
            ModelError: A field is missing or unknown, or the layout is one that this version does not read.
        """
        if values.get("format") != FORMAT:
            raise ModelError(
                f"{MANIFEST} has format {values.get('format')!r}, this gapnlp reads format {FORMAT}: "
                "use the gapnlp version that wrote the model, or train it again"
            )
        try:
            manifest = cls(**{**values, "labels": tuple(values["labels"])})
        except (KeyError, TypeError) as exc:
            raise ModelError(f"{MANIFEST} is not complete: {exc}") from exc
        if not isinstance(manifest.files, Mapping) or not isinstance(manifest.max_length, int):
            raise ModelError(f"{MANIFEST} is damaged: expected a map under 'files' and a number under 'max_length'")
        return manifest


@dataclass(frozen=True, slots=True)
class Decision:
    """From logits to labels: what `calibration.json` holds.

    Attributes:
        calibration: Calibrated probabilities and the thresholds per gap.
        review_below: A text whose confidence (0-1) is lower is flagged for review.
        promised_precision: Share of unflagged texts whose labels are promised to be right, 0-1.
        evidence_threshold: Share of the highest token probability from which a token counts for evidence, 0-1.
        fitted_on: The rows that all of this was fitted on, in words.
        fitted_digest: Their digest, so that nobody measures on them by mistake.
    """

    calibration: Calibration
    review_below: float
    promised_precision: float
    evidence_threshold: float
    fitted_on: str
    fitted_digest: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        own = {name: getattr(self, name) for name in _DECISION_FIELDS}
        return {"labels": list(LABELS), **self.calibration.to_dict(), **own}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Decision:
        """Build from the parsed JSON.

        Raises:
            ModelError: A field is missing or out of its range.
        """
        try:
            own = {name: values[name] for name in _DECISION_FIELDS}
        except KeyError as exc:
            raise ModelError(f"{DECISION} lacks {exc}: train the model again") from exc
        rest = {key: value for key, value in values.items() if key not in own and key != "labels"}
        return cls(calibration=Calibration.from_dict(rest), **own)


_DECISION_FIELDS = ("review_below", "promised_precision", "evidence_threshold", "fitted_on", "fitted_digest")


@dataclass(frozen=True, slots=True)
class ModelDir:
    """A model directory that was checked.

    Attributes:
        path: The folder.
        manifest: Its manifest.
        decision: Its calibration, thresholds and review rule.
    """

    path: Path
    manifest: Manifest
    decision: Decision

    @property
    def name(self) -> str:
        """`name@version`, as every prediction carries it."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @property
    def digest(self) -> str:
        """SHA-256 of all that loading reads, hexadecimal: two models with one digest give the same scores."""
        return hashlib.sha256(json.dumps(dict(self.manifest.files), sort_keys=True).encode()).hexdigest()

    def load_validation(self) -> ValidationScores:
        """Return the calibrated probabilities and the true labels of the rows the model was calibrated on.

        Raises:
            ModelError: There are none, or the file has not the columns that `write_validation` writes.
        """
        import pyarrow as pa
        from pyarrow import parquet

        if VALIDATION not in self.manifest.files:
            raise ModelError(
                f"{self.name} came without {VALIDATION}, the held-out scores that prevalence estimates rest on: "
                "train it again with `gapnlp train`"
            )
        try:
            table = parquet.read_table(self.path / VALIDATION)
            logits = np.column_stack([table[f"logit_{label}"].to_numpy() for label in LABELS])
            labels = np.column_stack([table[f"label_{label}"].to_numpy() for label in LABELS])
        except (KeyError, pa.ArrowException) as exc:
            raise ModelError(f"{VALIDATION} of {self.path.name} cannot be used: {exc}") from exc
        return ValidationScores(self.decision.calibration.proba(logits), labels.astype(bool))


def find_model(path: str | Path | None = None) -> Path:
    """Return the folder of the model to load.

    Args:
        path: A model directory; None for the one that `GAPNLP_MODEL` names, else the shipped one.

    Raises:
        ModelNotFoundError: There is no such folder.
    """
    named = path or os.environ.get("GAPNLP_MODEL")
    if named:
        folder = Path(named).expanduser()
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"there is no model directory {str(named)!r}: give a folder that `gapnlp train` wrote"
            )
        return folder
    package = Path(__file__).parent
    for folder in (package / "_model", package.parent / "models" / DEFAULT_NAME):
        if (folder / MANIFEST).is_file():
            return folder
    raise ModelNotFoundError(
        "the shipped model is not there: give a model directory, or install gapnlp from its wheel or a full checkout"
    )


def load_model_dir(path: str | Path | None = None) -> ModelDir:
    """Check a model directory and return it.

    Args:
        path: A model directory; None for the shipped one.

    Raises:
        ModelNotFoundError: There is no model there.
        UnsafeModelError: A file may run code, or is not the one of the manifest.
        ModelError: The manifest or the calibration cannot be used.
    """
    folder = find_model(path)
    check_safe(folder)
    manifest = Manifest.from_dict(_read_json(folder / MANIFEST))
    if tuple(manifest.labels) != LABELS:
        raise ModelError(
            f"{folder.name} has the labels {', '.join(manifest.labels)}, expected {', '.join(LABELS)} in this order: "
            "train it again with `gapnlp train`"
        )
    missing = [name for name in REQUIRED if name not in manifest.files]
    if missing:
        raise ModelError(f"{MANIFEST} of {folder.name} does not name {', '.join(missing)}: the model is not complete")
    check_files(folder, manifest.files)
    return ModelDir(folder, manifest, Decision.from_dict(_read_json(folder / DECISION)))


def check_safe(folder: Path) -> None:
    """Refuse a folder that may bring code with it.

    Raises:
        UnsafeModelError: It holds a pickle or a program, or its configuration asks for remote code.
    """
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() in CODE_SUFFIXES:
            raise UnsafeModelError(
                f"{folder.name} holds {file.name!r}, a kind of file that can run code: only safetensors, ONNX, Parquet "
                "and JSON are read. Remove it if you trust the rest, or train the model again"
            )
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and "auto_map" in _read_json(folder / name):
            raise UnsafeModelError(f"{name} of {folder.name} asks for remote code (auto_map), which is never run")


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Compare every file with its checksum.

    Raises:
        UnsafeModelError: A file is missing, lies outside the folder, or its bytes are others.
    """
    for name, expected in files.items():
        if Path(name).name != name:
            raise UnsafeModelError(f"{MANIFEST} names {name!r}, which is not a plain file name")
        try:
            found = file_digest(folder / name)
        except OSError as exc:
            raise UnsafeModelError(f"{name} of {folder.name} cannot be read: {exc.strerror}") from exc
        if found != expected:
            raise UnsafeModelError(
                f"{name} of {folder.name} is not the file of its manifest (SHA-256 {found[:12]}…, expected "
                f"{expected[:12]}…): it was changed or cut short; copy the model again"
            )


def write_model_dir(path: Path, *, manifest: Manifest, fill: Callable[[Path], None]) -> ModelDir:
    """Write a model directory so that it is there whole or not at all.

    Args:
        path: Where it goes; an older model there is replaced.
        manifest: Its manifest; `files` is filled in here.
        fill: Writes all other files into the folder it is given.

    Raises:
        ModelError: What was written is not a model that loads, or something else than a model stands at `path`.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        fill(staging)
        files = {file.name: file_digest(file) for file in sorted(staging.iterdir()) if file.name not in DESCRIPTIVE}
        write_json(staging / MANIFEST, {**asdict(manifest), "labels": list(manifest.labels), "files": files})
        load_model_dir(staging)
        staging.chmod(0o755)
        for file in staging.iterdir():
            file.chmod(0o644)  # safetensors writes files that their owner alone can read
        _put_in_place(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_model_dir(path)


def check_replaceable(path: Path) -> None:
    """Refuse to write a model over anything but an older model or an empty folder.

    Raises:
        ModelError: A file stands at `path`, or a folder that holds something else.
    """
    is_free = not path.exists() or (path.is_dir() and ((path / MANIFEST).is_file() or not any(path.iterdir())))
    if not (path.name and is_free):
        raise ModelError(f"{str(path)!r} holds something else than a model: name a new folder, so that nothing is lost")


def _put_in_place(staging: Path, path: Path) -> None:
    """Swap the new folder in; the older one goes only after it."""
    if not path.exists():
        staging.rename(path)
        return
    older = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    path.rename(older / path.name)
    try:
        staging.rename(path)
    except OSError:
        (older / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(older, ignore_errors=True)


def write_validation(folder: Path, logits: npt.ArrayLike, *, labels: npt.ArrayLike) -> None:
    """Write what `ModelDir.load_validation` reads.

    Args:
        folder: The model directory being written.
        logits: Text head on held-out rows. *Shape:* (n_rows, 5).
        labels: True where the row carries the gap. *Shape:* (n_rows, 5).
    """
    import pyarrow as pa
    from pyarrow import parquet

    scores, truth = np.asarray(logits, dtype=np.float32), np.asarray(labels, dtype=bool)
    columns = {f"logit_{label}": scores[:, j] for j, label in enumerate(LABELS)}
    columns |= {f"label_{label}": truth[:, j] for j, label in enumerate(LABELS)}
    parquet.write_table(pa.table(columns), folder / VALIDATION, compression="zstd")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON the way every file of a model directory is written."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise ModelNotFoundError(f"{path.parent.name} is no model directory: it has no {path.name}") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path.name} of {path.parent.name} cannot be read as JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise ModelError(f"{path.name} of {path.parent.name} holds a {type(values).__name__}, expected an object")
    return values
