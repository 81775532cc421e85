"""The supervisor's work for a gateway, without a gateway."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from operations.gateway import link
from operations.gateway.control import TOKEN, control_socket
from operations.gateway.nginx import GatewaySettings
from operations.releases.models.configs import Canary
from operations.releases.stores.store import open_repository


def no_release() -> None:
    """No release answers yet."""


def test_the_split_is_followed_after_whatever_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config changed by hand gives a ValueError. The log has it, and the next look works as usual."""
    looked, looks = threading.Event(), iter([ValueError("could not convert string to float: 'five'")])

    def look(_: object) -> Canary:
        if error := next(looks, None):
            raise error
        looked.set()
        return Canary(2, 5.0)

    monkeypatch.setattr(link, "FOLDER_INTERVAL_S", 0.01)
    monkeypatch.setattr(link, "canary_on_disk", look)
    repository = open_repository(tmp_path / "repository")
    following = link.GatewayLink(GatewaySettings(tmp_path), repository, CollectorRegistry(), no_release)
    with capture_logs() as logged, following:
        assert looked.wait(5)
    assert json.loads((tmp_path / "split.json").read_text()) == {"percent": 5.0}
    failed = [str(event["exc_info"]) for event in logged if event["event"] == "split not followed"]
    assert failed == ["could not convert string to float: 'five'"]


def test_categories_are_listed_once_for_each_release_that_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that cannot tell them is logged once. After a fallback they are those of the earlier one."""
    answering, listed = iter([None, 2, 2, 1, 1]), list[int]()

    def write(_: object, release: int, folder: Path) -> bool:
        assert folder == tmp_path
        listed.append(release)
        return release != 2

    monkeypatch.setattr(link, "write_categories", write)
    repository = open_repository(tmp_path / "repository")
    linked = link.GatewayLink(
        GatewaySettings(tmp_path), repository, CollectorRegistry(), lambda: next(answering)
    )
    with capture_logs() as logged:
        for _ in range(5):
            linked.list_categories()
    assert listed == [2, 1]
    assert [event["release"] for event in logged] == [2]


def test_the_gateway_is_up_while_it_accepts(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        settings = GatewaySettings(tmp_path, http=f"127.0.0.1:{gateway.getsockname()[1]}")
        watched = link.GatewayLink(settings, open_repository(tmp_path / "repository"), registry, no_release)
        watched.probe()
        assert registry.get_sample_value("cesta_gateway_up") == 1
    watched.probe()
    assert registry.get_sample_value("cesta_gateway_up") == 0


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff\xfe"])
def test_a_damaged_token_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """With an empty one, a request without a token would be an admin's."""
    first = link.admin_token(tmp_path)
    (tmp_path / TOKEN).write_bytes(content)
    second = link.admin_token(tmp_path)
    assert len(second) == len(first) == 43
    assert link.admin_token(tmp_path) == second != first


def test_a_gateway_whose_workers_stand_still_is_down(tmp_path: Path) -> None:
    """The kernel goes on accepting connections for them, and nobody answers."""
    registry, socket_path = CollectorRegistry(), control_socket(tmp_path)
    socket_path.parent.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as gateway, socket.socket(socket.AF_UNIX) as control:
        control.bind(str(socket_path))
        control.listen()
        settings = GatewaySettings(tmp_path, http=f"127.0.0.1:{gateway.getsockname()[1]}")
        link.GatewayLink(settings, open_repository(tmp_path / "repository"), registry, no_release).probe()
    assert registry.get_sample_value("cesta_gateway_up") == 0
