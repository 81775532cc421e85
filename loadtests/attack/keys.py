"""Keys that come and go while requests run, and ten thousand of them."""

import http.client
import json
import secrets
import statistics
import time
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from loadtests.attack.place import Attack, Tally
from loadtests.attack.slow import apply_keys
from loadtests.attack.wire import NONE, Line, write_request
from operations.gateway.keys import FILE, Key, add_key, read_keys, revoke_key
from operations.records.atomic import write_file

MANY: Final = 10_000
CHANGE_MS: Final = 100.0  # of adding or revoking one key, until the gateway acts on it
RATE: Final = 2.0  # changes per second
BODY: Final = b'{"basket": ["x"]}'


def changes(tally: Tally) -> None:
    """Keys are added and revoked; each change is in effect at once."""
    _change(tally)


def ten_thousand(tally: Tally) -> None:
    """The same beside ten thousand other keys."""
    folder = tally.place.folder
    now = datetime.now(UTC).isoformat(timespec="seconds")
    before = (folder / FILE).read_bytes()  # nobody else changes keys now
    keys = read_keys(folder) + [
        Key(f"many-{number}", "shop", 50, sha256(secrets.token_bytes()).hexdigest(), now)
        for number in range(MANY)
    ]
    write_file(folder / FILE, json.dumps([asdict(key) for key in keys], indent=1).encode())
    try:
        apply_keys(tally.place)
        _change(tally)
    finally:
        write_file(folder / FILE, before)
        apply_keys(tally.place)


ATTACKS: Final = (Attack("changes", changes), Attack("ten thousand", ten_thousand))


def _change(tally: Tally) -> None:
    """Add a key, use it, revoke it, and use it again. The median time of a change has a limit."""
    place, times = tally.place, list[float]()
    for number in tally.beats(RATE):
        name = f"new-{number}-{secrets.token_hex(3)}"
        begun = time.perf_counter()
        key = add_key(place.folder, name, "shop", 1000)
        apply_keys(place)
        added = time.perf_counter()
        _expect(tally, key, 200)
        revoking = time.perf_counter()
        revoke_key(place.folder, name)
        apply_keys(place)
        times += [added - begun, time.perf_counter() - revoking]
        _expect(tally, key, 401)
    if times and (median_ms := statistics.median(times) * 1000) > CHANGE_MS:
        tally.blame(f"a change of keys takes {median_ms:.0f} ms; {CHANGE_MS:g} ms are allowed")


def _expect(tally: Tally, key: str, status: int) -> None:
    try:
        with Line(tally.place.http) as line:
            got = line.ask(write_request("/v1/recommend", BODY, key=key)).status
    except (OSError, http.client.HTTPException):
        got = 0
    tally.count(got or NONE)
    if got != status:
        tally.blame(f"a key that was {'added' if status == 200 else 'revoked'} gets {got or NONE}")
