"""Batching: who is read with whom, in which order, and what happens to those who do not wait for the end."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from gapnlp.calibration import Calibration
from gapnlp.classifier import GapClassifier
from gapnlp.engines.fake import FakeEngine
from gapnlp.model_dir import Decision
from serve.inference import Batcher, BatchLimits, DeadlineError, EngineFailedError, QueueFullError, StoppedError
from serve.inference.cache import key_of

TIMEOUT = 20


class GatedEngine(FakeEngine):
    """Wait at a gate, and remember the number of sequences of every call."""

    def __init__(self, n_parallel=1):
        self.n_parallel = n_parallel
        self.gate = threading.Event()
        self.calls = []
        self.begun = threading.Semaphore(0)

    def run(self, input_ids, attention_mask):
        self.calls.append(input_ids[:, 0].tolist())
        self.begun.release()
        assert self.gate.wait(TIMEOUT)
        return super().run(input_ids, attention_mask)


class TellingEngine(FakeEngine):
    """Score a text by its first word alone: no two words alike."""

    n_parallel = 2

    def run(self, input_ids, attention_mask):
        output = super().run(input_ids, attention_mask)
        output.logits[:, 0] = input_ids[:, 0] / 1000 - 2.5
        return output


def new_classifier(engine, name="tiny@1.0"):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, **{f"w{i}": i for i in range(1, 6000)}}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    decision = Decision(Calibration((1.0,) * 5, (0.0,) * 5, (0.5,) * 5), 0.7, 0.9, 0.5, "nothing")
    return GapClassifier(engine, tokenizer, decision=decision, name=name)


def open_engine(n_parallel=1):
    engine = GatedEngine(n_parallel)
    engine.gate.set()
    return engine


async def begun(engine):
    assert await asyncio.to_thread(engine.begun.acquire, timeout=TIMEOUT)


def ask(batcher, *texts, timeout=TIMEOUT):
    return asyncio.create_task(batcher.classify(list(texts), timeout=timeout))


def test_what_comes_while_the_engine_is_busy_is_read_together():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        others = [ask(batcher, f"w{i}") for i in range(2, 6)]
        await asyncio.sleep(0.02)
        assert batcher.n_waiting == 4
        engine.gate.set()
        await asyncio.gather(first, *others)
        assert [sorted(call) for call in engine.calls] == [[1], [2, 3, 4, 5]]
        assert batcher.n_waiting == 0
        await batcher.close()

    asyncio.run(scenario())


def test_requests_of_one_moment_share_a_batch_even_when_the_engine_is_free():
    async def scenario():
        engine = open_engine()
        batcher = Batcher(new_classifier(engine))
        await asyncio.gather(*(batcher.classify([f"w{i}"], timeout=TIMEOUT) for i in range(1, 9)))
        assert [len(call) for call in engine.calls] == [8]
        await batcher.close()

    asyncio.run(scenario())


def test_the_oldest_goes_first_with_those_of_its_length_up_to_the_budget():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(tokens_per_batch=2))
        first = ask(batcher, "w1")
        await begun(engine)
        long = " ".join(["w200"] * 40)
        waiting = [ask(batcher, text) for text in ("w101", long, "w102", "w103")]
        await asyncio.sleep(0.02)
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert engine.calls == [[1], [101, 102], [200], [103]]
        await batcher.close()

    asyncio.run(scenario())


def test_as_many_batches_run_at_once_as_the_engine_has_room_for():
    async def scenario():
        engine = GatedEngine(n_parallel=2)
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        second = ask(batcher, "w2")
        await begun(engine)  # while the first is still at the gate
        engine.gate.set()
        await asyncio.gather(first, second)
        await batcher.close()

    asyncio.run(scenario())


def test_five_thousand_texts_at_once_are_each_answered_with_their_own():
    texts = [f"w{i}" + " w1" * (i % 40) for i in range(1, 5001)]
    classifier = new_classifier(TellingEngine())

    async def scenario():
        batcher = Batcher(classifier, limits=BatchLimits(max_waiting=5000))
        single = [batcher.classify([text], timeout=TIMEOUT) for text in texts[:2500]]
        many = [batcher.classify(texts[start : start + 125], timeout=TIMEOUT) for start in range(2500, 5000, 125)]
        found = await asyncio.gather(*single, *many)
        await batcher.close()
        return [prediction for predictions in found for prediction in predictions]

    found = asyncio.run(scenario())
    alone = [classifier.predict([text])[0] for text in texts]
    np.testing.assert_allclose([p.proba for p in found], [p.proba for p in alone], atol=1e-5)
    assert [p.labels for p in found] == [p.labels for p in alone]
    assert len({p.proba for p in alone}) == 5000  # or a swap could not be seen


def test_whoever_gives_up_takes_back_what_was_not_begun():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        gone = [ask(batcher, f"w{i}") for i in range(500, 1000)]
        stays = ask(batcher, "w2")
        await asyncio.sleep(0.05)
        assert batcher.n_waiting == 501
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert batcher.n_waiting == 1
        engine.gate.set()
        await asyncio.gather(first, stays)
        assert engine.calls == [[1], [2]]
        await batcher.close()

    asyncio.run(scenario())


def test_a_request_that_gave_up_half_way_frees_what_is_left_of_it():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(tokens_per_batch=1))
        half = ask(batcher, "w1", "w2", "w3")
        await begun(engine)
        half.cancel()
        await asyncio.gather(half, return_exceptions=True)
        assert batcher.n_waiting == 0
        engine.gate.set()
        assert len(await batcher.classify(["w4"], timeout=TIMEOUT)) == 1
        assert engine.calls == [[1], [4]]
        await batcher.close()

    asyncio.run(scenario())


def test_nobody_reads_for_a_client_that_has_gone_though_the_loop_does_not_know_yet():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        left = threading.Event()
        gone = [
            asyncio.create_task(batcher.classify([f"w{i}", f"w{i} w3 " * 50], timeout=TIMEOUT, is_gone=left.is_set))
            for i in (10, 11)
        ]
        stays = ask(batcher, "w2")
        await asyncio.sleep(0.05)
        left.set()
        engine.gate.set()
        await asyncio.gather(first, stays)
        assert engine.calls == [[1], [2]]
        assert batcher.n_waiting == 0  # or threads would look for them again and again
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert batcher.n_waiting == 0
        await batcher.close()

    asyncio.run(scenario())


def test_the_deadline_is_kept_and_what_waited_is_dropped():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        started = time.monotonic()
        with pytest.raises(DeadlineError, match=r"not read within 0\.05 s"):
            await batcher.classify(["w2"], timeout=0.05)
        assert time.monotonic() - started < 5
        assert batcher.n_waiting == 0
        engine.gate.set()
        await first
        await batcher.close()
        assert engine.calls == [[1]]

    asyncio.run(scenario())


def test_the_deadline_holds_for_cutting_into_tokens_too(monkeypatch):
    async def scenario():
        batcher = Batcher(new_classifier(open_engine()))
        monkeypatch.setattr(GapClassifier, "encode", lambda *_: time.sleep(0.5))
        with pytest.raises(DeadlineError, match=r"not read within 0\.05 s"):
            await batcher.classify(["w1 " * 4000], timeout=0.05)
        await batcher.close()

    asyncio.run(scenario())


def test_long_texts_are_not_cut_once_the_queue_is_full():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(max_waiting=1))
        first = ask(batcher, "w1")
        await begun(engine)
        long = [ask(batcher, f"w{i} " * 4000) for i in (2, 3, 4)]  # all are let in: nothing waits yet
        while sum(task.done() for task in long) < 2:  # whichever is cut first waits
            await asyncio.sleep(0.005)
        (waits,) = (task for task in long if not task.done())
        assert all(isinstance(task.exception(), QueueFullError) for task in long if task is not waits)
        engine.gate.set()
        await asyncio.gather(first, waits)
        await batcher.close()

    asyncio.run(scenario())


def test_a_full_queue_refuses_and_says_when_to_come_back():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(max_waiting=3))
        first = ask(batcher, "w1")
        await begun(engine)
        waiting = [ask(batcher, f"w{i}") for i in (2, 3)]
        await asyncio.sleep(0.02)
        assert not batcher.is_full()
        with pytest.raises(QueueFullError) as refused:
            await batcher.classify(["w4", "w5"], timeout=TIMEOUT)
        assert 1 <= refused.value.retry_after <= 60
        waiting.append(ask(batcher, "w4"))
        await asyncio.sleep(0.02)
        assert batcher.is_full()
        engine.gate.set()
        await asyncio.gather(first, *waiting)
        assert not batcher.is_full()
        await batcher.close()

    asyncio.run(scenario())


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    async def scenario():
        batcher = Batcher(new_classifier(open_engine()), limits=BatchLimits(max_waiting=2))
        assert len(await batcher.classify(["w1", "w2", "w3"], timeout=TIMEOUT)) == 3
        await batcher.close()

    asyncio.run(scenario())


def test_long_texts_fill_the_queue_sooner():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(max_waiting=10))
        first = ask(batcher, "w1")
        await begun(engine)
        long = ask(batcher, "w2 " * 1000)
        await asyncio.sleep(0.02)
        assert batcher.is_full()
        engine.gate.set()
        await asyncio.gather(first, long)
        await batcher.close()

    asyncio.run(scenario())


def test_when_to_come_back_follows_from_how_fast_texts_are_read():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(max_waiting=100, tokens_per_batch=1))
        slow = ask(batcher, "w1")
        await begun(engine)
        await asyncio.sleep(0.3)  # one text takes this long
        engine.gate.set()
        await slow
        engine.gate.clear()
        waiting = [ask(batcher, f"w{i}") for i in range(2, 22)]
        await begun(engine)
        assert 5 <= batcher.retry_after() <= 60  # 19 of them are still to come
        engine.gate.set()
        await asyncio.gather(*waiting)
        await batcher.close()

    asyncio.run(scenario())


def test_a_text_read_before_is_not_read_again_and_no_text_is_kept():
    async def scenario():
        engine = open_engine()
        batcher = Batcher(new_classifier(engine))
        first = await batcher.classify(["w1 w2"], timeout=TIMEOUT)
        again = await batcher.classify(["w1 w2", "w1  w2"], timeout=TIMEOUT)
        assert again[0] == first[0]
        assert len(engine.calls) == 2  # another number of blanks is another text: offsets differ
        await batcher.close()

    asyncio.run(scenario())
    assert len(key_of("w1 w2" * 1000)) == 16


def test_the_cache_can_be_switched_off():
    async def scenario():
        engine = open_engine()
        batcher = Batcher(new_classifier(engine), limits=BatchLimits(cache_texts=0))
        for _ in range(2):
            await batcher.classify(["w1"], timeout=TIMEOUT)
        assert len(engine.calls) == 2
        await batcher.close()

    asyncio.run(scenario())


def test_a_text_that_breaks_the_engine_harms_no_other():
    class Breaks(FakeEngine):
        def run(self, input_ids, attention_mask):
            if 13 in input_ids:
                raise RuntimeError("secret of the text")
            return super().run(input_ids, attention_mask)

    async def scenario():
        batcher = Batcher(new_classifier(Breaks()))
        answers = [batcher.classify([f"w{i}"], timeout=TIMEOUT) for i in (12, 13, 14)]
        found = await asyncio.gather(*answers, return_exceptions=True)
        await batcher.close()
        return found

    before, broken, after = asyncio.run(scenario())
    assert len(before) == len(after) == 1
    assert isinstance(broken, EngineFailedError)
    assert "secret" not in str(broken)


def test_a_text_that_cannot_be_read_has_its_error_among_the_others():
    async def scenario():
        batcher = Batcher(new_classifier(open_engine()))
        found = await batcher.classify(["w1", " ", "w2"], timeout=TIMEOUT)
        await batcher.close()
        return found

    assert [bool(prediction.error) for prediction in asyncio.run(scenario())] == [False, True, False]


def test_a_new_model_reads_what_comes_and_the_old_one_what_waits():
    async def scenario():
        old, new = GatedEngine(), open_engine()
        batcher = Batcher(new_classifier(old))
        first = ask(batcher, "w1")
        await begun(old)
        waits = ask(batcher, "w2", "w3")
        await asyncio.sleep(0.02)
        batcher.swap(new_classifier(new, name="tiny@2.0"))
        later = ask(batcher, "w1", "w2")
        await asyncio.sleep(0.02)
        old.gate.set()
        found = await asyncio.gather(first, waits, later)
        assert [{p.model for p in predictions} for predictions in found] == [{"tiny@1.0"}, {"tiny@1.0"}, {"tiny@2.0"}]
        assert len(await batcher.classify(["w9"], timeout=TIMEOUT)) == 1
        await batcher.close()

    asyncio.run(scenario())


def test_a_model_that_was_replaced_is_let_go_though_nobody_asks():
    async def scenario():
        classifiers = [new_classifier(open_engine(), name=f"tiny@{n}.0") for n in range(3)]
        gone = [weakref.ref(classifier._engine) for classifier in classifiers[:2]]
        batcher = Batcher(classifiers[0])
        await batcher.classify(["w1"], timeout=TIMEOUT)
        for classifier in classifiers[1:]:
            batcher.swap(classifier)
        del classifiers, classifier
        gc.collect()
        assert [engine() for engine in gone] == [None, None]
        await batcher.close()

    asyncio.run(scenario())


def test_closing_reads_what_waits_and_takes_no_more():
    async def scenario():
        engine = GatedEngine()
        batcher = Batcher(new_classifier(engine))
        first = ask(batcher, "w1")
        await begun(engine)
        waits = ask(batcher, "w2")
        await asyncio.sleep(0.02)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.02)
        with pytest.raises(StoppedError):
            await batcher.classify(["w3"], timeout=TIMEOUT)
        assert not closing.done()
        engine.gate.set()
        await closing
        assert [len(predictions) for predictions in await asyncio.gather(first, waits)] == [1, 1]

    asyncio.run(scenario())


def test_every_batch_is_reported():
    batches = []

    async def scenario():
        batcher = Batcher(new_classifier(open_engine()), on_batch=lambda *batch: batches.append(batch))
        await batcher.classify(["w1", "w2"], timeout=TIMEOUT)
        await batcher.close()

    asyncio.run(scenario())
    ((n_texts, n_tokens, seconds),) = batches
    assert (n_texts, n_tokens) == (2, 2)
    assert 0 < seconds < TIMEOUT


def test_long_texts_are_cut_into_tokens_outside_the_event_loop():
    threads = []

    class Watched(GapClassifier):
        def encode(self, texts):
            threads.append(threading.current_thread())
            return super().encode(texts)

    classifier = new_classifier(open_engine())
    classifier.__class__ = Watched

    async def scenario():
        batcher = Batcher(classifier)
        await batcher.classify(["w1"], timeout=TIMEOUT)
        await batcher.classify(["w1 " * 2000], timeout=TIMEOUT)
        await batcher.close()

    asyncio.run(scenario())
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_a_long_text_is_read_even_if_the_model_is_replaced_while_it_is_cut():
    async def scenario():
        batcher = Batcher(new_classifier(open_engine()))
        long = ask(batcher, "w1 " * 2000)
        await asyncio.sleep(0)
        batcher.swap(new_classifier(open_engine(), name="tiny@2.0"))
        assert (await batcher.classify(["w1"], timeout=TIMEOUT))[0].model == "tiny@2.0"
        assert (await long)[0].model == "tiny@1.0"
        await batcher.close()

    asyncio.run(scenario())
