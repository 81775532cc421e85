"""The files of keys and split; the tests of this module need no running nginx."""

from __future__ import annotations

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.gateway.keys import (
    add_key,
    change_expiry,
    change_rate,
    end_rotation,
    read_keys,
    revoke_key,
    rotate_key,
)
from operations.gateway.split import write_split
from operations.releases.canary import LEAST_PERCENT, MOST_PERCENT


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


def test_ten_thousand_keys_are_changed_at_once(tmp_path: Path) -> None:
    """Adding and revoking takes less than 100 ms of CPU time on an idle machine; this machine may be busy."""
    described = {"role": "shop", "rate": 50, "created_at": "2026-01-01T00:00:00+00:00"}
    keys = [described | {"name": f"shop-{n}", "sha256": f"{n:064x}"} for n in range(10_000)]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    times = []
    for change in (lambda: add_key(tmp_path, "last", "shop", 50), lambda: revoke_key(tmp_path, "last")) * 3:
        began = time.process_time()
        change()
        times.append(time.process_time() - began)
    assert min(times) < 0.3
    assert [key.name for key in read_keys(tmp_path)] == [f"shop-{n}" for n in range(10_000)]


@pytest.mark.parametrize(
    ("percent", "written"), [(0, 0), (2.5, 2.5), (100, 100), (LEAST_PERCENT, 0.01), (MOST_PERCENT, 99.99)]
)
def test_a_split_is_written_in_hundredths_of_a_percent(
    tmp_path: Path, percent: float, written: float
) -> None:
    write_split(tmp_path, percent)
    assert json.loads((tmp_path / "split.json").read_text()) == {"percent": written}


@pytest.mark.parametrize("percent", [-1, 100.5])
def test_no_other_share_can_be_split_off(tmp_path: Path, percent: float) -> None:
    with pytest.raises(CestaError, match="cannot be split off; choose 0 to 100"):
        write_split(tmp_path, percent)


def test_a_key_gets_another_rate_and_stays_the_same_key(tmp_path: Path) -> None:
    add_key(tmp_path, "one", "shop", 50)
    before = read_keys(tmp_path)[0]
    change_rate(tmp_path, "one", 5)
    assert read_keys(tmp_path) == [replace(before, rate=5)]
    with pytest.raises(CestaError, match='there is no key "two"; keys: one'):
        change_rate(tmp_path, "two", 5)
    with pytest.raises(CestaError, match="rate 0 is not 1 to"):
        change_rate(tmp_path, "one", 0)


def test_a_rotated_key_has_two_secrets_and_no_third(tmp_path: Path) -> None:
    first = add_key(tmp_path, "one", "shop", 50)
    second = rotate_key(tmp_path, "one", 60)
    (key,) = read_keys(tmp_path)
    assert (key.sha256, key.old_sha256) == (sha256(second), sha256(first))
    with pytest.raises(
        CestaError, match=r'two valid secrets until .*; end the older one with "cesta keys end-'
    ):
        rotate_key(tmp_path, "one", 60)

    assert end_rotation(tmp_path, "one")
    assert not end_rotation(tmp_path, "one")
    assert read_keys(tmp_path) == [replace(key, old_sha256=None, old_expires_s=None)]
    third = rotate_key(tmp_path, "one", 0)
    assert read_keys(tmp_path)[0].sha256 == sha256(third)
    rotate_key(tmp_path, "one", 60)  # the overlap of 0 s has ended


def test_the_end_of_a_key_is_set_and_lifted(tmp_path: Path) -> None:
    add_key(tmp_path, "one", "shop", 50, expires_s=1)
    assert read_keys(tmp_path)[0].has_expired()
    change_expiry(tmp_path, "one", None)
    assert not read_keys(tmp_path)[0].has_expired()
    assert "expires_s" not in (tmp_path / "keys.json").read_text()


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
