"""The log in a Redis stream, for several machines with one order. Needs `pip install 'cesta[redis]'`.

A script on the server looks ids up, gives positions and adds to the stream, as one step. Redis answers after
it has flushed its append-only file, which the settings below make sure of; another Redis is refused.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ensemble.event_tail import Logged
from operations.errors import CestaError
from operations.events.event import Event
from operations.events.store import Offset, Outcome, State, StoreFault, key_of, moment_of
from operations.server.response_cache import PASSWORD_FILE

STREAM, IDS, OFFSETS, ABOUT = (f"{{cesta:events}}:{name}" for name in ("log", "ids", "offsets", "about"))
_WAIT_S: Final = 5.0
_DURABLE: Final = {  # setting → the value without which an acknowledged event could be lost, and why
    "appendonly": ("yes", "nothing would be on its disk"),
    "appendfsync": ("always", "it would answer before its disk is flushed"),
    "no-appendfsync-on-rewrite": ("no", "it would not flush while it rewrites the file"),
    "maxmemory-policy": ("noeviction", "it would delete events when its memory is full"),
}
# Stream ids are position-0. ARGV: received_ms, number of events, three for each event, three for each offset.
_APPEND: Final = """
local outcomes, at = {}, 2
local position = tonumber(redis.call('HGET', KEYS[4], 'position') or 0)
for n = 1, tonumber(ARGV[2]) do
    local key, at_ms, content = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    at = at + 3
    local known = redis.call('HGET', KEYS[2], key)
    if known then
        local entry = redis.call('XRANGE', KEYS[1], known .. '-0', known .. '-0')[1]
        local same = entry and entry[2][6] == content
        outcomes[n] = {same and 'known' or 'changed', tonumber(known)}
    else
        position = position + 1
        local id = string.format('%d', position)
        redis.call('XADD', KEYS[1], id .. '-0', 'at_ms', at_ms, 'received_ms', ARGV[1], 'content', content)
        redis.call('HSET', KEYS[2], key, id)
        redis.call('HSET', KEYS[4], 'position', id)
        outcomes[n] = {'accepted', position}
    end
end
for n = at + 1, #ARGV, 2 do
    local before = tonumber(redis.call('HGET', KEYS[3], ARGV[n]) or -1)
    if tonumber(ARGV[n + 1]) > before then
        redis.call('HSET', KEYS[3], ARGV[n], ARGV[n + 1])
    end
end
return outcomes
"""


class RedisStore:
    """An EventStore at `redis://[user@]host[:port]`, or rediss:// over TLS.

    The password is in the file that $CESTA_REDIS_PASSWORD_FILE names. Raises StoreFault if Redis cannot be
    reached or could lose events, and CestaError without the package or for an address with a password.
    """

    def __init__(self, address: str) -> None:
        if urlsplit(address).password is not None:
            raise CestaError(
                f"the address of the events holds a password; name a file with it in {PASSWORD_FILE}"
            )
        try:
            import redis
        except ModuleNotFoundError:
            raise CestaError("events in Redis need a package; run: pip install 'cesta[redis]'") from None
        self._address, self._error = address, redis.RedisError
        self._redis: Any = redis.Redis.from_url(
            address, password=_password(), socket_timeout=_WAIT_S, socket_connect_timeout=_WAIT_S
        )
        with self._explained():
            self._check()
            self._redis.hsetnx(ABOUT, "log_id", uuid.uuid4().hex)
        self._append: Callable[..., Any] = self._redis.register_script(_APPEND)

    def append(
        self, events: Sequence[Event], received_ms: int, offsets: Sequence[Offset] = ()
    ) -> list[Outcome]:
        """See EventStore."""
        words: list[Any] = [received_ms, len(events)]
        for event in events:
            words += [key_of(event.event_id), moment_of(event, received_ms), event.content()]
        for source, part, offset in offsets:
            words += [f"{part} {source}", offset]
        with self._explained():
            answers = self._append(keys=[STREAM, IDS, OFFSETS, ABOUT], args=words)
        return [Outcome(State(state.decode()), position) for state, position in answers]

    def read(self, after: int, most: int = 10_000) -> list[Logged]:
        """See EventStore."""
        with self._explained():
            entries = self._redis.xrange(STREAM, min=f"{after + 1}-0", count=most)
        return [
            Logged(
                int(id_.partition(b"-")[0]),
                int(fields[b"at_ms"]),
                int(fields[b"received_ms"]),
                fields[b"content"],
            )
            for id_, fields in entries
        ]

    def last_position(self) -> int:
        """See EventStore."""
        with self._explained():
            return int(self._redis.hget(ABOUT, "position") or 0)

    def offsets(self, source: str) -> Mapping[int, int]:
        """See EventStore."""
        with self._explained():
            kept = self._redis.hgetall(OFFSETS)
        found = {}
        for name, offset in kept.items():
            part, _, of = name.decode().partition(" ")
            if of == source:
                found[int(part)] = int(offset)
        return found

    def log_id(self) -> str:
        """See EventStore."""
        with self._explained():
            value = self._redis.hget(ABOUT, "log_id")
        if value is None:  # Redis was emptied; the next store that is opened gives a name
            raise StoreFault(f"events cannot be kept at {self._address}: the log there is gone")
        return str(value.decode())

    def size_bytes(self) -> int:
        """See EventStore. It is Redis's estimate of the memory."""
        with self._explained():
            return sum(self._redis.memory_usage(key) or 0 for key in (STREAM, IDS))

    def close(self) -> None:
        """See EventStore."""
        self._redis.close()

    def _check(self) -> None:
        for setting, (wanted, otherwise) in _DURABLE.items():
            value = self._redis.config_get(setting).get(setting)
            if value != wanted:
                raise StoreFault(
                    f"{self._address} has {setting} {value}, so {otherwise}; set {setting} {wanted} there"
                )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise StoreFault(f"events cannot be kept at {self._address}: {error}") from None


def _password() -> str | None:
    file = os.environ.get(PASSWORD_FILE)
    if not file:
        return None
    try:
        return Path(file).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise CestaError(f"the password of {PASSWORD_FILE} cannot be read: {error}") from None
