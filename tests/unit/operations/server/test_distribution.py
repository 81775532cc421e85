"""The packages that sentences name, by distribution."""

from __future__ import annotations

import pytest

from operations.server import distribution
from operations.server.distribution import UV, library_sentence, python_sentence, venv_sentence

DEBIAN_12 = {"ID": "debian", "VERSION_ID": "12"}
MINT = {"ID": "linuxmint", "ID_LIKE": "ubuntu debian", "VERSION_ID": "22"}
ROCKY = {"ID": "rocky", "ID_LIKE": "rhel centos fedora", "VERSION_ID": "9.4"}
SUSE = {"ID": "opensuse-tumbleweed", "ID_LIKE": "opensuse suse"}


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        (DEBIAN_12, "apt-get install libpython3.11"),
        (MINT, "apt-get install libpython3.11"),
        (ROCKY, "dnf install python3.11-libs"),
        (SUSE, "zypper install libpython3_11-1_0"),
        ({"ID": "arch"}, "install the package that has libpython3.11.so.1.0"),
        ({}, "install the package that has libpython3.11.so.1.0"),
    ],
)
def test_libpython_by_distribution(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], sentence: str
) -> None:
    monkeypatch.setattr(distribution, "_release", lambda: release)
    assert library_sentence("libpython3.11.so.1.0", "3.11") == sentence


def test_a_library_that_nobody_knows_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "_release", lambda: DEBIAN_12)
    assert library_sentence("libstdc++.so.6", "3.11") == "apt-get install libstdc++6"
    assert library_sentence("libfoo.so.1", "3.11") == "install the package that has libfoo.so.1"
    assert venv_sentence("3.11") == "apt-get install python3.11-venv"


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        (DEBIAN_12, f"apt-get install python3.11 python3.11-venv libpython3.11, or {UV}"),
        (DEBIAN_12 | {"VERSION_ID": "13"}, UV),
        (ROCKY, f"dnf install python3.12, or {UV}"),
        (SUSE, f"zypper install python312 libpython3_12-1_0, or {UV}"),
        ({"ID": "arch"}, UV),
    ],
)
def test_a_python_for_the_models_by_distribution(
    monkeypatch: pytest.MonkeyPatch, release: dict[str, str], sentence: str
) -> None:
    """Where no package has one, uv does."""
    monkeypatch.setattr(distribution, "_release", lambda: release)
    assert python_sentence() == sentence
