"""The gateway's templates, the code that fills them in, and the table that explains them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from operations.gateway.nginx import CONFIGURATION, GatewaySettings, render, variables
from operations.gateway.remote import TIMEOUT_S
from operations.records.contract import ENSEMBLE
from operations.releases.model_control import LOAD_TIMEOUT_S
from operations.releases.models.configs import PARTS

WORD = re.compile(r"\$\{([A-Z_]+)\}")


def test_every_variable_is_filled_in_and_explained(tmp_path: Path) -> None:
    """Our own rendering fills it in. The README explains it for users of envsubst."""
    used = {name for path in CONFIGURATION.glob("*.template") for name in WORD.findall(path.read_text())}
    table = (CONFIGURATION / "README.md").read_text().partition("## Variables")[2]
    explained = set(re.findall(r"`((?:GATEWAY|TRITON|SUPERVISOR)_[A-Z_]+)`", table))

    assert used == set(variables(GatewaySettings(tmp_path))) == explained


def test_a_promotion_is_waited_for_as_long_as_it_may_take() -> None:
    """A shorter limit would report a promotion as failed although it goes on."""
    assert LOAD_TIMEOUT_S * len([*PARTS, ENSEMBLE]) <= TIMEOUT_S


@pytest.mark.skipif(not shutil.which("envsubst"), reason="apt-get install gettext-base")
@pytest.mark.parametrize("tls", [False, True])
def test_envsubst_makes_the_same_files(tmp_path: Path, tls: bool) -> None:
    """The test calls it as the image does, with the names that its environment defines."""
    pair = {"certificate": tmp_path / "tls.crt", "certificate_key": tmp_path / "tls.key"} if tls else {}
    settings = GatewaySettings(tmp_path, **pair)
    render(settings)
    values = variables(settings)
    defined = " ".join(f"${{{name}}}" for name in values)

    for rendered in (settings.run / "conf").iterdir():
        template = (CONFIGURATION / f"{rendered.name}.template").read_text()
        command = ["envsubst", defined]
        done = subprocess.run(command, input=template, env=values, capture_output=True, text=True, check=True)
        assert done.stdout == rendered.read_text()


def test_every_file_is_used() -> None:
    """Another file includes or requires it. The image renders the templates."""
    texts = "".join(path.read_text() for path in CONFIGURATION.rglob("*.*") if path.name != "README.md")
    for path in CONFIGURATION.rglob("*.*"):
        if path.suffix in (".conf", ".lua"):
            assert path.name in texts or f'require("{path.stem}")' in texts, path


def test_machine_dependent_settings_stand_only_in_templates() -> None:
    for path in CONFIGURATION.glob("*.conf"):
        assert not WORD.search(path.read_text()), path
