"""Files in a folder or in object storage, through fsspec."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from gapnlp.errors import GapnlpError, InputError, MissingExtraError

# There a file appears whole or not at all when its last byte has come; elsewhere renaming does that.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "memory"})

_MARKS = ("_", ".")  # how names begin that are no data


def locate(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and its path there.

    Raises:
        InputError: There is no such kind of storage, or the package that reads it is not installed.
        MissingExtraError: fsspec is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as exc:
        raise MissingExtraError("fsspec", "ray") from exc
    try:
        file_system, path = url_to_fs(url)
    except (ImportError, ValueError) as exc:
        raise InputError(f"{url}: this storage cannot be reached ({exc}); install the fsspec package for it") from exc
    return file_system, str(path)


def is_local(url: str) -> bool:
    """Tell whether a path or URL is a file of this machine."""
    return "://" not in url or url.startswith(("file://", "local://"))


def make_absolute(url: str) -> str:
    """Return the same place by a name that every process understands alike."""
    return locate(url)[1] if is_local(url) else url.rstrip("/")


def join(folder: str, name: str) -> str:
    """Return the path or URL of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def expand(inputs: Sequence[str]) -> list[str]:
    """Return every file that paths, globs and folders stand for, in a fixed order.

    In a folder, and where a glob matches them, names that begin with `_` or `.` are left out: they are no data.

    Raises:
        InputError: There is nothing there, or a folder keeps columns in the names of its folders.
    """
    files: dict[str, None] = {}
    for name in inputs:
        if name == "-":
            raise InputError("stdin (-) cannot be read by several workers; name files, folders or URLs")
        with explained(name, doing="read"):
            files.update(dict.fromkeys(_expand_one(name)))
    return list(files)


def _expand_one(name: str) -> list[str]:
    file_system, path = locate(name)
    file_system.invalidate_cache()
    if any(char in path for char in "*?[") and not file_system.exists(path):
        matched = [item for item in sorted(file_system.glob(path)) if file_system.isfile(item)]
        found = [item for item in matched if not PurePosixPath(item).name.startswith(_MARKS)]
    elif file_system.isdir(path):
        found = [item for item in sorted(file_system.find(path)) if _is_data(item, folder=path, name=name)]
    else:
        found = [path] if file_system.exists(path) else []
    if not found:
        raise InputError(f"{name}: no such file, or nothing in it; check the path, as the workers see it")
    return [item if is_local(name) else str(file_system.unstrip_protocol(item)) for item in found]


def _is_data(path: str, *, folder: str, name: str) -> bool:
    parts = PurePosixPath(path).relative_to(PurePosixPath(folder)).parts
    if any("=" in part for part in parts[:-1]):
        raise InputError(
            f"{name}: its folder {parts[0]!r} holds a column in its name, which would be lost; write the column into "
            "the files, or name the files alone, as in  FOLDER/branch=Leeds/*.parquet"
        )
    return not any(part.startswith(_MARKS) for part in parts)


def state_of(url: str) -> dict[str, str]:
    """Return what tells that a file is still the same: its size, and its checksum or the time of its last change."""
    file_system, path = locate(url)
    with explained(url, doing="read"):
        found = file_system.info(path)
    changed = next((found[key] for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if key in found), "")
    return {"url": url, "size": str(found.get("size")), "changed": str(changed)}


def list_names(folder: str) -> set[str]:
    """Return the names of all that is in a folder; none where there is no folder."""
    file_system, path = locate(folder)
    file_system.invalidate_cache()
    try:
        with explained(folder, doing="read"):
            return {PurePosixPath(item).name for item in file_system.ls(path, detail=False)}
    except FileNotFoundError:
        return set()


def read_text(url: str) -> str:
    """Return a small file's content."""
    file_system, path = locate(url)
    with explained(url, doing="read"):
        return bytes(file_system.cat_file(path)).decode()


def write_text(url: str, text: str) -> None:
    """Write a small file, whole or not at all."""
    with tempfile.TemporaryDirectory(prefix="gapnlp-") as folder:
        file = Path(folder, "text")
        file.write_text(text, encoding="utf-8")
        publish(file, url)


def publish(file: Path, url: str) -> None:
    """Copy a local file to its place, where it appears whole or not at all.

    Raises:
        InputError: It cannot be written there.
    """
    file_system, path = locate(url)
    protocols = {file_system.protocol} if isinstance(file_system.protocol, str) else set(file_system.protocol)
    with explained(url, doing="written"):
        file_system.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
        if protocols & _OBJECT_STORES:
            file_system.put_file(str(file), path)
            return
        place = PurePosixPath(path)
        part = str(place.with_name(f".{place.name}.{secrets.token_hex(4)}.part"))
        try:
            file_system.put_file(str(file), part)
            if is_local(url):
                _sync(part)
                Path(part).replace(path)
            else:
                file_system.mv(part, path)
        except BaseException:
            if file_system.exists(part):
                file_system.rm_file(part)
            raise


def remove(folder: str, names: Sequence[str]) -> None:
    """Remove files of a folder."""
    file_system, path = locate(folder)
    with explained(folder, doing="written"):
        for name in names:
            file_system.rm_file(join(path, name))


def fetch(url: str, *, folder: Path) -> Path:
    """Return a local file with this content: the file itself, or a copy in `folder` under the same name."""
    file_system, path = locate(url)
    if is_local(url):
        return Path(path)
    copy = folder / PurePosixPath(path).name
    with explained(url, doing="read"):
        file_system.get_file(path, str(copy))
    return copy


@contextmanager
def explained(url: str, *, doing: str) -> Iterator[None]:
    """Turn what storage says into an `InputError`; that a file is not there stays a `FileNotFoundError`."""
    try:
        yield
    except (FileNotFoundError, GapnlpError):
        raise
    except Exception as exc:  # each kind of storage has errors of its own, such as for missing credentials
        why = getattr(exc, "strerror", None) or str(exc)
        raise InputError(f"{url}: cannot be {doing} ({why}); check the permissions and the space left") from exc


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
