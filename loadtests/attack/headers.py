"""Headers that have no meaning for the gateway, on every path and as metadata of gRPC."""

import random
from collections import Counter
from typing import Final

from loadtests.attack.collisions import inputs_of
from loadtests.attack.deadlines import make_question
from loadtests.attack.place import Attack, Tally, shown
from loadtests.attack.wire import NONE, Grpc, Line, make_message, write_request
from loadtests.questions import Question

RATE: Final = 200.0  # requests per second
WAITS_S: Final = 0.5  # for an answer to a request that may look unfinished
PAST: Final = "Sun, 06 Nov 1994 08:49:37 GMT"
FUTURE: Final = "Fri, 01 Jan 2100 00:00:00 GMT"

CONDITIONS: Final = tuple(
    [(name, value) for name in ("If-Match", "If-None-Match") for value in ('"x"', "*", 'W/"x", "y"', "", '"')]
    + [("If-Unmodified-Since", value) for value in (PAST, FUTURE, "never")]
    + [("If-Modified-Since", value) for value in (PAST, FUTURE, "never")]
    + [("Range", value) for value in ("bytes=0-0", "bytes=-1", "bytes=9-1", "bytes=0-0,2-3", "lines=1")]
    + [("If-Range", value) for value in ('"x"', PAST)]
)
OTHERS: Final = tuple(
    [(name, value) for name in ("Expect", "Upgrade", "TE") for value in ("100-continue", "h2c", "trailers")]
    + [("Transfer-Encoding", value) for value in ("gzip", "x", "identity", "chunked, chunked")]
    + [("Connection", value) for value in ("close", "upgrade", "keep-alive, x-request-id", "authorization")]
    + [("Content-Encoding", value) for value in ("gzip", "x", "identity")]
    + [("Content-Length", value) for value in ("0", "-1", "1e3", "99999999999999999999", "2, 2", " 2 ")]
    + [("Accept-Encoding", "gzip;q=x"), ("Host", ""), ("Host", "a/b"), ("Host", "[::1"), ("Cookie", "=;=")]
    + [("X-Request-Id", value) for value in ("", "a b", "x" * 65, "%0a", "é", "../..")]
    + [("X-Session-Id", value) for value in ("", "x" * 4000, "\xff\xfe")]
    + [(name, value) for name in ("X-Placement", "X-Variant") for value in ('"} 1', "a|b", "x" * 65, "\xff")]
    + [("Origin", value) for value in ("", "null", "https://" + "x" * 4000, "\xff")]
    + [("Authorization", f"Bearer cestat.{value}") for value in ("", "e30.x", "x" * 4000 + ".x")]
    + [("Idempotency-Key", value) for value in ("", "x" * 4000, "\xff", "a b")]
    + [("Authorization", value) for value in ("", "Bearer", "Bearer ", "Basic eDp5", "Bearer \xff")]
    + [("traceparent", value) for value in ("00-x", f"00-{'0' * 32}-{'0' * 16}-01", "ff")]
    + [("grpc-timeout", value) for value in ("0n", "1S", "-1S", "99999999999H", "x")]
    + [("X-Forwarded-For", "127.0.0.1, ::1"), ("X-HTTP-Method-Override", "DELETE"), ("X-Accel-Redirect", "/")]
    + [("X-Original-URL", "/admin/releases"), ("Proxy", "http://x"), ("Via", "1.1 x"), ("Max-Forwards", "0")]
)
PATHS: Final = (
    ("POST", "/v1/recommend", b'{"basket": ["x"]}'),
    ("POST", "/v1/recommend/batch", b'{"queries": [{"basket": ["x"]}]}'),
    ("POST", "/v2/models/recommender/infer", b"{}"),
    ("POST", "/v1/tokens", b"{}"),
    ("POST", "/v1/explain", b"{}"),
    ("POST", "/v1/events", b"{}"),
    ("GET", "/v1/events", b""),
    ("PUT", "/v1/availability", b"{}"),
    ("GET", "/v1/availability", b""),
    ("OPTIONS", "/v1/recommend", b""),
    ("GET", "/v1/items", b""),
    ("GET", "/v1/categories", b""),
    ("GET", "/v1/status", b""),
    ("GET", "/healthz", b""),
    ("GET", "/readyz", b""),
    ("GET", "/admin/releases", b""),
    ("GET", "/admin/operations", b""),
    ("GET", "/admin/keys", b""),
    ("GET", "/nothing-here", b""),
)
CACHED: Final = ("/v1/items", "/v1/categories")
NAMES: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_!#$%&'*+.^`|~"


def conditions(tally: Tally) -> None:
    """A condition or a range on a path changes nothing; the client may keep CACHED by their ETags."""
    key = tally.place.keys["attacker"]
    with Line(tally.place.http) as line:
        expected = {(method, path): _ask(line, method, path, body, (), key) for method, path, body in PATHS}
        cases = [(path, header) for path in PATHS for header in CONDITIONS]
        for number in tally.beats(RATE):
            (method, path, body), header = cases[number % len(cases)]
            status = _ask(line, method, path, body, (header,), key)
            tally.count(status or NONE)
            allowed = {expected[method, path], 400} | ({304, 206, 412, 416} if path in CACHED else set())
            if status not in allowed:
                named = ": ".join(header)
                usual = expected[method, path]
                tally.blame(f"{method} {path} with {named} gives {status or 'no answer'}, not {usual}")


