"""The workflows: checked by their linters, pinned, bounded, and made of commands that people can type."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *sorted((GITHUB / "actions").glob("*/action.yml"))]
LINT = ROOT / ".venv-lint"
DELIVERY = (ROOT / "docs" / "delivery.md").read_text(encoding="utf-8")
VERBS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
PINNED = re.compile(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v[0-9]+\.[0-9]+\.[0-9]+")


def read(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parsed


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    content = read(path)
    if "runs" in content:
        yield from content["runs"]["steps"]
    for job in content.get("jobs", {}).values():
        yield from job.get("steps", ())


def unknown_commands(path: Path) -> list[str]:
    """Lines of `run` that are neither verbs of the Makefile nor listed in docs/delivery.md."""
    lines = [line.strip() for step in steps(path) for line in step.get("run", "").splitlines()]
    return [line for line in lines if not is_verb(line) and line not in DELIVERY]


def is_verb(line: str) -> bool:
    match = re.match(r"make (?:--silent )?([a-z-]+)", line)
    return match is not None and match[1] in VERBS


def lint(github: Path) -> str:
    """What `make lint-deploy` prints for a copy of `.github`; "" if it found nothing."""
    if not (LINT / ".installed").exists():
        pytest.skip("the linters are not installed; run make lint-deploy")
    command = [LINT / "bin" / "python", GITHUB / "lint" / "check.py", github.parent]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_every_command_can_be_typed(path: Path) -> None:
    """It is a verb, or docs/delivery.md has it beside what was checked instead."""
    assert unknown_commands(path) == []


def test_an_unknown_verb_is_seen(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(
        "jobs: {a: {steps: [{run: make lint}, {run: make lnit}, {run: rm -r x}]}}"
    )
    assert unknown_commands(tmp_path / "a.yml") == ["make lnit", "rm -r x"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_every_action_is_pinned_and_listed(path: Path) -> None:
    """The commit is the one that docs/delivery.md was checked with, and one action has one commit."""
    for used in re.findall(r"uses: (?!\./)(.+)", path.read_text(encoding="utf-8")):
        assert PINNED.fullmatch(used), used
        name, commit, version = re.split(r"@| # ", used)
        assert f"| `{name}` | {version} | `{commit[:12]}`" in DELIVERY, used


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_bounded(path: Path) -> None:
    """Nothing is permitted to all jobs, two runs do not meet, and no job runs for ever."""
    content = read(path)
    assert content["permissions"] == {}
    assert content["concurrency"]["group"]
    for name, job in jobs(path).items():
        assert job["permissions"], name
        assert "timeout-minutes" in job or "uses" in job, name


def test_git_works_in_every_container(tmp_path: Path) -> None:
    """The checkout belongs to another user there, and git then wants to be told that it is safe."""
    for path in WORKFLOWS:
        if any("container" in job for job in jobs(path).values()):
            variables = {name: str(value) for name, value in read(path)["env"].items()}
            told = subprocess.check_output(
                ["git", "config", "--get", "safe.directory"], cwd=tmp_path, env=os.environ | variables
            )
            assert told == b"*\n", path


def test_the_packages_are_those_of_the_readme() -> None:
    """CI types what README.md tells people to type."""
    (line,) = re.findall(r"^apt-get install (.+?)  #", (ROOT / "README.md").read_text(), re.MULTILINE)
    for path in WORKFLOWS:
        for step in steps(path):
            if step.get("name") == "Packages of README.md":
                words = step["run"].removeprefix("apt-get update && apt-get install --yes ")
                assert words.replace("3.12", "3.11") == line, path


def test_secrets_are_not_used() -> None:
    """Tokens are made for each run; the cloud and PyPI are signed in to by OpenID Connect."""
    assert [path.name for path in FILES if re.search(r"\bsecrets\b", path.read_text())] == []


def replace(old: str, new: str) -> Callable[[str], str]:
    """The first match of a pattern replaced."""

    def change(text: str) -> str:
        changed = re.sub(old, new, text, count=1)
        assert changed != text
        return changed

    return change


BREAKAGES: dict[str, tuple[Callable[[str], str], str]] = {  # how → a word of the finding
    "a misspelt key": (replace(r"runs-on:", "run-on:"), "run-on"),
    "an action by its branch": (replace(r"@[0-9a-f]{40} # \S+", "@main"), "unpinned-uses"),
    "an unknown variable": (replace(r"(timeout-minutes): \d+", r"\1: ${{ github.minute }}"), '"minute"'),
    "a foreign text in a shell": (
        replace(r"run: .+", "run: echo ${{ github.head_ref }}"),
        "template-injection",
    ),
    "a permission that is none": (replace(r"contents: \w+", "contents: wriet"), "wriet"),
    "a token left on disk": (replace(r"persist-credentials: false", "fetch-depth: 1"), "artipacked"),
    "write access to all": (
        replace(r"    permissions:\n(      .+\n)+", "    permissions: write-all\n"),
        "excessive-permissions",
    ),
}


def test_every_broken_workflow_is_seen(tmp_path: Path) -> None:
    """A copy of each workflow is broken in each way. The linters start slowly, so they run once for all."""
    shutil.copytree(GITHUB, tmp_path / ".github", ignore=shutil.ignore_patterns("lint"))
    copies = {
        f"{workflow.stem}-{how.replace(' ', '-')}.yml": change(workflow.read_text(encoding="utf-8"))
        for workflow in WORKFLOWS
        for how, (change, _) in BREAKAGES.items()
    }
    for name, text in copies.items():
        (tmp_path / ".github" / "workflows" / name).write_text(text, encoding="utf-8")
    found = lint(tmp_path / ".github")
    assert [name for name in copies if name not in found] == []
    assert [word for _, word in BREAKAGES.values() if found.count(word) < len(WORKFLOWS)] == []
    assert [path.name for path in WORKFLOWS if f"/{path.name}" in found] == []  # these are whole


def test_the_workflows_have_no_lint() -> None:
    assert lint(GITHUB) == ""
