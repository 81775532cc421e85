"""Keys come and go while the gateway runs, and it takes over changed files or refuses them."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from operations.cli import make_app
from operations.errors import CestaError
from operations.gateway.keys import add_key, revoke_key
from operations.gateway.nginx import GatewaySettings, check, reload, render
from tests.running.door import Door

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
        own_door.gateway.reload()
        revoke_key(own_door.settings.folder, f"guest-{n}")
        own_door.gateway.reload()
    stop.set()
    for thread in shops:
        thread.join()

    assert failures == []
    assert len(served) > 20


def test_a_key_is_told_even_if_nginx_refuses_a_file(own_door: Door) -> None:
    """The command cannot print the key a second time. The key works once the file is repaired."""
    split = own_door.settings.folder / "split.conf"
    good = split.read_text()
    split.write_text("nonsense;")
    try:
        done = CliRunner().invoke(
            make_app(), ["keys", "add", "patient", "--folder", str(own_door.settings.folder)]
        )
    finally:
        split.write_text(good)
    assert 'unknown directive "nonsense"' in str(done.exception)
    own_door.gateway.reload()
    assert own_door.recommend("i1", key=done.stdout.strip()).status == 200


@pytest.mark.parametrize("name", ["default", "include", "news"])
def test_a_key_that_is_called_by_a_word_of_nginx_has_its_rate(own_door: Door, name: str) -> None:
    """The rate is one per second, the burst one more: of five requests at once some are refused."""
    secret = add_key(own_door.settings.folder, name, "shop", 1)
    try:
        own_door.gateway.reload()
        statuses = {own_door.recommend("i1", key=secret).status for _ in range(5)}
        assert statuses == {200, 429}
    finally:
        revoke_key(own_door.settings.folder, name)
        own_door.gateway.reload()


def test_files_that_nginx_refuses_are_not_taken_over(own_door: Door) -> None:
    """The error is nginx's own sentence, and the old files stay in use."""
    good = (own_door.settings.folder / "split.conf").read_text()
    (own_door.settings.folder / "split.conf").write_text("nonsense;")
    try:
        with pytest.raises(CestaError, match='unknown directive "nonsense"'):
            own_door.gateway.reload()
        assert own_door.recommend("i1").status == 200
    finally:
        (own_door.settings.folder / "split.conf").write_text(good)
    check(own_door.settings)


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
