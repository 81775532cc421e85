"""The commands of the runbooks, each in the situation that it is for.

A command that a page gains must be tried here, or be listed with the reason why it is not.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.releases import history
from operations.releases.repository import active_release
from operations.releases.stores.store import open_repository
from tests import ROOT
from tests.running.stack import Stack, eventually, open_stack, publish_toys

pytestmark = [pytest.mark.triton, pytest.mark.timeout(240)]

PAGES = ("alerts.md", "operations.md", "bad-recommendations.md")
ELSEWHERE = {  # the beginning of a command → why it is not tried here
    "docker compose": "needs Docker",
    "sudo -E sh deploy/make_secrets.sh": "test_container_secrets.py",
    "cp .env.example": "copies a file",
    "chown": "for Docker",
    "mkdir -p artifacts/registry": "for Docker",
    "install --mode 0400": "for Docker",
    "rm /run/signing-key": "for Docker",
    "publish --out": "the rest of a Docker command",
    "-c 'cp /from": "the rest of a Docker command",
    "--env CESTA_SIGNING_KEY_FILE": "the rest of a Docker command",
    "git pull": "needs a remote repository",
    "apt-get install": "changes the machine",
    "python3.11 -m venv": "measures what pip installs",
    "scp": "needs a second machine",
    "CESTA_REPOSITORY=s3": "test_s3.py serves from a bucket",
    "make demo": "tests/machines/new_machine.sh: it downloads and trains for minutes",
    "make stack": "the fixture of this module starts it",
    "cesta export --tensorrt": "needs a GPU",
    "cesta retrain": "test_retrain.py",
    "[ $? -eq 10 ] && cesta retrain": "test_retrain.py",
    "cesta drift": "test_drift.py, test_drift_live.py",
    "cesta serve": "test_cli_live.py",
    "cesta build": "test_build.py",
    "cesta demo": "the same program as `make demo`",
    "cesta etl": "tests of etl",
    "cesta events import": "test_event_files.py",
    "cesta explain": "test_explanations.py",
    "cesta evaluate": "tests of the evaluation",
    "cesta publish": "test_publish.py",
    "cesta stack": "the fixture of this module starts it",
    "cesta ask": "test_cli_live.py",
    "cesta-": "a name, not a command",
    "pkill -9 -f 'triton_python_backend_stub": "test_supervised.py kills the stub of its own server",
    "curl -s http://127.0.0.1:8000/v2/logging": "test_server.py",
    "python -m loadtests": "measures",
    "CESTA_KEY_FILE=key .venv/bin/python -m loadtests": "measures",
    "ps -o": "needs the gateway's own folder",
}


def shell_commands(page: str) -> list[str]:
    """The commands in a page's fenced blocks, and those between backticks that begin with `cesta`."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    commands = []
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        joined = block.replace("\\\n", " ")
        commands += [" ".join(line.split("  #")[0].split()) for line in joined.splitlines()]
    commands += re.findall(r"`(cesta [a-z][^`]*)`", text)
    return [command.removeprefix(".venv/bin/") for command in commands if command and command[0] != "#"]


