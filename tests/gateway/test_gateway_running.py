"""Keys come and go while the gateway runs, and it takes over changed files or refuses them."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError
from operations.gateway.control import announce, control_socket
from operations.gateway.keys import add_key, revoke_key
from operations.gateway.nginx import Gateway, GatewaySettings, read_resolver, reload, render
from operations.server.process import Server
from tests.running import needs
from tests.running.door import Door, OpenDoor, free_ports
from tests.running.fake_triton import FakeTriton
from tests.running.gateway_log import wait_for
from tests.running.processes import Watched, children

pytestmark = pytest.mark.triton


def test_a_key_works_from_its_command_to_its_revocation(own_door: Door) -> None:
    """The gateway accepts a key of `cesta keys` at once, and no file holds the key itself."""
    folder = own_door.settings.folder
    done = CliRunner().invoke(make_app(), ["keys", "add", "kiosk", "--rate", "30", "--folder", str(folder)])
    secret = done.stdout.strip()
    assert (done.exit_code, done.stderr) == (0, "")
    assert own_door.ask("/v1/recommend", {}, key=secret).status == 200

    listed = CliRunner().invoke(make_app(), ["keys", "list", "--folder", str(folder)]).stdout
    assert "kiosk" in listed
    assert secret not in listed
    CliRunner().invoke(make_app(), ["keys", "revoke", "kiosk", "--folder", str(folder)])
    assert own_door.ask("/v1/recommend", {}, key=secret).status == 401
    for path in folder.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_key_has_two_secrets_while_it_is_rotated_and_ends_by_the_clock(own_door: Door) -> None:
    """Both secrets have one rate. A clock that has passed the end needs no announcement."""
    folder = own_door.settings.folder
    first = add_key(folder, "till", "shop", 2)
    second = type_keys(folder, "rotate", "till", "--overlap", "1h").strip()
    assert [status_of(own_door, secret) for secret in (first, second)] == [200, 200]
    wait_until(lambda: 429 in [status_of(own_door, secret) for secret in (first, second) * 10])
    type_keys(folder, "end-rotation", "till")
    assert status_of(own_door, first) == 401

    third = type_keys(folder, "rotate", "till", "--overlap", "1s").strip()
    type_keys(folder, "expire", "till", "1s")
    wait_until(lambda: {status_of(own_door, secret) for secret in (second, third)} == {401})
    assert "expired" in type_keys(folder, "list")
    type_keys(folder, "expire", "till", "never")
    assert status_of(own_door, third) != 401


def status_of(door: Door, secret: str) -> int:
    return door.ask("/v1/status", key=secret).status


def type_keys(folder: Path, *words: str) -> str:
    done = CliRunner().invoke(make_app(), ["keys", *words, "--folder", str(folder)])
    assert done.exit_code == 0, done.output
    return done.stdout


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_revoking_a_key_drops_nobody_else_s_request(own_door: Door) -> None:
    """Requests go on over kept and new connections while keys come and go."""
    stop, failures, served = threading.Event(), [], []

    def shop() -> None:
        while not stop.is_set():
            try:
                answer = own_door.recommend(f"i{len(served) % 100}")
                (served if answer.status == 200 else failures).append(answer.status)
            except OSError as error:
                failures.append(error)

    shops = [threading.Thread(target=shop) for _ in range(3)]
    for thread in shops:
        thread.start()
    for n in range(3):
        add_key(own_door.settings.folder, f"guest-{n}", "shop", 7)
        assert announce(own_door.settings.folder)
        revoke_key(own_door.settings.folder, f"guest-{n}")
        assert announce(own_door.settings.folder)
        own_door.gateway.reload()  # as for a new certificate
    wait_until(lambda: len(served) > 20)
    stop.set()
    for thread in shops:
        thread.join()

    assert failures == []


def test_ten_thousand_keys_come_and_go_within_a_tenth_of_a_second(own_door: Door) -> None:
    """On an idle machine; this one may be busy: the best of six counts, and the bound is generous. Others'
    requests go on meanwhile.
    """
    folder = own_door.settings.folder
    keys, before = json.loads((folder / "keys.json").read_text()), own_door.keys["shop"]
    described = {"role": "shop", "rate": 50, "created_at": "2026-01-01T00:00:00+00:00"}
    many = [described | {"name": f"many-{n}", "sha256": f"{n:064x}"} for n in range(10_000)]
    (folder / "keys.json").write_text(json.dumps(keys + many))
    try:
        assert announce(folder)
        times = []
        for n in range(3):
            began = time.monotonic()
            secret = add_key(folder, f"late-{n}", "shop", 50)
            assert announce(folder)
            times.append(time.monotonic() - began)
            assert own_door.recommend("i1", key=secret).status == 200
            began = time.monotonic()
            revoke_key(folder, f"late-{n}")
            assert announce(folder)
            times.append(time.monotonic() - began)
            assert own_door.recommend("i1", key=secret).status == 401
            assert own_door.recommend("i1", key=before).status == 200
        assert min(times) < 1
    finally:
        (folder / "keys.json").write_text(json.dumps(keys))
        assert announce(folder)


WRITTEN_BY_HAND = (
    f'[{{"name": "x", "role": "shop", "rate": 5, "sha256": "{64 * "a"}", "expires_s": "2026-12-01"}}]'
)


@pytest.mark.parametrize(
    "damage",
    ["nonsense", '[{"name": "x"}]', "5", "{}", '[{"name": 1, "sha256": {}}]', WRITTEN_BY_HAND],
)
def test_a_damaged_file_of_keys_changes_nothing(own_door: Door, damage: str) -> None:
    """The command fails with a sentence, and the keys stay valid; the same holds for the split."""
    for name in ("keys.json", "split.json"):
        path = own_door.settings.folder / name
        good = path.read_text() if path.exists() else "{}"
        path.write_text(damage if name == "keys.json" else "nonsense")
        try:
            with pytest.raises(CestaError, match=rf"does not take over .*: {name}"):
                announce(own_door.settings.folder)
            assert own_door.recommend("i1").status == 200
        finally:
            path.write_text(good)
        assert announce(own_door.settings.folder)


def test_a_key_is_told_even_if_the_gateway_refuses_a_file(own_door: Door) -> None:
    """The command cannot print the key a second time. The key works all the same."""
    (own_door.settings.folder / "split.json").write_text("nonsense")
    try:
        done = CliRunner().invoke(
            make_app(), ["keys", "add", "patient", "--folder", str(own_door.settings.folder)]
        )
    finally:
        (own_door.settings.folder / "split.json").unlink()
    assert "split.json is not JSON" in str(done.exception)
    assert own_door.recommend("i1", key=done.stdout.strip()).status == 200


def test_a_change_that_was_not_announced_is_found(own_door: Door) -> None:
    """Containers may be unable to reach the socket."""
    secret = add_key(own_door.settings.folder, "unannounced", "shop", 50)
    assert wait_for(lambda: "found" if own_door.recommend("i1", key=secret).status == 200 else "") == "found"


def test_a_command_without_a_gateway_says_so(tmp_path: Path) -> None:
    done = CliRunner().invoke(make_app(), ["keys", "add", "early", "--folder", str(tmp_path)])
    assert (done.exit_code, done.stdout.startswith("cesta_")) == (0, True)
    assert done.stderr.startswith("no gateway answers on this folder")


def test_the_socket_of_a_killed_gateway_is_in_nobody_s_way(open_gateway: OpenDoor, triton: Server) -> None:
    """A living gateway keeps its socket: a second one on its folder is refused."""
    door = open_gateway(triton_http=triton.http)
    with pytest.raises(CestaError, match="a gateway already runs on"):
        Gateway(dataclasses.replace(door.settings, http=free_address(), grpc=free_address())).start()
    assert announce(door.settings.folder)

    workers = [Watched(worker) for worker in children(door.gateway.pid)]
    os.kill(door.gateway.pid, signal.SIGKILL)
    assert [worker.ended() for worker in workers] == [True, True]  # alone they would hold the ports
    assert control_socket(door.settings.folder).exists()
    assert not announce(door.settings.folder)
    door.gateway.start()
    assert announce(door.settings.folder)
    door.gateway.stop()
    assert not control_socket(door.settings.folder).exists()


def test_a_worker_that_outlives_its_master_is_cleared(open_gateway: OpenDoor, triton: Server) -> None:
    """It stands still, so it holds the ports and obeys no signal. The next start soon ends it."""
    door = open_gateway(triton_http=triton.http)
    workers = [Watched(worker) for worker in children(door.gateway.pid)]
    os.kill(workers[0].pid, signal.SIGSTOP)
    os.kill(door.gateway.pid, signal.SIGKILL)
    assert workers[1].ended()
    door.gateway.start()
    assert workers[0].ended(0)
    assert door.recommend("i1").status == 200


def test_a_request_in_flight_outlives_the_master(open_gateway: OpenDoor, fake: FakeTriton) -> None:
    """The workers stop listening, and finish what they have begun."""
    door = open_gateway(triton_http=fake.address)
    workers = [Watched(worker) for worker in children(door.gateway.pid)]
    fake.may_answer.clear()
    with ThreadPoolExecutor() as shop:
        asked = shop.submit(door.recommend, "i1")
        assert wait_for(lambda: "asked" if fake.asked else "") == "asked"
        os.kill(door.gateway.pid, signal.SIGKILL)
        assert wait_for(lambda: "idle" if any(worker.ended(0) for worker in workers) else "") == "idle"
        fake.may_answer.set()
        assert asked.result().status == 200
    assert [worker.ended() for worker in workers] == [True, True]


def test_a_foreign_process_on_the_port_is_named_and_left_alone(tmp_path: Path) -> None:
    taken = free_address()
    host, _, port = taken.rpartition(":")
    words = [sys.executable, "-u", "-m", "http.server", "--bind", host, port]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout
            stranger.stdout.readline()  # it prints that it serves
            with needs.debian_packages(), pytest.raises(CestaError) as refused:
                Gateway(GatewaySettings(tmp_path, http=free_address(), grpc=taken)).start()
            named = f"stop process {stranger.pid} ({' '.join(words)})"[:100]
            assert str(refused.value).startswith(f"{taken} cannot be used (Address already in use); {named}")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def free_address() -> str:
    return f"127.0.0.1:{free_ports(1)[0]}"


def test_a_configuration_that_nginx_refuses_is_not_taken_over(own_door: Door) -> None:
    """The error is nginx's own sentence, and the old files stay in use."""
    with pytest.raises(CestaError, match='invalid log level "nonsense"'):
        Gateway.reload(own_door.gateway, dataclasses.replace(own_door.settings, log_level="nonsense"))
    assert own_door.recommend("i1").status == 200
    own_door.gateway.reload(dataclasses.replace(own_door.settings, log_level="warn"))


