"""The whole stack on loopback, as `make stack` starts it: queries, administration, scrapes, secrets."""

from __future__ import annotations

import os
import signal
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from export_scripts.retraining.changes import Changes
from export_scripts.retraining.journal import Journal
from export_scripts.retraining.server import LocalServer, RemoteServer
from export_scripts.retraining.trial import Trial
from export_scripts.retraining.watch import Clock
from export_scripts.settings import load_settings
from operations.errors import CestaError
from operations.gateway.control import announce
from operations.gateway.keys import add_key
from operations.gateway.link import admin_token
from operations.gateway.remote import RemoteGateway
from operations.releases import history
from operations.releases.repository import read_release
from operations.releases.stores.store import open_repository
from operations.server.control_secret import find_secret
from tests.running.processes import children, command
from tests.running.scripted_server import Hours
from tests.running.stack import PROGRAMS, Stack, eventually, open_stack, publish_toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack on two toy releases; the first is active."""
    out = tmp_path_factory.mktemp("stack")
    publish_toys(out, 2)
    with open_stack(out) as stack:
        yield stack


def test_an_admin_promotes_and_rolls_back_through_the_gateway(running: Stack) -> None:
    """A shop's key may not. The history names the key, and the promoted release answers at once."""
    assert running.recommend() == 1
    assert running.ask("/admin/releases/2/promote", running.shop, method="POST")[0] == 403
    promoted = running.change("/admin/releases/2/promote")
    assert (promoted["state"], promoted["result"]["before"]) == ("succeeded", 1), promoted
    assert {"verify", "trial", "load ncf_scorer", "switch"} <= {step["step"] for step in promoted["steps"]}
    assert running.recommend() == 2
    assert running.change("/admin/rollback")["state"] == "succeeded"
    assert running.recommend() == 1
    listed = running.ask("/admin/releases", running.admin)[1]
    assert (listed["active"], len(listed["releases"])) == (1, 2)
    repository = open_repository(running.out / "repository")
    assert [record["who"] for record in history.read(repository)][-2:] == ["key:ops"] * 2
    assert running.change("/admin/releases/7/promote")["failure"]["status"] == 409
    with repository.lock():
        refused = running.change("/admin/releases/2/promote")["failure"]
    assert (refused["status"], "wait until it is done" in refused["error"]) == (503, True)


def test_a_canary_release_gets_its_share(running: Stack) -> None:
    """It gets its share of sessions until it is ended; the gateway follows the repository."""
    path = "/admin/releases/2/canary"
    assert running.change(path, {"percent": 50})["state"] == "succeeded"
    eventually(lambda: {running.recommend() for _ in range(20)} == {1, 2})
    assert running.change(path, {"percent": 0})["state"] == "succeeded"
    eventually(lambda: {running.recommend() for _ in range(20)} == {1})


def test_a_retraining_tries_a_release_on_shops(running: Stack, tmp_path: Path) -> None:
    """Their requests of both releases are counted, here as at the supervisor's own port, and one of them is
    promoted through the gateway, in the place of the other. The toy sampler counts no items, so a judgement
    lacks them.
    """
    repository, settings = open_repository(running.out / "repository"), {"retrain.percent": 50}
    settings |= {"retrain.minutes": 1, "retrain.least_requests": 20, "retrain.slow": 1}
    chosen = load_settings(overrides=settings | {"retrain.undecided": "promote"})
    local = LocalServer(
        repository, running.addresses.triton_grpc, running.addresses.supervisor, chosen.release
    )
    remote = RemoteServer(RemoteGateway(f"http://{running.addresses.http}", running.admin))
    asked: list[int] = []
    hours = Hours()

    def shop(seconds: float) -> None:
        """Twenty requests, once the gateway follows the split."""
        if not asked:
            eventually(lambda: running.recommend() == 2)
        asked.extend(running.recommend() for _ in range(20))
        hours.pause(seconds)

    changes = Changes(local, repository, 1, Clock(hours.clock.now, shop))
    journal = Journal(tmp_path, repository, 60)
    said = Trial(2, changes, journal, chosen.retrain).run()
    verdict, canary = journal.run.verdict, journal.run.canary
    assert verdict
    assert canary
    assert said.startswith(", undecided as the canary release: nobody counted its items in baskets")
    assert set(asked) == {1, 2}
    assert verdict.requests >= asked.count(2) > 20
    assert verdict.figures[0].interval[0] < 0 < verdict.figures[0].interval[1] < 0.2  # none failed
    assert sum(canary.sums["timed"].values()) >= len(asked)
    remote.check(read_release(repository, 2))
    assert remote.traffic()["canary"] == 2
    with pytest.raises(CestaError, match="release 1 is the active one, not 7"):
        remote.promote(2, expected=7)
    remote.promote(2, expected=1)
    assert running.recommend() == 2
    assert remote.retire(3) == []
    remote_status = running.ask("/v1/status", running.shop)[1]
    assert remote_status["retraining"]["step"] == "watch"
    assert running.change("/admin/rollback")["state"] == "succeeded"


