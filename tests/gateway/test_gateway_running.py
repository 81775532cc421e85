"""While it runs: keys come and go, the split moves, the log changes its level, requests are counted."""

from __future__ import annotations

import dataclasses
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from cesta_client import Query, Recommender, Unauthorized
from operations.cli import make_app
from operations.errors import CestaError
from operations.gateway.keys import add_key, revoke_key
from operations.gateway.nginx import GatewaySettings, check, reload, render
from operations.gateway.request_metrics import RequestMetrics
from operations.gateway.state import write_split
from operations.server.process import Server
from tests import ROOT
from tests.running.door import Door, OpenDoor

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def own(open_gateway: OpenDoor, triton: Server) -> Door:
    """A gateway whose files these tests change."""
    return open_gateway(triton_http=triton.http, triton_grpc=triton.grpc)


def logged(door: Door, request_id: str) -> dict:
    """The request's line, once it is written."""
    return json.loads(_await(lambda: _line(door.settings.access_log, request_id)))


def _line(log: Path, request_id: str) -> str:
    return next((line for line in log.read_text().splitlines() if f'"request_id":"{request_id}"' in line), "")


def _await(value: Callable[[], str]) -> str:
    ends = time.monotonic() + 5
    while not (found := value()):
        assert time.monotonic() < ends, "never logged"
        time.sleep(0.01)
    return found


# ---- keys


def test_a_key_works_from_its_command_to_its_revocation(own: Door) -> None:
    """As `cesta keys` changes them: the gateway knows at once, and the key stands in no file."""
    folder = own.settings.folder
    done = CliRunner().invoke(make_app(), ["keys", "add", "kiosk", "--rate", "30", "--folder", str(folder)])
    secret = done.stdout.strip()
    assert (done.exit_code, done.stderr) == (0, "")
    assert own.ask("/v1/recommend", {}, key=secret).status == 200

    listed = CliRunner().invoke(make_app(), ["keys", "list", "--folder", str(folder)]).stdout
    assert "kiosk" in listed
    assert secret not in listed
    CliRunner().invoke(make_app(), ["keys", "revoke", "kiosk", "--folder", str(folder)])
    assert own.ask("/v1/recommend", {}, key=secret).status == 401
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_revoking_a_key_drops_nobody_else_s_request(own: Door) -> None:
    """Requests go on over kept and new connections while keys come and go."""
    stop, failures, served = threading.Event(), [], []

    def shop() -> None:
        while not stop.is_set():
            try:
                answer = own.recommend(f"i{len(served) % 100}")
                (served if answer.status == 200 else failures).append(answer.status)
            except OSError as error:
                failures.append(error)

    shops = [threading.Thread(target=shop) for _ in range(3)]
    for one in shops:
        one.start()
    for n in range(3):
        add_key(own.settings.folder, f"guest-{n}", "shop", 7)
        own.gateway.reload()
        revoke_key(own.settings.folder, f"guest-{n}")
        own.gateway.reload()
    stop.set()
    for one in shops:
        one.join()

    assert failures == []
    assert len(served) > 20


def test_a_key_is_told_even_if_nginx_refuses_a_file(own: Door) -> None:
    """It is kept, and cannot be had again; it works once the file is put right."""
    split = own.settings.folder / "split.conf"
    good = split.read_text()
    split.write_text("nonsense;")
    try:
        done = CliRunner().invoke(
            make_app(), ["keys", "add", "patient", "--folder", str(own.settings.folder)]
        )
    finally:
        split.write_text(good)
    assert 'unknown directive "nonsense"' in str(done.exception)
    own.gateway.reload()
    assert own.recommend("i1", key=done.stdout.strip()).status == 200


@pytest.mark.parametrize("name", ["default", "include", "news"])
def test_a_key_that_is_called_by_a_word_of_nginx_has_its_rate(own: Door, name: str) -> None:
    """One per second and one more: of five at once some are too many."""
    secret = add_key(own.settings.folder, name, "shop", 1)
    try:
        own.gateway.reload()
        statuses = {own.recommend("i1", key=secret).status for _ in range(5)}
        assert statuses == {200, 429}
    finally:
        revoke_key(own.settings.folder, name)
        own.gateway.reload()