@pytest.mark.parametrize("proxy", ["10.0.0.1/8", "proxy.example", "1.2.3.4;"])
def test_a_trusted_proxy_is_an_address_or_a_network(tmp_path: Path, proxy: str) -> None:
    with pytest.raises(CestaError, match=f'"{proxy}" cannot be a trusted proxy'):
        render(GatewaySettings(tmp_path, trusted_proxies=(proxy,)))


def test_a_damaged_configuration_is_written_anew(tmp_path: Path) -> None:
    """Whatever bytes a disk or a power failure has left."""
    settings = GatewaySettings(tmp_path)
    written = render(settings)
    text = written.read_text()
    for content in (b"", b"\xff\xfe"):
        written.write_bytes(content)
        assert render(settings).read_text() == text


def test_the_name_server_is_the_first_of_the_machine(tmp_path: Path) -> None:
    """nginx wants IPv6 addresses in brackets, and knows no zones."""
    conf = tmp_path / "resolv.conf"
    assert read_resolver(conf) == "127.0.0.1"
    conf.write_text("# none\nsearch x\nnameserver fe80::1%eth0\nnameserver fd00::2\nnameserver 10.0.0.2\n")
    assert read_resolver(conf) == "[fd00::2]"


def test_the_number_of_an_nginx_that_was_killed_may_be_another_s(tmp_path: Path) -> None:
    """A foreign process is not signalled: no gateway runs on this folder."""
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


def test_a_gateway_is_found_by_any_path_to_its_folder(own_door: Door, tmp_path: Path) -> None:
    """A symbolic link leads to it; another folder does not."""
    link, other = tmp_path / "link", GatewaySettings(tmp_path / "other")
    link.symlink_to(own_door.settings.folder)
    assert reload(GatewaySettings(link)) is True
    render(other)
    (other.run / "nginx.pid").write_text(f"{own_door.gateway.pid}\n")
    assert reload(other) is False
