"""The model directory: what is refused, and that writing is all or nothing."""

import json
import shutil
import stat
from dataclasses import replace

import pytest

from gapnlp import model_dir as module
from gapnlp.errors import ModelError, ModelNotFoundError, UnsafeModelError
from gapnlp.model_dir import (
    DECISION,
    GRAPH,
    MANIFEST,
    REQUIRED,
    WEIGHTS,
    Decision,
    Manifest,
    file_digest,
    find_model,
    load_model_dir,
    write_json,
    write_model_dir,
)
from gapnlp.taxonomy import LABELS

MANIFEST_FIELDS = {"name": "new", "version": "2.0", "max_length": 64, "base": "b", "codebook": "1.0"}


def test_a_sound_model_loads(model_dir):
    model = load_model_dir(model_dir)
    assert model.path == model_dir
    assert model.name == "tiny@1.0"
    assert model.manifest.max_length == 64
    assert model.manifest.labels == LABELS
    assert set(REQUIRED) <= set(model.manifest.files)
    assert model.decision.fitted_on == "60 held-out rows"
    assert Decision.from_dict(model.decision.to_dict()) == model.decision


@pytest.mark.parametrize("name", ["x.pkl", "pytorch_model.BIN", "modeling.py", "x.pt", "x.joblib", "deep/inside/x.so"])
def test_what_can_run_code_is_refused(model_copy, name):
    (model_copy / name).parent.mkdir(parents=True, exist_ok=True)
    (model_copy / name).touch()
    with pytest.raises(UnsafeModelError, match=f"holds '{name.rpartition('/')[2]}', a kind of file that can run code"):
        load_model_dir(model_copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_remote_code_is_refused_even_when_the_manifest_vouches_for_it(model_copy, edit_file, name):
    values = json.loads((model_copy / name).read_text()) | {"auto_map": {"AutoModel": "evil--repo.Model"}}
    edit_file(model_copy, name, json.dumps(values).encode())
    with pytest.raises(UnsafeModelError, match=f"{name} .* asks for remote code"):
        load_model_dir(model_copy)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_changed_a_cut_and_a_missing_file_are_refused(model_copy, name):
    content = (model_copy / name).read_bytes()
    changed = bytearray(content)
    changed[-2] ^= 1
    for damaged in (bytes(changed), content[: len(content) // 2], b""):
        (model_copy / name).write_bytes(damaged)
        with pytest.raises(ModelError, match=name) as caught:
            load_model_dir(model_copy)
        # A configuration that is no JSON any more is told as such, before its checksum is looked at.
        assert isinstance(caught.value, UnsafeModelError) or "cannot be read as JSON" in str(caught.value)
    (model_copy / name).unlink()
    with pytest.raises(UnsafeModelError, match=f"{name} of copy cannot be read"):
        load_model_dir(model_copy)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_manifest_must_name_every_file_that_is_read(model_copy, edit_manifest, name):
    files = dict(load_model_dir(model_copy).manifest.files)
    del files[name]
    edit_manifest(model_copy, files=files)
    with pytest.raises(ModelError, match=f"does not name {name}: the model is not complete"):
        load_model_dir(model_copy)


@pytest.mark.parametrize("name", ["../secret", "deep/secret", "{folder}/secret"])
def test_a_manifest_that_names_a_path_is_refused(model_copy, edit_manifest, name):
    for folder in (model_copy, model_copy.parent, model_copy / "deep"):
        folder.mkdir(exist_ok=True)
        (folder / "secret").write_text("secret")
    name = name.format(folder=model_copy.parent)
    files = {**load_model_dir(model_copy).manifest.files, name: file_digest(model_copy / "secret")}
    edit_manifest(model_copy, files=files)
    with pytest.raises(UnsafeModelError, match=r"secret', which is not a plain file name"):
        load_model_dir(model_copy)


def test_a_manifest_that_names_the_folder_above_is_refused(model_copy, edit_manifest):
    edit_manifest(model_copy, files={**load_model_dir(model_copy).manifest.files, "..": "0" * 64})
    with pytest.raises(UnsafeModelError, match=r"\.\. of copy cannot be read"):
        load_model_dir(model_copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [*LABELS[1:], LABELS[0]]}, "has the labels policy, .*, expected knowledge, policy, "),
        ({"labels": list(LABELS[:4])}, "has the labels knowledge, policy, delivery, communication, expected"),
        ({"format": 99}, "has format 99, this gapnlp reads format 1"),
        ({"format": None}, "has format None"),
        ({"surplus": 1}, "not complete: .*surplus"),
        ({"files": ["config.json"]}, "expected a map under 'files'"),
        ({"max_length": "64"}, "a number under 'max_length'"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(model_copy, edit_manifest, changes, message):
    edit_manifest(model_copy, **changes)
    with pytest.raises(ModelError, match=message):
        load_model_dir(model_copy)


@pytest.mark.parametrize("field", ["labels", "name", "max_length"])
def test_a_manifest_without_a_field_is_refused(model_copy, field):
    manifest = json.loads((model_copy / MANIFEST).read_text())
    del manifest[field]
    write_json(model_copy / MANIFEST, manifest)
    with pytest.raises(ModelError, match=f"not complete: .*{field}"):
        load_model_dir(model_copy)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "cannot be read as JSON"), (b"[]", "holds a list"), (b"\xff", "cannot be read")]
)
@pytest.mark.parametrize("name", [MANIFEST, DECISION])
def test_json_that_is_none_is_refused(model_copy, edit_file, name, content, message):
    if name == MANIFEST:
        (model_copy / name).write_bytes(content)
    else:
        edit_file(model_copy, name, content)
    with pytest.raises(ModelError, match=f"{name} of copy {message}"):
        load_model_dir(model_copy)


