"""The gateway's templates, what fills them in, and the table that explains them."""

import re
from pathlib import Path

from export_scripts.gateway.nginx import CONFIGURATION, GatewaySettings, variables

WORD = re.compile(r"\$\{([A-Z_]+)\}")


def test_every_variable_is_filled_in_and_explained(tmp_path: Path) -> None:
    """By our own rendering, and in the README for those who use envsubst."""
    used = {name for path in CONFIGURATION.glob("*.template") for name in WORD.findall(path.read_text())}
    table = (CONFIGURATION / "README.md").read_text().partition("## Variables")[2]
    explained = set(re.findall(r"`((?:GATEWAY|TRITON|SUPERVISOR)_[A-Z_]+)`", table))

    assert used == set(variables(GatewaySettings(tmp_path))) == explained


def test_every_file_is_used() -> None:
    """Included or imported by another, but for the templates, which the image renders."""
    texts = "".join(path.read_text() for path in CONFIGURATION.rglob("*.*") if path.name != "README.md")
    for path in CONFIGURATION.rglob("*.*"):
        if path.suffix in (".conf", ".js"):
            assert path.name in texts, path


def test_what_depends_on_a_machine_stands_in_templates_alone() -> None:
    for path in CONFIGURATION.glob("*.conf"):
        assert not WORD.search(path.read_text()), path
