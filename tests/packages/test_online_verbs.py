"""Every online verb of plain `cesta`, installed from its wheel; the current folder is empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from operations.cli import EXTRAS, MAKING, TRAINING
from tests.building.runs import make_run
from tests.running import needs
from tests.running.installation import Installation

FREE_PORTS = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")


def test_it_holds_none_of_the_libraries_that_make_releases(installation: Installation) -> None:
    names = sorted({*TRAINING, "loadtests"})
    code = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    assert installation.run("python", "-c", code).stdout == "[]\n"
    assert {"torch", "pandas"} <= {*names}


def test_a_release_from_its_run_to_its_end(installation: Installation, tmp_path: Path) -> None:
    """Published, read, promoted and retired in a folder, without a server."""
    repository = ("--repository", tmp_path / "repository")
    for seed in (1, 2, 3):
        run = make_run(tmp_path / str(seed) / "run", seed)
        assert f"release {seed} in " in installation.cesta("publish", "--out", run.parent, *repository)

    assert "release 3 is whole" in installation.cesta("release", "verify", 3, *repository)
    assert json.loads(installation.cesta("release", "show", 3, *repository))["release"] == 3
    assert "clock.now.npy" in installation.cesta("release", "diff", 2, 3, *repository)
    assert "release 2 is active" in installation.cesta("release", "promote", 2, "--offline", *repository)
    canary = installation.cesta("release", "canary", 3, "--percent", 10, "--offline", *repository)
    assert "release 3 gets 10 % of the requests" in canary
    assert "canary 10 %" in installation.cesta("release", "list", *repository)
    assert "release 1 is active" in installation.cesta("release", "rollback", "--offline", *repository)
    installation.cesta("release", "promote", 3, "--offline", *repository)
    assert installation.cesta("release", "retire", "--offline", *repository) == "retired 2\n"


def test_a_release_of_an_older_cesta_is_signed(installation: Installation, tmp_path: Path) -> None:
    """Refused at first; then its operator vouches for it. A key's line makes it trusted elsewhere."""
    repository = ("--repository", tmp_path / "repository")
    installation.cesta("publish", "--out", make_run(tmp_path / "1" / "run").parent, *repository)
    (tmp_path / "repository" / "signatures.jsonl").unlink()
    done = installation.run("cesta", "release", "promote", 1, "--offline", *repository)
    assert 'not signed; if you know where it comes from, run "cesta release sign 1"' in done.stderr
    assert installation.cesta("release", "sign", 1, *repository).startswith("release 1 is signed by ")
    assert "release 1 is active" in installation.cesta("release", "promote", 1, "--offline", *repository)
    line, *trusted = installation.cesta("release", "keys").splitlines()
    assert trusted[0].endswith("(yours)")
    elsewhere = {"XDG_STATE_HOME": str(tmp_path / "elsewhere")}
    assert "trusted-keys trusts " in installation.run("cesta", "release", "trust", line, **elsewhere).stdout
    assert "is whole" in installation.run("cesta", "release", "verify", 1, *repository, **elsewhere).stdout


def test_keys_are_made_listed_and_revoked(installation: Installation, tmp_path: Path) -> None:
    folder = ("--folder", tmp_path)
    assert installation.cesta("keys", "add", "web", *folder).startswith("cesta_")
    assert "web" in installation.cesta("keys", "list", *folder)
    assert installation.cesta("keys", "revoke", "web", *folder) == 'the key "web" is revoked\n'


def test_the_catalog_is_handed_to_the_gateway(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "items.json").write_text('{"items": {"a": {"name": "apples"}}}')
    done = installation.run("python", "-m", "operations.gateway.items", tmp_path, tmp_path / "gateway")
    assert (done.stdout, done.stderr) == ("1 items\n", "")


@pytest.mark.triton
def test_a_release_is_served_asked_and_switched(installation: Installation, toys: Path) -> None:
    """The supervisor promotes it, tries it as a canary, rolls it back and retires it while it answers."""
    needs.a_tritonserver()
    repository = ("--repository", toys)
    installation.cesta("release", "promote", 1, "--offline", *repository)
    with installation.ready("cesta", "serve", *repository, *FREE_PORTS, "--supervisor-port=0") as addresses:
        address = ("--address", addresses["grpc"])
        control = (*repository, *address)

        def answering() -> int:
            return int(json.loads(installation.cesta("ask", "--basket", "i1", "--json", *address))["release"])

        assert answering() == 1
        assert "release 2 is active at" in installation.cesta("release", "promote", 2, *control)
        assert answering() == 2
        canary = installation.cesta("release", "canary", 3, "--percent", 10, *control)
        assert "release 3 gets 10 % of the requests at" in canary
        installation.cesta("release", "canary", 3, "--percent", 0, *control)
        installation.cesta("release", "rollback", *control)
        assert answering() == 1
        installation.cesta("release", "promote", 3, *control)
        assert installation.cesta("release", "retire", *control) == "retired 2\n"
        assert "release 3" in installation.cesta("ask", *address)


@pytest.mark.triton
def test_a_server_without_a_supervisor(installation: Installation, toys: Path) -> None:
    needs.a_tritonserver()
    installation.cesta("release", "promote", 1, "--offline", "--repository", toys)
    server = ("-m", "operations.server", "--repository", toys, *FREE_PORTS)
    with installation.ready("python", *server) as addresses:
        assert "release 1" in installation.cesta("ask", "--address", addresses["grpc"])


def test_the_stack_says_at_once_what_it_lacks(installation: Installation, tmp_path: Path) -> None:
    """Prometheus on a machine without it; then nginx, or nothing: it has its configuration."""
    done = installation.run("cesta", "stack", "--out", tmp_path / "out", PATH="")
    assert (done.returncode, done.stderr) == (1, "prometheus is not installed; apt-get install prometheus\n")
    assert not (tmp_path / "out").exists()
    for program in ("prometheus", "prometheus-alertmanager"):
        (tmp_path / program).touch(mode=0o755)
    code = "from operations.stack.programs import check_machine; check_machine()"
    done = installation.run("python", "-c", code, PATH=str(tmp_path))
    assert done.returncode == 0 or "apt-get install nginx" in done.stderr


@pytest.mark.parametrize("verb", MAKING)
def test_an_offline_verb_names_the_extra_that_it_needs(installation: Installation, verb: str) -> None:
    """In one sentence."""
    (installation.folder / "artifacts" / "data").mkdir(parents=True, exist_ok=True)
    files = ("--train=x", "--test=x", "--negatives=x") if verb == "paper" else ()
    done = installation.run("cesta", verb, *files)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"run: pip install 'cesta[{EXTRAS.get(verb, 'train')}]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_generated_lies_in_the_current_folder(installation: Installation) -> None:
    done = installation.run("cesta", "serve", *FREE_PORTS, "--supervisor-port=0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith('no release of recommender in artifacts/repository; run "cesta demo" first')