def test_files_that_nginx_refuses_are_not_taken_over(own: Door) -> None:
    """The sentence is nginx's own; the old ones hold."""
    good = (own.settings.folder / "split.conf").read_text()
    (own.settings.folder / "split.conf").write_text("nonsense;")
    try:
        with pytest.raises(CestaError, match='unknown directive "nonsense"'):
            own.gateway.reload()
        assert own.recommend("i1").status == 200
    finally:
        (own.settings.folder / "split.conf").write_text(good)
    check(own.settings)


# ---- the split


@pytest.fixture
def split(own: Door) -> Iterator[Callable[[float], None]]:
    """`split(30)`: 30 % go to the canary from now on."""

    def apply(percent: float) -> None:
        write_split(own.settings.folder, percent)
        own.gateway.reload()

    yield apply
    apply(0)


def releases(door: Door, sessions: int) -> list[int]:
    return [
        door.recommend("i1", headers={"X-Session-Id": f"customer-{n}"}).body["release"]
        for n in range(sessions)
    ]


def test_a_share_of_the_customers_meets_the_canary_and_stays_with_it(own: Door, split: Callable) -> None:
    """Release 1 is the canary. More percent move some customers over and none back."""
    assert set(releases(own, 20)) == {2}
    split(30)
    first = releases(own, 100)
    assert releases(own, 100) == first
    assert 15 <= first.count(1) <= 45
    split(60)
    second = releases(own, 100)
    assert all(now == 1 for before, now in zip(first, second, strict=True) if before == 1)
    assert second.count(1) > first.count(1)
    split(100)
    assert set(releases(own, 20)) == {1}

    answer = own.recommend("i1", headers={"X-Request-Id": "to-the-canary"})
    line = logged(own, "to-the-canary")
    assert (line["release"], line["model"]) == (str(answer.body["release"]), "recommender_canary")


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_s_requests_are_split_like_the_shop_s_json(own: Door, split: Callable, wire: str) -> None:
    """With equal session ids both fall to the same side; the log knows release and model of each."""
    split(50)
    expected = releases(own, 30)
    assert set(expected) == {1, 2}
    assert [released(own, wire, f"customer-{n}") for n in range(30)] == expected
    for n in (expected.index(1), expected.index(2)):
        released(own, wire, f"customer-{n}", f"{wire}-{n}")
        line = logged(own, f"{wire}-{n}")
        model = "recommender_canary" if expected[n] == 1 else "recommender"
        assert (line["release"], line["model"]) == (str(expected[n]), model)


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_many_queries_of_one_request_are_of_one_release(own: Door, split: Callable, wire: str) -> None:
    split(100)
    address = own.settings.grpc if wire == "grpc" else own.settings.http
    with Recommender(address, protocol=wire, api_key=own.keys["shop"], timeout_s=5) as shop:
        answers = shop.recommend_many([Query([f"i{n}"], "900", k=20) for n in range(64)])
    assert [answer.release for answer in answers] == [1] * 64
    assert [i.item_id for i in answers[5]] == [
        i["item_id"] for i in own.ask("/v1/recommend", {"basket": ["i5"], "k": 20}).body["items"]
    ]


def released(door: Door, wire: str, session: str, request_id: str = "") -> int:
    """The release that answers cesta_client's kind of request, with a session's id."""
    headers = {"authorization": f"Bearer {door.keys['shop']}", "x-session-id": session}
    headers |= {"x-request-id": request_id} if request_id else {}
    kind = tritonclient.grpc if wire == "grpc" else tritonclient.http
    basket = kind.InferInput("basket", [1, 1], "BYTES")
    basket.set_data_from_numpy(np.array([[b"i1"]], object))
    address = door.settings.grpc if wire == "grpc" else door.settings.http
    with kind.InferenceServerClient(address) as client:
        answer = client.infer("recommender", [basket], headers=headers).get_response()
    return int(answer.model_version if wire == "grpc" else answer["model_version"])