def test_prometheus_sees_all_of_it(running: Stack) -> None:
    """It has Triton, supervisor, Alertmanager and itself, and the gateway's requests by release. On loopback
    an old Triton raises no alert.
    """
    assert running.recommend() == 1
    eventually(lambda: len(running.query("up == 1")) == 4)
    answered = 'cesta_gateway_requests_total{route="recommend", status="200", release="1"}'
    eventually(lambda: running.query(answered))
    eventually(lambda: running.query('nv_inference_request_success{model="ncf_scorer"} > 0'))
    old = "cesta_triton_info and on (job, instance) cesta_triton_outdated == 1"
    eventually(lambda: running.query(f"{old} and on (job, instance) cesta_triton_exposed == 0"))
    assert not running.query('ALERTS{alertname="TritonOutdated"}')


def test_a_key_is_revoked_while_it_runs(running: Stack) -> None:
    """Other keys stay valid."""
    from operations.gateway.keys import revoke_key

    folder = running.out / "gateway"
    key = add_key(folder, "guest", "shop", 10)
    for revoked in (False, True):
        if revoked:
            revoke_key(folder, "guest")
        assert announce(folder)
        assert running.ask("/v1/recommend", key, {"basket": []})[0] == (401 if revoked else 200)
        assert running.recommend() == 1


def test_no_secret_is_left_where_others_read(running: Stack) -> None:
    """No log, command line or metric holds one; only the owner can read the files that do."""
    running.recommend()
    token = admin_token(running.out / "gateway")
    secrets = {
        "shop's key": running.shop,
        "admin's key": running.admin,
        "token": token,
        "control": find_secret(),
    }
    assert all(len(secret) >= 16 for secret in secrets.values())
    may_hold = {running.out / "gateway" / "admin_token"}
    webhooks = (running.out / "alertmanager" / "secrets").iterdir()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (*may_hold, *webhooks))
    files = [path for path in running.out.rglob("*") if path.is_file() and path not in may_hold]
    texts = {str(path): path.read_bytes() for path in files}
    texts |= {" ".join(line): " ".join(line).encode() for line in command_lines(os.getpid())}
    with urllib.request.urlopen(f"http://{running.addresses.supervisor}/metrics") as page:
        texts["metrics"] = page.read()
    leaks = [
        (what, name)
        for what, text in texts.items()
        for name, secret in secrets.items()
        if secret.encode() in text
    ]
    assert leaks == []


def test_each_program_that_is_killed_comes_back_by_itself(running: Stack) -> None:
    """Alone it is started again. The others keep their processes, and shops are answered meanwhile."""
    before = {name: running.pid(name) for name in PROGRAMS}
    for name in ("alertmanager", "prometheus"):
        os.kill(before[name], signal.SIGKILL)
        eventually(lambda name=name: running.pid(name) not in (None, before[name]))
        assert running.recommend() == 1
    os.kill(before["gateway"], signal.SIGKILL)
    eventually(lambda: running.pid("gateway") not in (None, before["gateway"]), 5)
    eventually(running.answers, 5)
    assert running.pid("supervisor") == before["supervisor"]
    os.kill(before["supervisor"], signal.SIGKILL)
    eventually(lambda: running.pid("supervisor") not in (None, before["supervisor"]))
    eventually(running.answers, 60)
    assert [keeper.given_up for keeper in running.keepers] == [""] * 4


def command_lines(pid: int) -> list[list[str]]:
    """Command lines of all descendants of this process."""
    below = children(pid)
    return [command(child) for child in below] + [line for child in below for line in command_lines(child)]