class Operator:
    """Types the commands of the pages where the stack of this module runs."""

    def __init__(self, stack: Stack, home: Path) -> None:
        self.stack, self.tried = stack, set[str]()
        self._variables = {
            "KEY": stack.shop,
            "OPS": stack.admin,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
        }

    def type(self, command: str, *, adapted: str = "") -> str:
        """Run a command that a page has, with the numbers and names of this stack; what it printed.

        `adapted` is the same command with other values, such as a number instead of N.
        """
        self.tried.add(command)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._here(adapted or command)],
            cwd=self.stack.out.parent,
            env=os.environ | self._variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _here(self, command: str) -> str:
        """The command with this stack's addresses and folders in place of the usual ones."""
        addresses, out = self.stack.addresses, self.stack.out
        cesta = f"{sys.executable} -m operations.cli"
        place = f"--repository={out / 'repository'}"
        command = re.sub(r"^\.venv/bin/python", sys.executable, command)
        command = re.sub(r"(?:\.venv/bin/)?cesta release (\w+)", rf"{cesta} release \1 {place}", command)
        command = re.sub(
            r"(release (?:promote|canary|rollback|retire))", rf"\1 --address={addresses.triton_grpc}", command
        )
        command = re.sub(
            r"(?:\.venv/bin/)?cesta keys (\w+)", rf"{cesta} keys \1 --folder={out / 'gateway'}", command
        )
        for port, address in {
            "8080": addresses.http,
            "9090": addresses.prometheus,
            "9093": addresses.alertmanager,
        }.items():
            command = command.replace(f"127.0.0.1:{port}", address)
        return command


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack in a folder `artifacts`, as in a checkout, on three toy releases; the first is active."""
    out = tmp_path_factory.mktemp("checkout") / "artifacts"
    publish_toys(out, 3)
    with open_stack(out) as stack:
        yield stack


@pytest.fixture(scope="module")
def operator(stack: Stack, state: Path, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """An operator whose home has the state of this session in the usual place."""
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(state, home / ".local" / "state", dirs_exist_ok=True)
    return Operator(stack, home)


def active(stack: Stack) -> int | None:
    return active_release(open_repository(stack.out / "repository"))


def test_the_state_is_shown(operator: Operator) -> None:
    assert '"ready":true' in operator.type("curl -s http://127.0.0.1:8080/readyz")
    status = 'curl -s http://127.0.0.1:8080/v1/status -H "Authorization: Bearer $KEY"'
    assert json.loads(operator.type(status))["release"] == 1
    recommend = (
        'curl -s http://127.0.0.1:8080/v1/recommend -H "Authorization: Bearer $KEY" -H "Content-Type: '
        'application/json" -d \'{"basket": ["1029743"], "user_id": "900", "k": 3}\''
    )
    assert len(json.loads(operator.type(recommend))["items"]) == 3
    assert operator.type("cesta release list").count("active") == 1
    assert "release 1 is whole" in operator.type("cesta release verify 1")
    assert "release 2" in operator.type("cesta release diff 1 2")
    assert json.loads(operator.type("cesta release show 2"))["release"] == 2


def test_a_bad_canary_is_ended_and_the_active_release_stays(operator: Operator, stack: Stack) -> None:
    """Release 2 is active, 1 is the previous one, 3 is the bad canary."""
    operator.type("cesta release promote 2")
    operator.type("cesta release canary 2", adapted="cesta release canary 3")
    eventually(lambda: "canary" in operator.type("cesta release list"))
    operator.type("cesta release canary N --percent 0", adapted="cesta release canary 3 --percent 0")
    listed = operator.type("cesta release list")
    assert ("canary" in listed, active(stack), stack.recommend()) == (False, 2, 2)
    last = history.line_of_succession(open_repository(stack.out / "repository"))
    assert last == [1, 2]


def test_a_bad_release_is_rolled_back(operator: Operator, stack: Stack) -> None:
    operator.type("cesta release rollback")
    assert (active(stack), stack.recommend()) == (1, 1)


def test_a_release_that_fell_back_is_checked_and_promoted(operator: Operator, stack: Stack) -> None:
    """test_fallback.py has the damage; here, the commands that end it are typed."""
    assert "release 2 is whole" in operator.type("cesta release verify N", adapted="cesta release verify 2")
    operator.type("cesta release promote N", adapted="cesta release promote 2")
    assert (active(stack), stack.recommend()) == (2, 2)
    assert operator.type("cesta release diff 6 7", adapted="cesta release diff 1 2")
    operator.type("cesta release rollback")
    assert (active(stack), stack.recommend()) == (1, 1)


def test_the_same_goes_through_the_gateway(operator: Operator, stack: Stack) -> None:
    admin = '-H "Authorization: Bearer $OPS"'
    canary = (
        f'curl -s http://127.0.0.1:8080/admin/releases/2/canary {admin} -H "Content-Type: application/json" '
        "-d '{\"percent\": 5}'"
    )
    promote = f"curl -s -X POST http://127.0.0.1:8080/admin/releases/2/promote {admin}"
    rollback = (
        f'curl -s http://127.0.0.1:8080/admin/rollback {admin} -H "Content-Type: application/json" '
        "-d '{\"expected_release\": 2}'"
    )
    operations = f"curl -s http://127.0.0.1:8080/admin/operations {admin}"
    for command, release in ((canary, 2), (promote, 2), (rollback, 1)):
        begun = json.loads(operator.type(command))["id"]
        eventually(lambda: json.loads(operator.type(operations))["operations"][0]["state"] == "succeeded")
        ended = json.loads(operator.type(operations))["operations"][0]
        assert (ended["id"], ended["result"]["release"]) == (begun, release)
    assert json.loads(operator.type(f"curl -s http://127.0.0.1:8080/admin/releases {admin}"))["active"] == 1


def test_a_key_asks_too_often_and_is_slowed_and_revoked(operator: Operator, stack: Stack) -> None:
    key = operator.type(
        "KEY=$(.venv/bin/cesta keys add webshop --rate 200)", adapted="cesta keys add webshop --rate 200"
    ).strip()
    operator.type(
        "OPS=$(.venv/bin/cesta keys add ops --role admin --rate 5)",
        adapted="cesta keys add ops2 --role admin --rate 5",
    )
    operator.type("cesta keys rate webshop 20", adapted="cesta keys rate webshop 1")
    statuses = [stack.ask("/v1/recommend", key, {"basket": []})[0] for _ in range(5)]
    assert {200, 429} == set(statuses)
    operator.type("cesta keys revoke webshop")
    assert stack.ask("/v1/recommend", key, {"basket": []})[0] == 401


def test_the_keys_of_a_moment_are_counted(operator: Operator, stack: Stack) -> None:
    stack.recommend()
    log = stack.out / "gateway" / "run" / "access.log"
    eventually(lambda: '"key":"web"' in log.read_text())
    moment = re.search(r'"time":"(\S{18})', log.read_text())[1]
    count = (
        'grep \'"time":"2026-11-30T10:15:3\' artifacts/gateway/run/access.log | '
        'grep -o \'"key":"[^"]*"\' | sort | uniq -c'
    )
    assert '"key":' in operator.type(count, adapted=count.replace("2026-11-30T10:15:3", moment))


def test_an_alert_is_raised_to_see_that_it_arrives(operator: Operator) -> None:
    operator.type(
        'amtool alert add NotReady severity=critical --annotation=summary="a test" '
        "--alertmanager.url=http://127.0.0.1:9093"
    )
    alerts = json.loads(operator.type("curl -s http://127.0.0.1:9093/api/v2/alerts"))
    assert [
        alert["labels"]["alertname"] for alert in alerts if alert["annotations"].get("summary") == "a test"
    ]


def test_names_of_items_are_written_again(operator: Operator, stack: Stack) -> None:
    (stack.out / "data").mkdir()
    (stack.out / "data" / "items.json").write_text('{"items": {}}')
    operator.type(".venv/bin/python -m operations.gateway.items artifacts/data artifacts/gateway")
    assert (stack.out / "gateway" / "items.json.gz").exists()


def test_the_gateway_s_level_changes_while_it_runs(operator: Operator, stack: Stack) -> None:
    operator.type("sed -i '/^error_log /s/[a-z]*;$/info;/' artifacts/gateway/run/conf/nginx.conf")
    operator.type('kill -HUP "$(cat artifacts/gateway/run/nginx.pid)"')
    assert stack.recommend() == 1
    log = stack.out / "gateway" / "run" / "error.log"
    eventually(lambda: "[info]" in log.read_text())


def test_a_backup_is_restored(
    operator: Operator, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """On another machine, from the archive alone, the restored stack answers the same to the same key."""
    question = {"basket": ["i1", "i2"], "k": 10}
    before = stack.ask("/v1/recommend", stack.shop, question)[1]["items"]
    operator.type(
        "tar czf cesta-backup.tar.gz artifacts/repository artifacts/gateway/keys.json -C ~ .local/state/cesta"
    )

    other, home = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("other-home")
    shutil.copy(stack.out.parent / "cesta-backup.tar.gz", other)
    for command in (
        "tar xzf cesta-backup.tar.gz artifacts",
        "tar xzf cesta-backup.tar.gz -C ~ .local/state/cesta",
    ):
        operator.tried.add(command)
        subprocess.run(["bash", "-c", command], cwd=other, env=os.environ | {"HOME": str(home)}, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(home / ".local" / "state"))
        with open_stack(other / "artifacts", with_keys=False) as restored:
            assert restored.ask("/v1/recommend", stack.shop, question)[1]["items"] == before


def test_every_command_of_the_pages_has_been_tried(operator: Operator) -> None:
    """The tests above have run each, or ELSEWHERE says why not."""
    if len(operator.tried) < 20:
        pytest.skip("runs after all other tests of this module")
    commands = {command for page in PAGES for command in shell_commands(page)}
    missing = [
        command
        for command in sorted(commands)
        if not any(command in tried for tried in operator.tried)  # a page may name it without its values
        and not any(command.startswith(start) for start in ELSEWHERE)
    ]
    assert missing == []