def test_a_canary_that_is_not_loaded_costs_nobody_an_answer(
    own: Door, split: Callable, triton: Server
) -> None:
    """By any way to ask; the log names the model that answered."""
    with tritonclient.grpc.InferenceServerClient(triton.grpc) as client:
        client.unload_model("recommender_canary")
        try:
            split(100)
            _await(lambda: "" if client.is_model_ready("recommender_canary") else "unloaded")
            assert set(releases(own, 5)) == {2}
            for wire in ("grpc", "http"):
                assert released(own, wire, "anyone", f"no-canary-{wire}") == 2
                assert logged(own, f"no-canary-{wire}")["model"] == "recommender"
        finally:
            client.load_model("recommender_canary")


# ---- log and metrics


def test_a_request_is_one_line_without_what_was_asked(own: Door) -> None:
    """Enough to find it and to bill it; nothing of customers."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    headers = {"X-Request-Id": "find-me", "X-Session-Id": "secret-session", "traceparent": trace}
    question = {"basket": ["secret-item"], "user_id": "secret-user", "exclude": ["secret-other"]}
    own.ask("/v1/recommend?secret-argument", question, headers=headers)
    line = logged(own, "find-me")

    assert line.pop("time").startswith("20")
    assert line.pop("trace") == trace
    assert 0 <= line.pop("seconds") < 5
    assert 0 <= float(line.pop("upstream_seconds")) < 5
    assert line.pop("bytes_in") > 100
    assert line.pop("bytes_out") > 500
    assert line == {
        "request_id": "find-me",
        "key": "shop",
        "route": "recommend",
        "method": "POST",
        "status": 200,
        "grpc": "",
        "release": "2",
        "model": "recommender",
        "trouble": "",
    }
    for log in own.settings.run.glob("*.log"):
        text = log.read_text(errors="replace")
        assert own.keys["shop"] not in text
        assert "secret-item" not in text
        assert "secret-user" not in text


@pytest.mark.parametrize("wire", ["grpc", "http"])
def test_the_client_s_request_id_is_the_log_s(own: Door, wire: str) -> None:
    """Where it can stand in a line; another is replaced, and a header's own counts more."""
    address = own.settings.grpc if wire == "grpc" else own.settings.http
    with Recommender(address, protocol=wire, api_key=own.keys["shop"], timeout_s=5) as shop:
        shop.recommend(["i1"], request_id=f"basket-42-{wire}")
        shop.recommend(["i1"], request_id=f"basket 43 {wire}")
    assert logged(own, f"basket-42-{wire}")["route"] == ("grpc" if wire == "grpc" else "tensors")
    assert f"basket 43 {wire}" not in own.settings.access_log.read_text()
    released(own, wire, "anyone", f"header-{wire}")
    assert logged(own, f"header-{wire}")["status"] == 200


