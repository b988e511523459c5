"""What teachers add to a run: their opinion on labelled rows, excerpts and unlabelled texts."""

from dataclasses import replace

import numpy as np
import pytest
from training_world import Stopped, train_until
from transformers import AutoTokenizer

from gapnlp.calibration import sigmoid
from gapnlp.classifier import GapClassifier
from gapnlp.errors import ModelNotFoundError
from training import distil
from training.config import load_config
from training.corpus import Example
from training.distil import pool_opinions, soften, teacher_logits
from training.encode import Encoded
from training.excerpt import draw_excerpts
from training.finetune import Progress
from training.pipeline import TrainingRows, _encode, _texts_for_teacher, prepare_rows, train_model


@pytest.fixture(scope="module")
def config(settings):
    return load_config(overrides=settings)


@pytest.fixture(scope="module")
def rows(read_corpus):
    return TrainingRows(train=read_corpus("train", 100), validation=read_corpus("validation", 60))


def test_targets_are_blended_by_the_weight():
    target = np.array([1, 0, 0, 0, 1], dtype=np.float32)
    row = Encoded([1], target, np.zeros((1, 5), dtype=np.float32), has_evidence=True)
    soft = np.array([[0.5, 0.5, 0, 1, 1]])
    (quarter,) = soften([row], soft, soft_weight=0.25)
    np.testing.assert_allclose(quarter.target, [0.875, 0.125, 0, 0.25, 1])
    assert quarter.target.dtype == np.float32
    assert quarter.ids == row.ids
    np.testing.assert_array_equal(soften([row], soft, soft_weight=0.0)[0].target, target)
    np.testing.assert_array_equal(soften([row], soft, soft_weight=1.0)[0].target, soft[0])
    np.testing.assert_array_equal(row.target, [1, 0, 0, 0, 1])


def test_the_teacher_is_asked_once(model_dir, real_texts, tmp_path):
    classifier = GapClassifier.load(model_dir, engine="openvino-f32")
    cache, texts, told = tmp_path / "teacher.npy", real_texts[:10], []
    logits = teacher_logits(model_dir, texts, cache=cache, precision="fp32", tell=lambda *counts: told.append(counts))
    assert told == [(10, 10)]
    expected = np.stack([reading.logits for reading in classifier.read(texts)])
    np.testing.assert_allclose(logits, expected, atol=2e-3)
    again = teacher_logits(tmp_path / "absent", texts, cache=cache, precision="fp32", tell=print)
    np.testing.assert_array_equal(again, logits)
    with pytest.raises(ModelNotFoundError):  # other texts are asked about again
        teacher_logits(tmp_path / "absent", texts[:9], cache=cache, precision="fp32", tell=print)
    assert [path.name for path in tmp_path.iterdir()] == ["teacher.npy"]


def test_answers_that_were_not_written_whole_are_not_taken_for_answers(model_dir, real_texts, tmp_path, monkeypatch):
    def stop(handle, _logits):
        handle.write(b"\x93NUMPY")
        raise Stopped

    cache = tmp_path / "teacher.npy"
    with monkeypatch.context() as patch:
        patch.setattr(distil.np, "save", stop)
        with pytest.raises(Stopped):
            teacher_logits(model_dir, real_texts[:2], cache=cache, precision="fp32", tell=print)
    assert teacher_logits(model_dir, real_texts[:2], cache=cache, precision="fp32", tell=print).shape == (2, 5)


LONG = "The bag never came in the end. Nobody rang me about it. I had to buy all my clothes again."


