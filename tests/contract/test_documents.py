"""Everything that the documents tell readers to type exists: verbs, commands, options, links, settings."""

import json
import re
import shlex
from functools import reduce

import pytest
import typer.main

from export_scripts.commands.options import chosen_settings
from operations.cli import make_app
from tests import ROOT

GENERATED = {".pytest_cache", "artifacts", "dist"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in GENERATED or part.startswith(".venv") for part in path.relative_to(ROOT).parts)
)
OF_GITHUB = ("../../actions/", "../../security/")  # pages of the repository, relative to a file of its branch
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in DOCUMENTS}
COMMANDS = [
    pytest.param(line.strip(), id=f"{name}: {line.strip()[:50]}")
    for name, text in TEXTS.items()
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    for line in block.splitlines()
    if re.match(r"\s*(\.venv/bin/)?cesta ", line)
]


@pytest.mark.parametrize("name", TEXTS)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    """Relative links of a document, without their anchors."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXTS[name]):
        if "://" not in target and not target.startswith(OF_GITHUB):
            assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", TEXTS)
def test_every_make_verb_exists(name: str) -> None:
    """`make X` in code is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    code = " ".join(re.findall(r"`[^`]+`|```.*?```", TEXTS[name], flags=re.DOTALL))
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= targets


@pytest.mark.parametrize("line", COMMANDS)
def test_every_cesta_command_is_understood(line: str) -> None:
    """A documented command line is parsed by the real command, options and all."""
    _, command, *words = shlex.split(line, comments=True)
    group = typer.main.get_group(make_app())
    if command in ("release", "keys"):
        group, (command, *words) = group.commands[command], words
    subcommand = group.commands[command]
    context = subcommand.make_context(command, words)  # exits on an unknown option or a missing value
    assert context.command is subcommand


def test_every_cesta_command_is_documented() -> None:
    """Under its own name, or as a verb of make."""
    text = " ".join(TEXTS.values())
    commands = dict(typer.main.get_group(make_app()).commands)
    for group in ("release", "keys"):
        commands |= {f"{group} {name}": command for name, command in commands.pop(group).commands.items()}
    assert [name for name in commands if not re.search(rf"\b(cesta|make) {name}\b", text)] == []


@pytest.mark.parametrize("name", TEXTS)
def test_every_documented_setting_exists(name: str) -> None:
    """`--set table.key=value` in a document names a key of pipeline.toml; the value is a text or JSON."""
    for setting, value in re.findall(r"--set ([a-z_.]+)=(\S+?)[`,\s]", TEXTS[name]):
        settings = chosen_settings(None, "sales.csv", changes=[f"{setting}={value}"])
        chosen = reduce(getattr, setting.split("."), settings)
        assert chosen == value or json.loads(json.dumps(chosen)) == json.loads(value)


def test_the_readmes_request_is_json() -> None:
    """The curl line's body can be parsed, and names inputs of the ensemble."""
    bodies = re.findall(r"generate -d '([^']+)'", TEXTS["README.md"])
    assert bodies
    for body in bodies:
        assert set(json.loads(body)) <= {"basket", "user_id", "exclude", "categories"}
