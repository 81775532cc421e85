"""What deploy.yml runs on hosts: a version's images by digest, the way back, the command that is sent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from deploy.rollout.images_file import images_file
from tests import ROOT

ROLLOUT = ROOT / "deploy" / "rollout"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
REFERENCES = {
    name: f"ghcr.io/o/cesta/cesta-{name}@sha256:{'a1' * 32}" for name in ("cpu", "gpu", "gateway", "train")
}


def test_every_service_that_is_built_has_its_image_by_digest() -> None:
    """The file is what docker compose reads beside docker-compose.yml."""
    written = yaml.safe_load(images_file("v0.2.0", REFERENCES, COMPOSE))
    assert written["x-version"] == "v0.2.0"
    assert {name: service["image"] for name, service in written["services"].items()} == {
        name: REFERENCES[service["image"].removeprefix("cesta-")]
        for name, service in COMPOSE["services"].items()
        if "build" in service
    }


def test_the_verb_writes_it(tmp_path: Path) -> None:
    """In the linters' environment, which has a parser of YAML."""
    python = ROOT / ".venv-lint" / "bin" / "python"
    if not python.exists():
        pytest.skip("the linters are not installed; run make lint-deploy")
    for name, reference in REFERENCES.items():
        (tmp_path / name).write_text(f"{reference}\n")
    command = [python, ROLLOUT / "images_file.py", "v0.2.0", tmp_path, tmp_path / "out" / "images.yml"]
    subprocess.run(command, check=True)
    assert (tmp_path / "out" / "images.yml").read_text() == images_file("v0.2.0", REFERENCES, COMPOSE)


