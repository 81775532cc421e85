"""An old tritonserver stays on loopback, unless its operator says more. Scripts stand in for the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from operations.errors import ServerError
from operations.server import version
from operations.server.environment import ServingEnvironment
from operations.server.settings import ServerSettings
from operations.server.version import MINIMUM, UNKNOWN, TritonVersion, check_version, reported_version

TABLE = """cat <<EOF
I1130 05:25:50.185192 8059 tritonserver.cc:2598]
+----------------+--------+
| Option         | Value  |
+----------------+--------+
| server_id      | triton |
| server_version | {}     |
EOF
exit 1
"""


def environment(folder: Path, script: str) -> ServingEnvironment:
    """An installation whose tritonserver is this shell script."""
    program = folder / "tritonserver" / "bin" / "tritonserver"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\n{script}")
    program.chmod(0o755)
    return ServingEnvironment(folder, folder / "lib" / "python3.11" / "site-packages", program.parent.parent)


@pytest.mark.parametrize(
    ("number", "is_outdated"),
    [
        ("2.51.0", True),
        ("2.9.0", True),
        ("2.70.99", True),
        (MINIMUM, False),
        ("2.100.0", False),
        ("3.0", False),
        (UNKNOWN, True),
    ],
)
def test_versions_are_compared_by_their_numbers(number: str, is_outdated: bool) -> None:
    assert TritonVersion(number).is_outdated is is_outdated


@pytest.mark.parametrize(
    ("script", "reported"),
    [
        (TABLE.format("2.51.0"), "2.51.0"),
        (TABLE.format("2.73.0dev"), "2.73.0"),
        ("echo unrecognized option >&2; exit 1\n", UNKNOWN),
        ("exec sleep 60\n", UNKNOWN),
    ],
    ids=["a release", "a development version", "no table", "no end"],
)
def test_the_program_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reported: str
) -> None:
    if "sleep" in script:
        monkeypatch.setattr(version, "_ANSWERS_S", 0.05)
    assert reported_version(environment(tmp_path, script)) == reported


@pytest.mark.parametrize(
    ("number", "host", "old_triton"),
    [
        ("2.51.0", "127.0.0.1", "refuse"),
        ("2.51.0", "127.0.0.2", "refuse"),
        ("2.51.0", "::1", "refuse"),
        ("2.51.0", "0.0.0.0", "expose"),
        (MINIMUM, "0.0.0.0", "refuse"),
        (MINIMUM, "::", "refuse"),
    ],
)
def test_a_new_server_listens_anywhere_and_an_old_one_on_loopback(
    tmp_path: Path, number: str, host: str, old_triton: str
) -> None:
    """`expose` lets an old one leave loopback, too."""
    settings = ServerSettings(repository="r", host=host, old_triton=old_triton)
    is_exposed = host in {"0.0.0.0", "::"}
    triton = check_version(environment(tmp_path, TABLE.format(number)), settings)
    assert triton == TritonVersion(number, is_exposed)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "fd00::7"])
@pytest.mark.parametrize("script", [TABLE.format("2.51.0"), "exit 1\n"], ids=["old", "unknown"])
def test_an_old_server_is_refused_beyond_loopback(tmp_path: Path, host: str, script: str) -> None:
    """So is one of an unknown version. The sentence has the address, both versions and each way out."""
    with pytest.raises(ServerError) as refused:
        check_version(environment(tmp_path, script), ServerSettings(repository="r", host=host))
    named = (f'"{host}"', "2.51.0" if "2.51" in script else UNKNOWN, MINIMUM)
    ways_out = ("127.0.0.1", "::1", "CESTA_TRITON", "--old-triton expose", "CESTA_OLD_TRITON=expose")
    assert all(word in str(refused.value) for word in (*named, *ways_out))


def test_the_command_tells_an_old_version_by_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build of an image can end with it."""
    monkeypatch.setattr(version, "check_programs", lambda environment: None)
    for number, code in (("2.51.0", 1), (MINIMUM, 0)):
        found = environment(tmp_path / number, TABLE.format(number))
        monkeypatch.setattr(version, "find_serving_environment", lambda found=found: found)
        assert version.main() == code
        assert capsys.readouterr().out == f"{number}\n"
