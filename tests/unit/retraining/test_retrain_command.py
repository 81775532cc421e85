"""`cesta retrain` as a command: what it refuses before anything is read, and how a signal ends it."""

import signal
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


def test_sigterm_interrupts_a_run_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd and Kubernetes send it. The run records its end, and undoes a change that is under way."""

    def work(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("export_scripts.retrain.retrain", work)
    monkeypatch.setenv("CESTA_ADMIN_KEY", "key")
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            retrain(tmp_path / "out", transactions=str(tmp_path), gateway="http://127.0.0.1:1")
    finally:
        signal.signal(signal.SIGTERM, before)