@pytest.mark.parametrize(
    ("version", "references", "sentence"),
    [
        ("0.2.0", REFERENCES, '"0.2.0" is not a version; give a tag such as v0.2.0'),
        ("v1 && reboot", REFERENCES, "is not a version"),
        ("v0.2.0", REFERENCES | {"cpu": "ghcr.io/o/cesta/cesta-cpu:v0.2.0"}, "image cpu has the reference"),
        ("v0.2.0", {}, 'has the reference ""'),
    ],
)
def test_a_tag_is_no_digest(version: str, references: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        images_file(version, references, COMPOSE)


class Host:
    """A checkout with three versions; its docker notes its words and fails for images named "broken"."""

    def __init__(self, folder: Path) -> None:
        self.checkout, self.log = folder / "checkout", folder / "docker.log"
        programs = folder / "bin"
        programs.mkdir()
        docker = programs / "docker"
        docker.write_text(  # the fifth word is the file of images
            f'#!/bin/sh\necho "$@" >> {self.log}\ncat docker-compose.yml "$5" >> {self.log}\n'
            'case "$*" in *" up "*) ! grep -q broken "$5" ;; esac\n'
        )
        docker.chmod(0o755)
        self._environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
        shutil.copytree(ROLLOUT, self.checkout / "deploy" / "rollout")
        self.git("init", "--quiet")
        for version in ("v1.0.0", "v2.0.0", "v3.0.0"):
            (self.checkout / "docker-compose.yml").write_text(f"# compose of {version}\n")
            self.git("add", ".")
            self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", version)
            self.git("tag", version)

    def git(self, *words: str) -> str:
        done = subprocess.run(["git", *words], cwd=self.checkout, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def roll(self, verb: str, version: str = "", image: str = "whole") -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        if version:
            text = f"x-version: {version}\nservices:\n  triton: {{image: {image}}}\n"
            (self.checkout / "images.new.yml").write_text(text)
        return subprocess.run(
            ["sh", "deploy/rollout/rollout.sh", verb],
            cwd=self.checkout,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def runs(self) -> str:
        return self.git("describe", "--tags", "--exact-match")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_version_replaces_another_and_comes_back(host: Host) -> None:
    """Files and images change together: compose reads those of the same version."""
    assert host.roll("up", "v1.0.0").stdout == "v1.0.0 runs\n"
    assert host.roll("up", "v2.0.0").stdout == "v2.0.0 runs\n"
    pulled, *_, started = [line for line in host.log.read_text().splitlines() if line.startswith("compose")]
    assert pulled == "compose --file docker-compose.yml --file images.new.yml pull --quiet"
    assert started.endswith("images.new.yml up --detach --no-build --wait --wait-timeout 300")
    assert "# compose of v2.0.0\nx-version: v2.0.0" in host.log.read_text()
    assert host.roll("back").stdout == "v1.0.0 runs\n"
    assert host.runs == "v1.0.0"
    assert host.roll("back").stdout == "v2.0.0 runs\n"


def test_a_version_that_does_not_become_healthy_leaves_the_one_before(host: Host) -> None:
    host.roll("up", "v1.0.0")
    host.roll("up", "v2.0.0")
    done = host.roll("up", "v3.0.0", image="broken")
    assert (done.returncode, host.runs) == (1, "v2.0.0")
    assert "v3.0.0 did not become healthy; v2.0.0 runs again" in done.stderr
    assert host.roll("back").stdout == "v1.0.0 runs\n"


def test_the_first_version_has_none_to_return_to(host: Host) -> None:
    assert "images.before.yml is missing: no version ran on this host before" in host.roll("back").stderr
    done = host.roll("up", "v1.0.0", image="broken")
    assert (done.returncode, done.stderr) == (1, "v1.0.0 did not become healthy; nothing ran before it\n")


AWS = """#!/bin/sh
printf '%s\\n' "$@" >> {log}
case "$2" in
  send-command) echo 1-2-3 ;;
  list-commands) [ -e {asked} ] && echo "{status}" || {{ touch {asked}; echo "InProgress\t2"; }} ;;
  list-command-invocations) echo "i-1 Success v2.0.0 runs" ;;
esac
"""


def send(
    folder: Path, *words: str, status: str = "Success\t2"
) -> tuple[subprocess.CompletedProcess[str], str]:
    """hosts.sh with an aws that notes what it is told; what it noted."""
    log, aws = folder / "aws.log", folder / "aws"
    aws.write_text(AWS.format(log=log, asked=folder / "asked", status=status))
    aws.chmod(0o755)
    log.touch()
    done = subprocess.run(
        ["bash", ROLLOUT / "hosts.sh", *words],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "POLL_S": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done, log.read_text()


needs_jq = pytest.mark.skipif(not shutil.which("jq"), reason="apt-get install jq")


@needs_jq
def test_hosts_get_the_file_and_the_command(tmp_path: Path, host: Host) -> None:
    """The command that arrives, run on a host, writes the file and starts the version."""
    (tmp_path / "images.yml").write_text("x-version: v2.0.0\nservices:\n  triton: {image: whole}\n")
    done, told = send(tmp_path, "production", "up", str(tmp_path / "images.yml"))
    assert done.returncode == 0
    assert "v2.0.0 runs" in done.stdout
    assert "Key=tag:cesta,Values=production" in told
    (parameters,) = re.findall(r"^\{.*?^\}", told, re.MULTILINE | re.DOTALL)
    (command,) = json.loads(parameters)["commands"]
    assert command.startswith("cd /opt/cesta && ")
    written = command.replace("cd /opt/cesta", f"cd {host.checkout}").split(" && sh ")[0]
    subprocess.run(["sh", "-c", written], check=True)
    assert host.roll("up").stdout == "v2.0.0 runs\n"


@needs_jq
@pytest.mark.parametrize("status", ["Failed\t2", "Success\t0", "TimedOut\t1"])
def test_a_host_that_fails_ends_the_rollout(tmp_path: Path, status: str) -> None:
    """No host with the tag is a failure, too."""
    done, _ = send(tmp_path, "staging", "back", status=status)
    assert (done.returncode, "the hosts did not all succeed" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    "words", [(), ("a b", "back"), ("staging",), ("staging", "remove"), ("staging", "up")]
)
def test_other_words_are_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    done, told = send(tmp_path, *words)
    assert (done.returncode, told) == (2, "")
    assert "hosts.sh GROUP up IMAGES_FILE" in done.stderr
