"""The file of keys, and the files that nginx includes; the tests of this module need no running nginx."""

from __future__ import annotations

import hashlib
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.gateway.keys import add_key, lock_folder, read_keys, revoke_key
from operations.gateway.nginx import GatewaySettings, check, render
from operations.gateway.state import write_split, write_state
from operations.releases.canary import LEAST_PERCENT, MOST_PERCENT
from tests.running import needs


def test_only_a_hash_is_kept(tmp_path: Path) -> None:
    secret = add_key(tmp_path, "webshop", "shop", 50)

    assert len(secret) == len("cesta_") + 43
    (entry,) = json.loads((tmp_path / "keys.json").read_text())
    assert entry["sha256"] == hashlib.sha256(secret.encode()).hexdigest()
    assert entry | {"sha256": "", "created_at": ""} == {
        "name": "webshop",
        "role": "shop",
        "rate": 50,
        "sha256": "",
        "created_at": "",
    }
    assert not any(secret in path.read_text() for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "rate", "sentence"),
    [
        ("web shop", 50, '"web shop" cannot name a key; use 1 to 32 of a-z, 0-9 and -'),
        ("x; }", 50, "cannot name a key"),
        ("", 50, "cannot name a key"),
        ("x" * 33, 50, "cannot name a key"),
        ("a", 0, "rate 0 is not 1 to 100000 requests per second"),
        ("taken", 50, 'a key "taken" exists already; revoke it, or choose another name'),
    ],
)
def test_an_invalid_key_is_refused(tmp_path: Path, name: str, rate: int, sentence: str) -> None:
    """A refusal changes nothing."""
    add_key(tmp_path, "taken", "shop", 50)
    with pytest.raises(CestaError) as refused:
        add_key(tmp_path, name, "shop", rate)
    assert sentence in str(refused.value)
    assert [key.name for key in read_keys(tmp_path)] == ["taken"]


def test_a_revoked_key_is_gone_and_an_unknown_one_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        add_key(tmp_path, name, "shop", 50)
    revoke_key(tmp_path, "one")

    assert [key.name for key in read_keys(tmp_path)] == ["two"]
    with pytest.raises(CestaError, match='no key "one"; keys: two'):
        revoke_key(tmp_path, "one")


def test_commands_at_once_lose_no_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: add_key(tmp_path, f"key-{n}", "shop", 50), range(40)))
    assert len(read_keys(tmp_path)) == 40


def test_a_file_that_somebody_else_wrote_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('[{"name": "x"}]')
    with pytest.raises(CestaError, match=r"keys\.json was not written by cesta keys"):
        read_keys(tmp_path)


def test_each_rate_has_its_zone_and_batches_a_thirty_second_of_it(tmp_path: Path) -> None:
    """64 requests per second allow 2 batches of 32 per second: 120 per minute."""
    for name, rate in (("a", 64), ("b", 64), ("c", 1)):
        add_key(tmp_path, name, "shop", rate)
    write_state(tmp_path)

    keys = (tmp_path / "keys.conf").read_text()
    assert keys.count("limit_req_zone") == 4
    assert "zone=rate_64:1m rate=64r/s;" in keys
    assert "zone=batch_64:1m rate=120r/m;" in keys
    assert "zone=batch_1:1m rate=2r/m;" in keys
    assert "limit_req zone=rate_64 burst=64 nodelay;" in (tmp_path / "rate.conf").read_text()


@pytest.mark.parametrize(
    ("percent", "lines"),
    [
        (0, ["    * recommender;"]),
        (2.5, ["    2.50% recommender_canary;", "    * recommender;"]),
        (100, ["    * recommender_canary;"]),
        (LEAST_PERCENT, ["    0.01% recommender_canary;", "    * recommender;"]),
        (MOST_PERCENT, ["    99.99% recommender_canary;", "    * recommender;"]),
        (0.004, ["    * recommender;"]),
        (99.996, ["    * recommender_canary;"]),
    ],
)
def test_a_split_is_one_line_that_nginx_takes(tmp_path: Path, percent: float, lines: list[str]) -> None:
    """nginx knows hundredths of a percent. A line that it refuses would block every later change of keys."""
    write_split(tmp_path, percent)
    assert (tmp_path / "split.conf").read_text().splitlines()[2:-1] == lines
    settings = GatewaySettings(tmp_path)
    render(settings)
    with needs.debian_packages():
        check(settings)


@pytest.mark.parametrize("percent", [-1, 100.5])
def test_no_other_share_can_be_split_off(tmp_path: Path, percent: float) -> None:
    with pytest.raises(CestaError, match="cannot be split off; choose 0 to 100"):
        write_split(tmp_path, percent)


@pytest.mark.parametrize("name", ["default", "include", "hostnames", "volatile", "news", "42"])
def test_a_key_may_be_called_by_a_word_of_nginx(tmp_path: Path, name: str) -> None:
    """The names are all special words of maps, and one that nginx would read as an escape."""
    add_key(tmp_path, name, "shop", 50)
    settings = GatewaySettings(tmp_path)
    render(settings)
    with needs.debian_packages():
        check(settings)
    limited = (tmp_path / "keys.conf").read_text().split("map $key_name $rate_50")[1]
    assert f"    \\\\{name} {name};\n" in limited


def test_nginx_s_files_are_never_older_than_the_keys(tmp_path: Path) -> None:
    """Simultaneous commands each write it: no key is lost, and no revoked key comes back."""

    def guest(n: int) -> None:
        add_key(tmp_path, f"guest-{n}", "shop", 50)
        write_state(tmp_path)
        if n % 2:
            revoke_key(tmp_path, f"guest-{n}")
            write_state(tmp_path)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(guest, range(40)))
    names = {line.split()[1].rstrip(";") for line in _entries(tmp_path / "keys.conf", "$key_name")}
    assert names == {f"guest-{n}" for n in range(0, 40, 2)}


def test_writing_nginx_s_files_waits_for_a_change_of_keys(tmp_path: Path) -> None:
    """The writer reads the keys only when it holds the lock: here a key is revoked meanwhile."""
    for name in ("one", "two"):
        add_key(tmp_path, name, "shop", 50)
    one, two = read_keys(tmp_path)
    with lock_folder(tmp_path):
        writing = threading.Thread(target=write_state, args=(tmp_path,))
        writing.start()
        writing.join(0.2)
        assert writing.is_alive()
        (tmp_path / "keys.json").write_text(json.dumps([asdict(two)]))
    writing.join(5)
    assert one.sha256 not in (tmp_path / "keys.conf").read_text()
    assert two.sha256 in (tmp_path / "keys.conf").read_text()


def _entries(path: Path, variable: str) -> list[str]:
    """Lines of the map from a key's hash to this variable."""
    lines = path.read_text().split(f"map $key_hash {variable} {{\n")[1].split("}")[0].splitlines()
    return lines[1:]