@pytest.mark.parametrize("unlabelled", [[], ["The bag never came.", LONG]])
def test_a_teacher_speaks_on_labelled_and_unlabelled_rows(model_dir, rows, config, encoder_dir, tmp_path, unlabelled):
    tokenizer = AutoTokenizer.from_pretrained(encoder_dir)
    part = replace(rows, train=rows.train[:8], unlabelled=unlabelled)
    stages = []
    options = {
        "tokenizer": tokenizer,
        "config": config,
        "run_dir": tmp_path,
        "listen": lambda *told: stages.append(told),
    }
    alone = _encode(replace(part, unlabelled=()), teachers=(), **options)
    taught = _encode(part, teachers=[model_dir], **options)
    excerpts = draw_excerpts([*(example.text for example in part.train), *unlabelled], n=1, seed=1)
    texts = [*(example.text for example in part.train), *unlabelled[:1], *excerpts]
    assert len(taught.train) == len(texts)
    assert stages == [("teacher 1", Progress(len(texts), len(texts)))]
    assert any(excerpt in LONG for excerpt in excerpts) is bool(unlabelled)
    proba = sigmoid(teacher_logits(model_dir, texts, cache=tmp_path / "again.npy", precision="fp32", tell=print))
    for own, row, soft in zip(alone.train, taught.train[:8], proba, strict=False):
        np.testing.assert_allclose(row.target, (own.target + soft) / 2, atol=1e-6)
        assert row.has_evidence is own.has_evidence
    for row, soft in zip(taught.train[8:], proba[8:], strict=True):
        np.testing.assert_allclose(row.target, soft, atol=1e-6)
        assert row.has_evidence is False
    for row, other in zip(taught.validation, alone.validation, strict=True):
        np.testing.assert_array_equal(row.target, other.target)


def test_no_excerpt_is_a_text_that_is_held_out_or_known_whatever_its_white_space(rows, config):
    first, second = "Two hours late and no apology.", "Never again will we come."
    train = Example("x", f"{first} {second}", ("delivery",))
    part = replace(rows, train=[train])
    assert set(_texts_for_teacher(part, config=config)) < {first, second}
    for text in (first, second):
        held = Example("y", f" {text.replace(' ', '  ')}", ())
        for name in ("train", "validation", "calibration"):
            parts = {"train": [train], "validation": rows.validation, "calibration": ()}
            whole = replace(rows, **{**parts, name: [*parts[name], held]})
            assert text not in _texts_for_teacher(whole, config=config)


@pytest.mark.slow
def test_a_model_is_taught_from_start_to_end_and_the_teacher_is_asked_once(rows, config, model_dir, tmp_path):
    taught = replace(rows, unlabelled=["The bag never came.", LONG, "  ", "a \ud800 b"])
    output = tmp_path / "model"
    train_until(7, taught, output, config=config, teachers=[model_dir], first=("teacher 1", "seed 1"))
    train_until(9, taught, output, config=config, teachers=[model_dir], first=("seed 1",))
    model = train_model(taught, output, config=config, teachers=[model_dir])
    n_texts = len(_texts_for_teacher(prepare_rows(taught, config=config), config=config))
    assert f"which also gave targets for {n_texts} excerpts and unlabelled" in model.manifest.trained_on
    assert not output.with_name("model.run").exists()
    assert GapClassifier.load(output).predict(["The bag never came."])[0].labels is not None


def test_several_teachers_are_heard_by_the_mean_of_their_logits():
    sure, unsure = np.array([[4.0, -4.0, 0, 0, 0]]), np.array([[0.0, -2.0, 0, 0, 2.0]])
    np.testing.assert_allclose(pool_opinions([sure]), sigmoid(sure))
    np.testing.assert_allclose(pool_opinions([sure, unsure]), sigmoid(np.array([[2.0, -3.0, 0, 0, 1.0]])))


def test_every_teacher_is_asked_and_its_answers_are_kept_apart(model_dir, rows, config, encoder_dir, tmp_path):
    part, stages = replace(rows, train=rows.train[:4]), []
    options = {"tokenizer": AutoTokenizer.from_pretrained(encoder_dir), "config": config, "run_dir": tmp_path}

    def encode(teachers):
        return _encode(part, teachers=teachers, listen=lambda stage, _: stages.append(stage), **options)

    one = encode([model_dir])
    np.save(tmp_path / "teacher-2.npy", -np.load(tmp_path / "teacher-1.npy"))
    two = encode([model_dir] * 2)
    assert stages == ["teacher 1"], "each of them has answered by then"
    for row, other in zip(one.train[4:], two.train[4:], strict=True):
        assert not np.allclose(row.target, 0.5, atol=1e-3)
        np.testing.assert_allclose(other.target, 0.5, atol=1e-6)