def metadata(tally: Tally) -> None:
    """The same over gRPC."""
    message = make_message(inputs_of(Question(("x",)))).SerializeToString()
    with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
        for number in tally.beats(RATE / 4):
            name, value = CONDITIONS[number % len(CONDITIONS)]
            status, text = channel.ask(message, metadata=((name.lower(), value),))
            tally.count(status)
            if status not in ("OK", "INVALID_ARGUMENT"):
                said = text[:80].decode(errors="replace")
                tally.blame(f"ModelInfer with {name.lower()}: {value} gives {status} {said}")


def odd_headers(tally: Tally) -> None:
    """Headers that a server may act on, with values that few clients send."""
    key = tally.place.keys["attacker"]
    with Line(tally.place.http, WAITS_S) as line:
        cases = [(path, header) for header in OTHERS for path in PATHS]
        for number in tally.beats(RATE):
            (method, path, body), header = cases[number % len(cases)]
            _blame_failure(
                tally, line, method, write_request(path, body, (header,), _unless(header, key), method)
            )


def random_headers(tally: Tally) -> None:
    """Random names and values: any bytes, repeated, folded, very long, very many."""
    rng, key = random.Random(), tally.place.keys["attacker"]
    with Line(tally.place.http, WAITS_S) as line:
        for _ in tally.beats(RATE):
            method, path, body = rng.choice(PATHS)
            headers = [_make_header(rng) for _ in range(rng.choice((1, 2, 3, 120)))]
            _blame_failure(tally, line, method, write_request(path, body, headers, key, method))


def one_of_each(tally: Tally) -> None:
    """No header of an answer comes twice; HEAD on health is GET without the body."""
    key = tally.place.keys["attacker"]
    cases = [
        (method, path)
        for _, path, _ in PATHS
        for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE")
    ]
    with Line(tally.place.http) as line:
        for number in tally.beats(RATE):
            method, path = cases[number % len(cases)]
            reply = line.ask(
                write_request(path, headers=(("X-Request-Id", "one"),), key=key, method=method), method
            )
            tally.count(reply.status or NONE)
            twice = [name for name, count in Counter(name for name, _ in reply.headers).items() if count > 1]
            if twice:
                tally.blame(f"{method} {path} gives {reply.status} with two headers {', '.join(twice)}")
            if method == "HEAD" and path in ("/healthz", "/readyz") and reply.status != 200:
                tally.blame(f"HEAD {path} gives {reply.status or 'no answer'}")


def random_metadata(tally: Tally) -> None:
    """Random names and values of gRPC metadata."""
    rng = random.Random()
    with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
        for _ in tally.beats(RATE / 4):
            name = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789-_.", k=rng.randrange(1, 30)))
            value = "".join(chr(rng.randrange(32, 127)) for _ in range(rng.choice((0, 3, 300))))
            name = "x" + name.removesuffix("-bin").removeprefix("grpc-")
            message = make_message(inputs_of(make_question(tally.place, rng))).SerializeToString()
            status, text = channel.ask(message, metadata=((name, value),))
            tally.count(status)
            if status in ("INTERNAL", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"):
                tally.blame(
                    f"metadata {name}: {value[:40]} gives {status} {text[:80].decode(errors='replace')}"
                )


ATTACKS: Final = (
    Attack("conditions", conditions),
    Attack("gRPC conditions", metadata),
    Attack("odd headers", odd_headers),
    Attack("random headers", random_headers),
    Attack("random metadata", random_metadata),
    Attack("one of each", one_of_each),
)


def _ask(
    line: Line, method: str, path: str, body: bytes, headers: tuple[tuple[str, str], ...], key: str
) -> int:
    return line.ask(write_request(path, body, headers, key, method), method).status


def _unless(header: tuple[str, str], key: str) -> str:
    return "" if header[0] == "Authorization" else key


def _make_header(rng: random.Random) -> tuple[bytes, bytes]:
    name = bytes(rng.choices(NAMES, k=rng.randrange(1, 20)))
    if rng.random() < 0.1:
        name = rng.randbytes(rng.randrange(1, 6))
    value = bytes(rng.randrange(32, 127) for _ in range(rng.choice((0, 5, 60))))
    kind = rng.random()
    if kind < 0.2:
        value = rng.randbytes(rng.randrange(1, 20))
    elif kind < 0.25:
        value = b"x" * rng.choice((5_000, 9_000, 40_000))
    elif kind < 0.3:
        value = b"a\r\n b"
    return name, value


def _blame_failure(tally: Tally, line: Line, method: str, request: bytes) -> None:
    """Send it. A 5xx is the gateway's fault; a connection that ends is a way to refuse garbage."""
    reply = line.ask(request, method)
    tally.count(reply.status or NONE)
    if reply.status >= 500:
        tally.blame(f"{reply.status} {reply.body[:60]!r} for {shown(_without_key(request, tally))}")
    line.close()  # what is left of an odd request is no answer to the next


def _without_key(request: bytes, tally: Tally) -> bytes:
    return request.replace(tally.place.keys["attacker"].encode(), b"KEY")