def test_a_calibration_without_its_review_rule_is_refused(model_copy, edit_file):
    values = json.loads((model_copy / DECISION).read_text())
    del values["review_below"]
    edit_file(model_copy, DECISION, json.dumps(values).encode())
    with pytest.raises(ModelError, match="lacks 'review_below': train the model again"):
        load_model_dir(model_copy)


def test_what_only_describes_may_change(model_copy):
    (model_copy / "README.md").write_text("# Another card\n")
    (model_copy / "evaluation.json").write_text("{}")
    assert load_model_dir(model_copy).name == "tiny@1.0"


# Finding


def test_a_folder_that_is_not_there_and_one_without_a_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"there is no model directory '.*absent': give a folder"):
        load_model_dir(tmp_path / "absent")
    with pytest.raises(ModelNotFoundError, match=r"is no model directory: it has no manifest\.json"):
        load_model_dir(tmp_path)


def test_the_environment_names_a_model_and_an_argument_goes_before_it(model_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("GAPNLP_MODEL", str(model_dir))
    assert load_model_dir().path == model_dir
    assert find_model(tmp_path) == tmp_path
    monkeypatch.setenv("GAPNLP_MODEL", str(tmp_path / "absent"))
    with pytest.raises(ModelNotFoundError, match="absent"):
        load_model_dir()


def test_the_shipped_model_is_that_of_the_wheel_else_that_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.delenv("GAPNLP_MODEL", raising=False)
    monkeypatch.setattr(module, "__file__", str(tmp_path / "gapnlp" / "model_dir.py"))
    with pytest.raises(ModelNotFoundError, match="the shipped model is not there"):
        find_model()
    for folder in (tmp_path / "models" / module.DEFAULT_NAME, tmp_path / "gapnlp" / "_model"):
        folder.mkdir(parents=True)
        (folder / MANIFEST).touch()
        assert find_model() == folder


# Writing


def copy_files(source, folder, *, without=()):
    for file in source.iterdir():
        if file.name not in (MANIFEST, *without):
            shutil.copyfile(file, folder / file.name)


def test_a_model_is_written_with_its_checksums(model_dir, tmp_path):
    path = tmp_path / "models" / "new"
    model = write_model_dir(path, manifest=Manifest(**MANIFEST_FIELDS), fill=lambda f: copy_files(model_dir, f))
    assert model == load_model_dir(path)
    assert model.name == "new@2.0"
    assert model.manifest.files == load_model_dir(model_dir).manifest.files
    assert "README.md" not in model.manifest.files
    assert [file.name for file in path.parent.iterdir()] == ["new"]


def test_a_written_model_can_be_read_by_everyone(model_dir):
    assert stat.S_IMODE(model_dir.stat().st_mode) == 0o755
    modes = {stat.S_IMODE(file.stat().st_mode) for file in model_dir.iterdir() if file.name != "README.md"}
    assert modes <= {0o644, 0o664}


def test_an_older_model_is_replaced_whole(model_dir, model_copy):
    (model_copy / "left-over.json").touch()
    write_model_dir(model_copy, manifest=Manifest(**MANIFEST_FIELDS), fill=lambda f: copy_files(model_dir, f))
    assert load_model_dir(model_copy).name == "new@2.0"
    assert not (model_copy / "left-over.json").exists()
    assert [file.name for file in model_copy.parent.iterdir()] == ["copy"]


def fail_at_the_end(source, folder):
    copy_files(source, folder)
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("fill", "error"),
    [
        (fail_at_the_end, KeyboardInterrupt),
        (lambda source, folder: copy_files(source, folder, without=[WEIGHTS]), ModelError),
        (lambda source, folder: (copy_files(source, folder), (folder / "x.pkl").touch()), UnsafeModelError),
    ],
)
def test_a_failed_write_leaves_the_older_model_and_no_trace(model_dir, model_copy, fill, error):
    before = {file.name: file.read_bytes() for file in model_copy.iterdir()}
    with pytest.raises(error):
        write_model_dir(model_copy, manifest=Manifest(**MANIFEST_FIELDS), fill=lambda f: fill(model_dir, f))
    assert {file.name: file.read_bytes() for file in model_copy.iterdir()} == before
    assert [file.name for file in model_copy.parent.iterdir()] == ["copy"]


def test_a_failed_swap_puts_the_older_model_back(model_dir, model_copy, monkeypatch):
    rename = type(model_copy).rename

    def refuse_new(self, target):
        if "-new" in (self / MANIFEST).read_text() and target == model_copy:
            raise PermissionError
        return rename(self, target)

    monkeypatch.setattr(type(model_copy), "rename", refuse_new)
    manifest = replace(Manifest(**MANIFEST_FIELDS), name="tiny-new")
    with pytest.raises(PermissionError):
        write_model_dir(model_copy, manifest=manifest, fill=lambda f: copy_files(model_dir, f))
    assert load_model_dir(model_copy).name == "tiny@1.0"
    assert [file.name for file in model_copy.parent.iterdir()] == ["copy"]


def test_nothing_but_a_model_is_replaced(model_dir, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(mine)
    for path in (mine, mine / "thesis.txt", type(mine)()):
        with pytest.raises(ModelError, match="holds something else than a model: name a new folder"):
            write_model_dir(path, manifest=Manifest(**MANIFEST_FIELDS), fill=lambda f: copy_files(model_dir, f))
    assert (mine / "thesis.txt").read_text() == "years of work"
    (mine / "thesis.txt").unlink()
    assert write_model_dir(mine, manifest=Manifest(**MANIFEST_FIELDS), fill=lambda f: copy_files(model_dir, f))


def test_the_graph_is_among_what_is_checked(model_copy):
    assert GRAPH in load_model_dir(model_copy).manifest.files
