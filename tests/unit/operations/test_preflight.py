"""The checks before anything is installed."""

import shutil
import sys

import pytest

from operations import preflight


def test_another_python_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"this is Python 3\.9; cesta needs 3\.11: make PYTHON="):
        preflight.main()


def test_too_little_room_is_refused_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 2**30))
    monkeypatch.setattr(preflight.Path, "exists", lambda path: False)
    with pytest.raises(SystemExit, match=r"1\.0 GiB free in .* need 5, and 4 more .*: free some"):
        preflight.main()


def test_this_machine_passes() -> None:
    assert preflight.main() is None
