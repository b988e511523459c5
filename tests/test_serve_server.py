import asyncio
import shutil
import signal
import socket
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy
from server_world import Client, LostError, start, unique_text
from service_world import fake_classifier

from gapnlp.errors import ConfigError
from gapnlp.model_dir import find_model
from serve.inference import Batcher
from serve.inference.live import LoadedModel
from serve.metrics import Metrics
from serve.rehearsal import rehearse
from serve.retention import keep_pruned
from serve.server import LINGER_SECONDS, check_exposure, listening, url_of
from serve.service import FixedModel, Service
from serve.settings import Settings
from serve.store import AsyncWriter, Delivery, Store, StoreBusyError

DRAIN_SECONDS = 0.6
CANARY = "4111-1111-1111-1111"
N_CLIENTS = 8
N_STOPS = 3
N_STOPS_SLOW = 20


@dataclass
class Life:
    """What was seen of a server from its start to its end under load.

    Attributes:
        ready_after: Seconds from the start of the process.
        first: Seconds that the first request took.
        usual: Seconds that each of the next took.
        answered: Answers under load, before and after SIGTERM.
        unready_after: Seconds from SIGTERM to the first 503 of `/readyz`.
        refused_after: Seconds from SIGTERM until nobody was let in.
        lost: Requests without an answer.
        failed: Answers other than 200.
        kept_open: Answers after SIGTERM that did not end their connection.
        late: Status of a request on an idle connection after the door was closed.
        long: Status of a long request that was under way when the door was closed.
        log: All that it logged.
        exit: Exit status.
        exit_after: Seconds from SIGTERM.
    """

    ready_after: float = 0.0
    first: float = 0.0
    usual: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    unready_after: float = float("inf")
    refused_after: float = float("inf")
    lost: list[str] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    kept_open: int = 0
    late: int = 0
    long: int = 0
    log: str = ""
    exit: int | None = None
    exit_after: float = float("inf")
    told: float = float("inf")  # when SIGTERM was sent

    def since(self):
        return time.monotonic() - self.told


def live(folder, number):
    """Start a server, measure its first requests, end it under load."""
    life = Life()
    with start(folder, drain_seconds=DRAIN_SECONDS, rate_limit="1000000/second") as server:
        port = server.port()
        life.ready_after = time.monotonic() - server.started
        asyncio.run(_live(life, server, port, number))
        life.exit = server.process.wait(30)
        life.exit_after = life.since()
        life.log = server.log.read_text(encoding="utf-8")
    return life


async def _live(life, server, port, number):
    await _measure_first(life, port, number)
    await _say_secrets(port)
    idle, patient = Client(port), Client(port)
    for client in (idle, patient):
        await client.request("/livez")
    async with asyncio.TaskGroup() as tasks:
        for client in range(N_CLIENTS):
            tasks.create_task(_load(life, port, (number, client)))
        await asyncio.sleep(0.5)
        life.told = time.monotonic()
        server.stop()
        tasks.create_task(_watch_readiness(life, port))
        await asyncio.sleep(DRAIN_SECONDS - 0.2)
        tasks.create_task(_send_long(life, patient, number))
        while life.refused_after == float("inf") and life.since() < 10:
            await asyncio.sleep(0.01)
        life.late = await _send_on_open(life, idle, [unique_text(number, 7, 7, 7)])


async def _measure_first(life, port, number):
    client = Client(port)
    seconds = []
    for index in range(21):
        begun = time.perf_counter()
        status, _, _ = await client.request("/v1/classify", {"text": unique_text(*range(number, number + 12), index)})
        seconds.append(time.perf_counter() - begun)
        assert status == 200
    life.first, life.usual = seconds[0], seconds[1:]
    await client.close()


