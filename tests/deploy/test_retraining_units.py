"""The files that run `cesta retrain` by themselves name options, paths and exit codes that exist."""

import re
import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from export_scripts.retraining.outcome import Outcome
from export_scripts.settings import load_settings
from operations.cli import make_app
from tests import ROOT

SYSTEMD = ROOT / "deploy" / "systemd"
KUBERNETES = ROOT / "deploy" / "kubernetes"
CRON_JOB: dict[str, Any] = yaml.safe_load((KUBERNETES / "retrain.yaml").read_text())["spec"]
JOB = CRON_JOB["jobTemplate"]["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]  # keys keep their case
    parser.read(SYSTEMD / name)
    return parser


def known_options() -> set[str]:
    verb = typer.main.get_command(make_app()).commands["retrain"]  # type: ignore[attr-defined]
    return {name for option in verb.params for name in (*option.opts, *option.secondary_opts)}


def options(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def test_systemd_accepts_both_units(tmp_path: Path) -> None:
    """With a program in the place of cesta, which it looks for."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; apt-get install systemd")
    text = (SYSTEMD / "cesta-retrain.service").read_text()
    (tmp_path / "cesta-retrain.service").write_text(text.replace("/opt/cesta/bin/cesta", "/bin/true"))
    shutil.copy(SYSTEMD / "cesta-retrain.timer", tmp_path)
    units = [str(tmp_path / f"cesta-retrain.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "cesta" in line]) == (0, [])


def test_the_service_runs_the_verb_with_its_options() -> None:
    words = shlex.split(unit("cesta-retrain.service")["Service"]["ExecStart"])
    assert words[1] == "retrain"
    assert options(words) <= known_options()


def test_the_service_writes_only_where_it_may() -> None:
    service = unit("cesta-retrain.service")["Service"]
    words = shlex.split(service["ExecStart"])
    writable = Path(service["ReadWritePaths"])
    assert service["ProtectSystem"] == "strict"
    for place in (words[words.index("--out") + 1], service["Environment"].removeprefix("HOME=")):
        assert Path(place).is_relative_to(writable)


def test_an_answer_is_not_asked_for_again_and_an_accident_is() -> None:
    """A missing server or gateway may come back within minutes; so may a run that something killed."""
    assert unit("cesta-retrain.service")["Service"]["Restart"] == "on-abnormal"
    (answers,) = (rule for rule in JOB["podFailurePolicy"]["rules"] if rule["action"] == "FailJob")
    accidents = {Outcome.FAILED, Outcome.NO_SERVER, Outcome.NO_GATEWAY, Outcome.INTERRUPTED}
    codes = {outcome.code for outcome in set(Outcome) - accidents} - {0}
    assert set(answers["onExitCodes"]["values"]) == codes | {2}  # 2: a mistyped option
    assert answers["onExitCodes"]["containerName"] == CONTAINER["name"]


def test_all_run_as_often_as_the_setting_says() -> None:
    """Once a week."""
    assert load_settings().retrain.every_days == 7
    assert unit("cesta-retrain.timer")["Timer"]["OnCalendar"].startswith("Mon *-*-* ")
    assert re.fullmatch(r"\d+ \d+ \* \* 1", CRON_JOB["schedule"])
    page = (ROOT / "docs" / "operations.md").read_text()
    assert re.search(r"^\d+ \d+ \* \* 1 .*cesta retrain", page, re.MULTILINE)


def test_the_job_runs_the_verb_with_its_options() -> None:
    assert CONTAINER["command"] == ["cesta", "retrain"]
    assert options(CONTAINER["args"]) <= known_options()
    assert CRON_JOB["concurrencyPolicy"] == "Forbid"


def test_every_path_of_the_job_is_mounted() -> None:
    mounts = [mount["mountPath"] for mount in CONTAINER["volumeMounts"]]
    values = dict(word.removeprefix("--").split("=", 1) for word in CONTAINER["args"])
    paths = [values["out"], values["settings"], *(variable["value"] for variable in CONTAINER["env"])]
    for path in paths:
        assert any(path == mount or path.startswith(f"{mount}/") for mount in mounts), path


def test_the_pod_can_do_no_more_than_it_must() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert POD["securityContext"]["runAsNonRoot"] is True
    dockerfile = (ROOT / "deploy" / "images" / "train" / "Dockerfile").read_text()
    assert f"\nUSER {POD['securityContext']['runAsUser']}\n" in dockerfile
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    limits = CONTAINER["resources"]["limits"]
    assert limits["memory"] == CONTAINER["resources"]["requests"]["memory"]


def test_the_readme_says_how_to_make_everything_that_is_mounted() -> None:
    readme = (KUBERNETES / "README.md").read_text()
    names = [
        volume.get("persistentVolumeClaim", {}).get("claimName")
        or volume.get("configMap", {}).get("name")
        or volume.get("secret", {}).get("secretName")
        for volume in POD["volumes"]
    ]
    for name in (*names, *(source["secretRef"]["name"] for source in CONTAINER["envFrom"])):
        assert f"`{name}`" in readme
    assert f"--tag {CONTAINER['image']} ." in readme
