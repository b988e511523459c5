import math

import numpy as np
import pytest

from gapnlp.model_dir import load_model_dir
from gapnlp.taxonomy import LABELS, NONE
from serve.drift import FEWEST, OUTCOMES, WINDOW, RollingMix, mix_of, total_variation


def rolled(texts, **options):
    mix = RollingMix(**options)
    for labels in texts:
        mix.add(labels)
    return mix


def decided(texts):
    return np.array([[label in labels for label in LABELS] for labels in texts])


def test_a_mix_counts_each_label_of_a_text_and_none_once():
    mix = mix_of(decided([("delivery",), ("delivery", "policy"), (), ("delivery",)]))
    assert dict(zip(OUTCOMES, mix, strict=True)) == {
        "knowledge": 0,
        "policy": 0.2,
        "delivery": 0.6,
        "communication": 0,
        "customer": 0,
        "none": 0.2,
    }


@pytest.mark.parametrize(
    ("mix", "reference", "expected"),
    [
        ([0.2, 0.8, 0, 0, 0, 0], [0.2, 0.8, 0, 0, 0, 0], 0.0),
        ([1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], 1.0),
        ([0.5, 0.5, 0, 0, 0, 0], [0.25, 0.5, 0.25, 0, 0, 0], 0.25),
    ],
)
def test_total_variation_is_the_part_that_would_have_to_move(mix, reference, expected):
    assert total_variation(mix, reference) == pytest.approx(expected)
    assert total_variation(reference, mix) == pytest.approx(expected)


def test_the_rolling_mix_is_that_of_the_latest_texts():
    rng = np.random.default_rng(0)
    texts = [tuple(label for label in LABELS if rng.random() < 0.3) for _ in range(1_000)]
    mix = rolled(texts, window=300)
    reference = mix_of(decided(texts[:500]))
    assert len(mix) == 300
    assert mix.drift(reference) == pytest.approx(total_variation(mix_of(decided(texts[-300:])), reference), abs=1e-12)
    assert mix.share("policy") == pytest.approx(decided(texts[-300:])[:, 1].mean())
    assert mix.share(NONE) == pytest.approx(np.mean([not labels for labels in texts[-300:]]))


def test_too_few_texts_say_nothing():
    mix = rolled([("delivery",)] * (FEWEST - 1))
    assert math.isnan(mix.share("delivery"))
    assert math.isnan(mix.drift(np.eye(6)[2]))
    mix.add(("delivery",))
    assert mix.share("delivery") == 1
    assert mix.drift(np.eye(6)[2]) == 0


def test_a_cleared_mix_forgets():
    mix = rolled([("delivery",)] * FEWEST)
    mix.clear()
    for _ in range(FEWEST):
        mix.add(())
    assert mix.share("delivery") == 0
    assert mix.share(NONE) == 1


def test_a_window_of_the_models_own_texts_drifts_by_chance_alone_and_other_texts_by_more():
    model = load_model_dir()
    validation = model.load_validation()
    labels = model.decision.calibration.decide(validation.proba)
    reference = mix_of(labels)
    rng = np.random.default_rng(1)
    rows = labels[rng.integers(len(labels), size=WINDOW)]
    texts = [tuple(np.array(LABELS)[row]) for row in rows]
    assert rolled(texts).drift(reference) < 0.04
    complaints = [("policy",) if index % 4 else ("customer",) for index in range(WINDOW)]
    assert rolled(complaints).drift(reference) > 0.5
