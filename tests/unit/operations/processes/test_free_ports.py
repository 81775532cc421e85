"""A port that is chosen before its program starts is still free then."""

import socket
from pathlib import Path

import pytest

from operations.processes import free_ports
from operations.processes.free_ports import bind_free_port


def range_of(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "range").write_text(text)
    monkeypatch.setattr(free_ports, "_RANGE", folder / "range")


def test_a_free_port_is_none_that_connections_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    range_of(tmp_path, "32768\t60999\n", monkeypatch)
    for _ in range(20):
        with socket.socket() as listener:
            port = bind_free_port(listener, "127.0.0.1")
            assert listener.getsockname() == ("127.0.0.1", port)
            assert 10_000 <= port < 32_768


def test_ports_that_are_taken_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The range leaves two ports, of which one is taken."""
    range_of(tmp_path, "10002 60999", monkeypatch)
    with socket.socket() as first, socket.socket() as second:
        ports = {bind_free_port(first, "127.0.0.5"), bind_free_port(second, "127.0.0.5")}
    assert ports == {10_000, 10_001}


@pytest.mark.parametrize("text", ["1024 65535", "", "no range"])
def test_where_connections_may_have_all_ports_the_kernel_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    range_of(tmp_path, text, monkeypatch)
    with socket.socket() as listener:
        assert bind_free_port(listener, "127.0.0.1") == listener.getsockname()[1]