async def _say_secrets(port):
    """Send what no log may repeat, the ways that are answered and the ways that are refused."""
    client = Client(port)
    assert (await client.request("/v1/classify", {"text": f"Nobody came. {CANARY}"}))[0] == 200
    for path, document in [
        ("/v1/classify", {"text": 1, CANARY: CANARY}),
        ("/v1/classify", {"texts": [CANARY, ""], "explain": CANARY}),
        (f"/v1/classify/{CANARY}?q={CANARY}", {"text": CANARY}),
        (f"/{CANARY}", None),
        (f"/livez/{CANARY}", {CANARY: CANARY}),
    ]:
        assert 400 <= (await client.request(path, document))[0] < 500
    await client.close()


async def _load(life, port, key):
    client = Client(port)
    for index in range(100_000):
        begun = life.since()
        try:
            status, headers, _ = await client.request("/v1/classify", {"text": unique_text(*key, index)})
        except ConnectionRefusedError:
            return
        except LostError as exc:
            life.lost.append(f"sent {begun:.3f} s after SIGTERM: {exc}")
            return
        life.answered.append(life.since())
        if status != 200:
            life.failed.append(status)
        if begun > 0.1 and headers.get("connection") != "close":
            life.kept_open += 1


async def _watch_readiness(life, port):
    """Ask for readiness, each time on a new connection, until nobody listens.

    A connection that is made in the very moment in which the door closes is cut off instead of refused: of two hundred
    a second, one may be.
    """
    while True:
        client = Client(port)
        try:
            status, _, _ = await client.request("/readyz")
        except ConnectionRefusedError:
            life.refused_after = life.since()
            return
        except LostError as exc:
            if life.since() < DRAIN_SECONDS:
                life.lost.append(str(exc))
                return
            continue
        if status == 503:
            life.unready_after = min(life.unready_after, life.since())
        await client.close()
        await asyncio.sleep(0.005)


async def _send_long(life, client, number):
    texts = [unique_text(number, index, index + 1, index + 2) * 3 for index in range(400)]
    life.long = await _send_on_open(life, client, texts)


async def _send_on_open(life, client, texts):
    """Send texts on a connection that is open: it is kept a moment longer than the door, whoever is quicker.

    On a busy machine we may come too late for that moment; then nothing is lost that was promised.
    """
    begun = life.since()
    try:
        status, headers, _ = await client.request("/v1/classify", {"texts": texts})
    except LostError as exc:
        await client.close()
        if begun < DRAIN_SECONDS + LINGER_SECONDS / 2:
            life.lost.append(f"{len(texts)} texts, sent {begun:.3f} s after SIGTERM: {exc}")
        return 200
    life.kept_open += headers.get("connection") != "close"
    return status


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """Several servers, one after another, each ended under load."""
    return [live(tmp_path_factory.mktemp("life"), number) for number in range(N_STOPS)]


def check_stop(life):
    """The end of a server under load, as it must always be."""
    assert life.lost == []
    assert life.failed == []
    assert min(life.answered) < 0 < max(life.answered), "answers came before SIGTERM and after it"
    assert life.unready_after <= 0.1
    assert life.refused_after >= DRAIN_SECONDS
    assert life.kept_open == 0
    assert (life.late, life.long) == (200, 200)
    assert life.exit == 0
    assert life.exit_after <= 30


def test_a_server_that_is_ended_under_load_loses_no_request(lives):
    for life in lives:
        check_stop(life)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(N_STOPS, N_STOPS_SLOW))
def test_a_server_that_is_ended_many_times_under_load_loses_no_request(tmp_path, number):
    check_stop(live(tmp_path, number))


def test_no_log_line_repeats_what_was_sent(lives):
    for life in lives:
        assert '"status":422' in life.log
        assert CANARY not in life.log


def test_a_server_is_ready_within_5_seconds(lives):
    assert min(life.ready_after for life in lives) <= 5, "the others shared the machine with something else"


def test_the_first_request_takes_no_longer_than_others(lives):
    """The model is warm before the server is ready."""
    times = [life.first / statistics.median(life.usual) for life in lives]
    assert min(times) <= 1.5, "the others shared the machine with something else"


