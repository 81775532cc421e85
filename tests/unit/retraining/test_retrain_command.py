"""What `cesta retrain` refuses before anything is read or trained."""

from pathlib import Path

import pytest
import typer

from export_scripts.commands.retrain import retrain
from operations.errors import CestaError


def test_a_dry_run_tells_that_there_are_no_receipts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With the exit code of the run itself."""
    with pytest.raises(typer.Exit) as ended:
        retrain(tmp_path / "out", transactions=str(tmp_path / "nowhere"), dry_run=True)
    assert ended.value.exit_code == 4
    assert "nowhere: no such file" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"address": "here"}, {"supervisor": "127.0.0.1"}])
def test_an_address_that_is_none_is_told_at_once(tmp_path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(CestaError, match=r"is not an address; write host:port"):
        retrain(tmp_path / "out", transactions=str(tmp_path), dry_run=True, **wrong)  # type: ignore[arg-type]
