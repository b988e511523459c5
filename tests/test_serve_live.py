"""The live model: loaded and warm before it serves, replaced when another is put in its place."""

import asyncio
import gc
import json
import os
import shutil
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from gapnlp.errors import ModelError
from gapnlp.model_dir import MANIFEST, find_model
from serve.app import create_app
from serve.inference import LiveModel
from serve.inference.live import warm_up
from serve.settings import Settings

LOOK_EVERY = 0.05
TIMEOUT = 30


@pytest.fixture
def model(tmp_path, model_dir):
    return Path(shutil.copytree(model_dir, tmp_path / "one"))


def rename_model(folder, name):
    """Give the model another name, the way a training run would."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"name": name}), encoding="utf-8")


async def until(met):
    end = time.monotonic() + TIMEOUT
    while not met():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


def run_live(path, scenario, *, look_every=LOOK_EVERY):
    """Run a scenario with a live model; return the names it swapped to and why it refused."""
    swaps, refusals = [], []

    async def run():
        live = LiveModel(
            path,
            look_every=look_every,
            n_threads=1,
            on_swap=lambda loaded: swaps.append(loaded.classifier.name),
            on_refused=lambda exc: refusals.append(str(exc)),
        )
        assert not live.ready
        await live.start()
        assert live.ready
        await scenario(live, swaps, refusals)
        await live.stop()

    asyncio.run(run())
    return swaps, refusals


def test_a_model_comes_with_the_scores_that_prevalence_needs(model):
    async def scenario(live, *_):
        assert live.current.validation.proba.shape[1] == 5
        np.testing.assert_array_equal(np.isfinite(live.current.validation.proba), True)

    run_live(model, scenario)


def test_without_a_path_the_shipped_model_serves():
    async def scenario(live, *_):
        assert live.current.classifier.name.startswith(find_model().name)

    run_live(None, scenario)


def test_a_model_that_is_put_in_its_place_takes_over(model, tmp_path):
    other = Path(shutil.copytree(model, tmp_path / "two"))
    rename_model(other, "promoted")
    link = tmp_path / "current"
    link.symlink_to(model)

    async def scenario(live, swaps, _):
        await asyncio.sleep(4 * LOOK_EVERY)
        assert not swaps  # the same manifest is no new model
        (tmp_path / "next").symlink_to(other)
        (tmp_path / "next").rename(link)
        await until(lambda: swaps)

    swaps, refusals = run_live(link, scenario)
    assert [name.partition("@")[0] for name in swaps] == ["promoted"]
    assert not refusals


def test_a_model_that_is_not_what_its_manifest_says_is_refused_and_the_old_one_goes_on(model):
    weights = model / "model.onnx"
    whole = weights.read_bytes()

    async def scenario(live, swaps, refusals):
        before = live.current
        weights.write_bytes(whole[:-1])
        rename_model(model, "half-copied")
        await until(lambda: refusals)
        await asyncio.sleep(4 * LOOK_EVERY)
        assert live.current is before
        assert len(refusals) == 1  # the reason is given once, however often it is tried
        weights.write_bytes(whole)
        await until(lambda: swaps)

    swaps, refusals = run_live(model, scenario)
    assert "model.onnx" in refusals[0]
    assert swaps[0].startswith("half-copied@")


def test_a_moment_without_a_model_changes_nothing(model, tmp_path):
    async def scenario(live, swaps, refusals):
        model.rename(tmp_path / "away")
        await asyncio.sleep(LOOK_EVERY / 2)
        (tmp_path / "away").rename(model)
        await asyncio.sleep(4 * LOOK_EVERY)
        assert live.ready
        assert not swaps
        assert not refusals

    run_live(model, scenario)


def test_a_model_that_went_away_is_told_once_and_the_old_one_goes_on(model, tmp_path):
    async def scenario(live, swaps, refusals):
        before = live.current
        model.rename(tmp_path / "away")
        await until(lambda: refusals)
        await asyncio.sleep(4 * LOOK_EVERY)
        assert live.current is before
        assert len(refusals) == 1

    run_live(model, scenario)


def test_a_reload_that_is_asked_for_needs_no_change(model):
    async def scenario(live, swaps, _):
        live.reload()
        await until(lambda: swaps)

    run_live(model, scenario, look_every=0)


def test_there_is_no_start_without_a_model(tmp_path):
    async def start():
        await LiveModel(tmp_path / "nothing").start()

    with pytest.raises(ModelError):
        asyncio.run(start())


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_the_first_model_is_let_go_when_another_serves(model, tmp_path):
    async def scenario():
        url = f"sqlite:///{tmp_path / 'store.db'}"
        app = create_app(Settings(_env_file=None, model=model, database_url=url, reload_seconds=LOOK_EVERY, threads=1))
        async with app.router.lifespan_context(app):
            live = app.state.service.live
            first = weakref.ref(live.current.classifier._engine)
            rename_model(model, "promoted")
            await until(lambda: live.current.classifier.name.startswith("promoted"))
            await until(lambda: gc.collect() is not None and first() is None)

    asyncio.run(scenario())


def test_the_engine_computes_behind_everything_else(model):
    def n_behind():
        tasks = [int(task.name) for task in Path("/proc/self/task").iterdir()]
        return sum(os.getpriority(os.PRIO_PROCESS, task) > 0 for task in tasks)

    before = n_behind()

    async def scenario(*_):
        assert n_behind() > before

    run_live(model, scenario)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == 0


def test_warming_up_reads_texts_of_many_shapes():
    read = []

    class Classifier:
        n_parallel = 2

        def serial(self):
            return self

        def predict(self, texts):
            read.append((len(texts), len(texts[0].split())))

    warm_up(Classifier())
    assert {1, 8, 32} <= {n_rows for n_rows, _ in read}
    assert max(n_words for _, n_words in read) > 200