def test_every_line_is_json_whatever_was_sent(own: Door) -> None:
    own.send(b'GET /"\x01\\ HTTP/1.1\r\nHost: "\r\nX-Request-Id: "},{\r\nConnection: close\r\n\r\n')
    own.send(b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    for line in own.settings.access_log.read_bytes().splitlines():
        assert set(json.loads(line)) >= {"request_id", "status"}


def test_the_log_s_level_changes_while_it_runs(own: Door) -> None:
    """From warnings to everything that nginx tells, and back."""
    log = own.settings.run / "error.log"
    for level, told in (("info", True), ("warn", False)):
        own.gateway.reload(dataclasses.replace(own.settings, log_level=level))
        before = log.stat().st_size
        own.ask(
            "/v1/recommend", b"x" * 70_000
        )  # "client intended to send too large body" is an error: always told
        own.send(b"GET / HTTP/1.1\r\n\r\n")  # "client sent HTTP/1.1 request without Host": info
        new = _await(lambda: log.read_bytes()[before:].decode(errors="replace"))  # noqa: B023
        assert ("without" in new) is told


OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def documented(first: str, own: Door, checkout: Path) -> None:
    """Run the lines of operations.md from the one that starts so, in a checkout whose gateway is this one."""
    (lines,) = re.findall(
        rf"^ *({re.escape(first)}.*?)\n *(?:```|endscript)$", OPERATIONS, re.DOTALL | re.MULTILINE
    )
    (checkout / "artifacts").mkdir()
    (checkout / "artifacts" / "gateway").symlink_to(own.settings.folder)
    lines = lines.replace("/srv/cesta", str(checkout))
    subprocess.run(["sh", "-euc", lines], cwd=checkout, check=True)


def test_the_log_s_level_changes_as_operators_are_told(own: Door, tmp_path: Path) -> None:
    log = own.settings.run / "error.log"
    before = log.stat().st_size
    documented("sed -i", own, tmp_path)

    def told() -> str:
        own.send(b"GET / HTTP/1.1\r\n\r\n")
        return "yes" if b"without" in log.read_bytes()[before:] else ""

    assert _await(told) == "yes"
    own.gateway.reload()


def test_a_request_log_that_was_moved_is_left_alone(own: Door, tmp_path: Path) -> None:
    """By the line that logrotate is given: no request is lost, the next one stands in a new file."""
    own.ask("/v1/recommend", {}, headers={"X-Request-Id": "before-moving"})
    logged(own, "before-moving")
    moved = own.settings.access_log.rename(tmp_path / "access.log.1")
    documented("kill -USR1", own, tmp_path)
    _await(lambda: "made" if own.settings.access_log.exists() else "")
    size = moved.stat().st_size

    own.ask("/v1/recommend", {}, headers={"X-Request-Id": "after-moving"})
    assert logged(own, "after-moving")["status"] == 200
    assert moved.stat().st_size == size


def test_requests_are_counted_and_timed(own: Door) -> None:
    """By route, key, status, release and model; gRPC's errors by the HTTP status of the same meaning."""
    registry = CollectorRegistry()
    metrics = RequestMetrics(own.settings.log_socket, registry)
    try:
        assert own.settings.log_socket.stat().st_mode & 0o007 == 0  # strangers count nothing
        for _ in range(3):
            own.recommend("i1")
        own.ask("/v1/recommend", {"k": 0})
        own.ask("/nowhere", key=None)
        with Recommender(own.settings.grpc, api_key="wrong") as shop, pytest.raises(Unauthorized):
            shop.recommend()
        with Recommender(own.settings.grpc, api_key=own.keys["shop"], timeout_s=5) as shop:
            shop.recommend()

        def value(name: str, **labels: str) -> float:
            return registry.get_sample_value(name, labels) or 0

        def counted(route: str, key: str, status: str, release: str = "", model: str = "") -> float:
            labels = {"route": route, "key": key, "status": status, "release": release, "model": model}
            return value("cesta_gateway_requests_total", **labels)

        _await(lambda: "yes" if counted("grpc", "shop", "200", "2", "recommender") else "")
        assert counted("recommend", "shop", "200", "2", "recommender") == 3
        assert counted("recommend", "shop", "400") == 1
        assert counted("other", "", "404") == 1
        assert counted("grpc", "", "401") == 1
        for route, requests in (("recommend", 3), ("grpc", 1)):
            times = [
                value(f"cesta_gateway_{name}_seconds_{kind}", route=route, release="2")
                for kind in ("count", "sum")
                for name in ("request", "upstream")
            ]
            assert times[:2] == [requests, requests]
            assert times[3] <= times[2] + 0.001 * requests  # nginx tells whole milliseconds, rounded apart
        assert value("cesta_gateway_upstream_seconds_count", route="other", release="") == 0
        assert value("cesta_gateway_unread_lines_total") == 0
    finally:
        metrics.close()


# ---- the process


def test_the_number_of_an_nginx_that_was_killed_may_be_another_s(tmp_path: Path) -> None:
    """A stranger is not signalled, and neither is the nginx of another folder: none runs on this one."""
    settings = GatewaySettings(tmp_path)
    render(settings)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (settings.run / "nginx.pid").write_text(f"{stranger.pid}\n")
        try:
            assert reload(settings) is False
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert stranger.returncode == -signal.SIGKILL


def test_a_gateway_is_found_by_any_path_to_its_folder(own: Door, tmp_path: Path) -> None:
    """Through a link, too; and only by its own folder."""
    link, other = tmp_path / "link", GatewaySettings(tmp_path / "other")
    link.symlink_to(own.settings.folder)
    assert reload(GatewaySettings(link)) is True
    render(other)
    (other.run / "nginx.pid").write_text(f"{own.gateway.pid}\n")
    assert reload(other) is False