def test_a_second_signal_ends_it_at_once(tmp_path):
    with start(tmp_path, drain_seconds=60) as server:
        server.port()
        server.stop()
        server.wait_for("stopping; a second signal ends it at once")
        begun = time.monotonic()
        server.stop()
        assert server.process.wait(5) == 128 + signal.SIGTERM
        assert time.monotonic() - begun < 1


def test_a_start_that_is_ended_is_never_ready_and_names_variables_that_set_nothing(tmp_path):
    with start(tmp_path, prot="s3cr3t") as server:
        server.wait_for("loading the model")
        server.stop()
        assert server.process.wait(60) == 0
        events = [line["event"] for line in server.lines()]
        assert events[-1] == "stopped"
        assert "ready" not in events
        (warning,) = [line for line in server.lines() if line["level"] == "warning"]
        assert (warning["variable"], warning["did_you_mean"]) == ("GAPNLP_PROT", "GAPNLP_PORT")
        assert "s3cr3t" not in server.log.read_text(encoding="utf-8")


# Another model, while requests come


async def swap_under_load(server, port, swap):
    """Return the models that answered, in order, and what went wrong."""
    models, wrong = [], []
    over = asyncio.Event()

    async def load(key):
        client = Client(port)
        for index in range(100_000):
            if over.is_set():
                break
            with suppress(ConnectionRefusedError):
                status, _, answer = await client.request("/v1/classify", {"text": unique_text(key, index)})
                models.append(answer["model"]) if status == 200 else wrong.append(answer)
        await client.close()

    async with asyncio.TaskGroup() as tasks:
        for key in range(N_CLIENTS):
            tasks.create_task(load(key))
        await asyncio.sleep(0.3)
        swap()
        await asyncio.to_thread(server.wait_for, "another model serves now")
        await asyncio.sleep(0.3)
        over.set()
    return models, wrong


