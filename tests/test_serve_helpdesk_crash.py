"""The service is killed at the worst moments: after the start tickets are tagged once, and can be undone."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpdesk_world import ENVIRON, QUICK, ZendeskDesk, at_work, connect, write_config
from typer.testing import CliRunner

from serve.cli.connectors import app

TEXT = "so slow and against the rules"
TAGS = {"gap_policy", "gap_delivery"}
LEASE = replace(QUICK, lease_seconds=1)
MOMENTS = ("ticket read", "write asked for", "write done")

# A service that has taken one webhook in, and goes on until it is killed.
SERVICE = """
import asyncio, json, sys
from dataclasses import replace
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from helpdesk_world import QUICK, ENVIRON, at_work
from serve.connectors import Webhook
from serve.helpdesk import load_connectors

async def main(folder):
    connectors = list(load_connectors(folder / "connectors.toml", environ=ENVIRON).values())
    async with at_work(folder, connectors, rules=replace(QUICK, lease_seconds=1)) as running:
        webhook = Webhook(json.loads((folder / "headers").read_text()), (folder / "body").read_bytes())
        print(await running.receive(webhook), flush=True)
        await asyncio.sleep(60)

asyncio.run(main(Path(sys.argv[2])))
"""


def start_service(folder, webhook):
    (folder / "headers").write_text(json.dumps(webhook.headers), encoding="utf-8")
    (folder / "body").write_bytes(webhook.body)
    command = [sys.executable, "-c", SERVICE, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def kill_at(desk, moment, service):
    """Kill the service when the stand-in comes to a moment; the answer is not sent."""

    def kill(call):
        if service and service[0].poll() is None:
            os.kill(service[0].pid, signal.SIGKILL)
            service[0].wait()

    if moment == "ticket read":
        answer = desk.answer

        def answer_and_kill(call):
            found = answer(call)
            kill(call)
            return found

        desk.answer = answer_and_kill
    elif moment == "write asked for":
        desk.before_write = kill
    else:
        desk.after_write = kill


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_service_tags_once_after_its_start_and_undo_takes_it_back(moment, tmp_path):
    with ZendeskDesk() as desk:
        desk.open(1, TEXT, tags=["vip", "gap_review"])
        write_config(tmp_path, desk)
        service = []
        kill_at(desk, moment, service)
        service.append(start_service(tmp_path, desk.created(1)))
        assert service[0].wait(timeout=60) == -signal.SIGKILL
        assert desk.tags(1) == {"vip", "gap_review"} | (TAGS if moment != "ticket read" else set())

        async def restart():
            async with at_work(tmp_path, [connect(tmp_path, desk)], rules=LEASE) as running:
                counts = await running.settled(seconds=20)
                with running.store.read() as conn:
                    return counts, running.store.taggings.open_for(conn, "zendesk")

        counts, taggings = asyncio.run(restart())
        assert (counts["done"], counts["given_up"]) == (1, 0)
        assert desk.tags(1) == {"vip", "gap_review"} | TAGS
        assert sorted(desk.changes) == [("1", "add", tag) for tag in sorted(TAGS)]
        assert [(set(tagging.tags), tagging.confirmed_at is None) for tagging in taggings] == [(TAGS, False)]
        assert desk.violations == []

        undone = undo(tmp_path)
        assert [set(row["removed"]) for row in undone] == [TAGS]
        assert desk.tags(1) == {"vip", "gap_review"}


def test_what_a_killed_service_wrote_can_be_undone_without_a_start(tmp_path):
    with ZendeskDesk() as desk:
        desk.open(1, TEXT, tags=["vip"])
        write_config(tmp_path, desk)
        service = []
        kill_at(desk, "write done", service)
        service.append(start_service(tmp_path, desk.created(1)))
        assert service[0].wait(timeout=60) == -signal.SIGKILL
        assert desk.tags(1) == {"vip"} | TAGS
        undo_as_operator(tmp_path)
        assert desk.tags(1) == {"vip"}


def environ_of(folder):
    names = {"GAPNLP_CONNECTORS": "connectors.toml", "GAPNLP_DATABASE_URL": "store.db"}
    paths = {name: str(folder / file) for name, file in names.items()}
    return ENVIRON | paths | {"GAPNLP_DATABASE_URL": f"sqlite:///{paths['GAPNLP_DATABASE_URL']}"}


def undo(folder):
    """Run the undo command in this process; return what it prints as JSON."""
    done = CliRunner(env=environ_of(folder)).invoke(app, ["undo", "zendesk", "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def undo_as_operator(folder):
    """Run the undo command as an operator does."""
    code = "from serve.cli.connectors import app; app()"
    command = [sys.executable, "-W", "error", "-c", code, "undo", "zendesk"]
    environ = os.environ | environ_of(folder)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 0, done.stderr