@pytest.mark.parametrize("by", ["looking", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_new_model_takes_over_without_a_lost_request(tmp_path, edit_manifest, by):
    for version in ("1", "2"):
        shutil.copytree(find_model(), tmp_path / version)
        edit_manifest(tmp_path / version, version=version)
    current = tmp_path / "current"
    current.symlink_to("1")
    look_every = 0.2 if by == "looking" else 0

    def swap():
        (tmp_path / "next").symlink_to("2")
        (tmp_path / "next").replace(current)
        if by == "SIGHUP":
            server.process.send_signal(signal.SIGHUP)

    settings = {"model": current, "reload_seconds": look_every, "rate_limit": "1000000/second"}
    with start(tmp_path / "service", **settings) as server:
        models, wrong = asyncio.run(swap_under_load(server, server.port(), swap))
        server.stop()
        assert server.process.wait(30) == 0
    assert wrong == []
    assert (models[0], models[-1]) == ("gapnlp-en@1", "gapnlp-en@2")
    assert set(models) == {"gapnlp-en@1", "gapnlp-en@2"}


# Before the first request, and beside all requests


def opened(folder):
    """Open a store of a test, and its writer."""
    store = Store.open(f"sqlite:///{folder / 'store.db'}")
    return store, AsyncWriter(store)


def test_a_rehearsal_leaves_nothing_behind(tmp_path):
    async def rehearsed():
        store, writer = opened(tmp_path)
        batcher = Batcher(fake_classifier())
        service = Service(
            settings=Settings(),
            store=store,
            writer=writer,
            live=FixedModel(LoadedModel(fake_classifier(), None)),
            batcher=batcher,
            metrics=Metrics(),
            gate=None,
            uploads=None,
        )
        await rehearse(service)
        with store.read() as conn:
            since, until = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
            kept = store.predictions.between(conn, since=since, until=until, limit=10)
        await batcher.close()
        await writer.close()
        store.close()
        return kept

    assert not asyncio.run(rehearsed())


def prune_for(seconds, store, **settings):
    async def pruned():
        task = asyncio.create_task(keep_pruned(store, Settings(**settings), first_after=0, every=0.02))
        await asyncio.sleep(seconds)
        task.cancel()

    asyncio.run(pruned())


def test_what_is_too_old_is_deleted_again_and_again(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")

    def add(days):
        with store.begin() as conn:
            started = datetime.now(UTC) - timedelta(days=days)
            store.deliveries.add(conn, delivery(f"{days} days", received_at=started))

    def left():
        with store.read() as conn:
            return conn.execute(sqlalchemy.text("select count(*) from deliveries")).scalar_one()

    add(10)
    add(100)
    prune_for(0.2, store)
    assert left() == 1
    add(200)
    prune_for(0.2, store, retention_days=5)
    assert left() == 0
    store.close()


def test_a_store_that_cannot_be_pruned_now_is_pruned_later(tmp_path, monkeypatch):
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    calls = []
    prune = store.prune

    def busy_once(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            raise StoreBusyError("held by somebody else")
        return prune(*args, **kwargs)

    monkeypatch.setattr(store, "prune", busy_once)
    prune_for(0.3, store)
    assert len(calls) > 1
    store.close()


def delivery(id_, *, received_at):
    return Delivery(id=id_, connector="desk", delivery_id=id_, ticket="1", payload=b"{}", received_at=received_at)


# Starts that are refused


def run_refused(folder, **settings):
    """Return the exit status and all that a server says that must not start."""
    with start(folder, **settings) as server:
        status = server.process.wait(30)
        return status, server.log.read_text(encoding="utf-8")


def test_a_model_that_is_not_there_is_told_in_one_sentence(tmp_path):
    status, said = run_refused(tmp_path, model=tmp_path / "no-such-model")
    assert status == 2
    assert said.splitlines()[-1].startswith("there is no model directory")
    assert "Traceback" not in said


def test_a_public_address_without_keys_is_refused(tmp_path):
    status, said = run_refused(tmp_path, host="0.0.0.0")
    assert status == 2
    assert "gapnlp keys create" in said
    assert "0.0.0.0" in said
    assert "Traceback" not in said


def test_a_key_in_force_opens_a_public_address(tmp_path):
    settings = Settings(host="0.0.0.0", database_url=f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(ConfigError, match="gapnlp keys create"):
        check_exposure(settings)
    store = Store.open(settings.database_url.get_secret_value())
    with store.begin() as conn:
        row, _ = store.keys.create(conn, "helpdesk", scopes=["classify"], now=datetime.now(UTC))
    check_exposure(settings)
    with store.begin() as conn:
        store.keys.revoke(conn, row.id, now=datetime.now(UTC))
    store.close()
    with pytest.raises(ConfigError, match="no key in force"):
        check_exposure(settings)


def test_keys_that_are_asked_for_must_be_there(tmp_path):
    settings = Settings(require_keys=True, database_url=f"sqlite:///{tmp_path / 'store.db'}")
    with pytest.raises(ConfigError, match="asks for API keys"):
        check_exposure(settings)


def test_loopback_needs_no_store_to_be_let_through(tmp_path):
    check_exposure(Settings(host="127.0.0.1", database_url=f"sqlite:///{tmp_path / 'store.db'}"))
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ConfigError, match=f"port {port}: Address already in use"),
            listening(Settings(port=port)),
        ):
            pass


def test_an_address_of_another_machine_is_told():
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"), listening(Settings(host="192.0.2.1")):
        pass


def test_nobody_is_let_in_before_the_service_is_ready():
    with listening(Settings(port=0)) as listener, socket.socket() as client:
        assert client.connect_ex(listener.getsockname()) != 0


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:"), ("::1", "http://[::1]:")])
def test_the_url_names_the_real_port(host, url):
    with listening(Settings(host=host, port=0)) as listener:
        assert url_of(listener) == f"{url}{listener.getsockname()[1]}"
        assert listener.getsockname()[1] > 0
