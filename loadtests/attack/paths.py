"""Other spellings of the paths. Each route has one; any other is not found."""

import random
from typing import Final

from loadtests.attack.collisions import inputs_of
from loadtests.attack.headers import PATHS
from loadtests.attack.place import Attack, Tally, shown
from loadtests.attack.wire import INFER, NONE, Grpc, Line, make_message, write_request
from loadtests.questions import Question

RATE: Final = 200.0  # requests per second
CANONICAL: Final = {path for _, path, _ in PATHS}
PARTS: Final = (
    b"/",
    b"//",
    b"/.",
    b"/..",
    b"%2e%2e",
    b"%00",
    b"%0a",
    b"%0d%0a",
    b"%2f",
    b"%",
    b"%zz",
    b";a=b",
)
PARTS_MORE: Final = (
    b"v1",
    b"recommend",
    b"admin",
    b"releases",
    b"\\",
    b"\xc0\xaf",
    b"\xff",
    b"%25",
    b"#",
    b"?",
)


def spellings(path: str) -> list[str]:
    """Other spellings of a path that a server might take for it."""
    head, _, last = path.rpartition("/")
    first = f"%{ord(last[0]):02x}"
    return [
        f"{path}%0a", f"{path}%0d%0a", f"{path}%00", f"{path}%20", f"{path}%09", f"{path}/", f"{path}/.",
        f"/{path}", f"//{path}", f"/.{path}", f"/x/..{path}", f"/x/%2e%2e{path}", f"{head}//{last}",
        f"{head}/./{last}", f"{head}/x/../{last}", f"{head}/{first}{last[1:]}",
        f"{head}/{first.upper()}{last[1:]}", f"{path};x=y", f"{path}%3fx", f"{path}%23", f"{path}\\",
        f"/%2f{path}", path.upper(), f"{path}..", f"{path}~", f"{path}%2f", f"{path}%252e", f"{path}\x7f",
        f"{head}%2f{last}",
    ]  # fmt: skip


def other_spellings(tally: Tally) -> None:
    """Every other spelling of every path is refused, with a key and without."""
    cases = [
        (method, spelling, body, key)
        for method, path, body in PATHS
        for spelling in spellings(path)
        if spelling not in CANONICAL
        for key in (tally.place.keys["attacker"], "")
    ]
    with Line(tally.place.http) as line:
        for number in tally.beats(RATE):
            method, path, body, key = cases[number % len(cases)]
            reply = line.ask(write_request(path, body, key=key, method=method), method)
            tally.count(reply.status or NONE)
            if reply.status == 200 or reply.status >= 500:
                tally.blame(f"{method} {path!r} gives {reply.status}, not 404")


def random_paths(tally: Tally) -> None:
    """Random bytes and parts of paths, with odd first lines. Nothing is found, and nothing fails."""
    rng, key = random.Random(), tally.place.keys["attacker"].encode()
    with Line(tally.place.http) as line:
        for _ in tally.beats(RATE):
            target = b"".join(rng.choices((*PARTS, *PARTS_MORE), k=rng.randrange(1, 8)))
            if rng.random() < 0.2:
                target = rng.choice((b"/", b"")) + rng.randbytes(rng.randrange(1, 30))
            if rng.random() < 0.05:
                target = b"/" + b"a" * rng.choice((4_000, 8_200, 33_000))
            if rng.random() < 0.1:
                target = (
                    rng.choice((b"http://x", b"http:", b"HTTP://[::1]:1", b"*", b"//", b"h2://")) + target
                )
            version = rng.choice(
                (b" HTTP/1.1",) * 8 + (b"", b" HTTP/1.0", b" HTTP/3.0", b" HTTP/1.1 x", b" X")
            )
            request = b"GET %b%b\r\nHost: shop\r\nAuthorization: Bearer %b\r\n\r\n" % (target, version, key)
            reply = line.ask(request, "GET")
            line.close()
            tally.count(reply.status or NONE)
            path = target.partition(b"?")[0].partition(b"#")[0].decode("latin-1")
            if reply.status >= 500 or (reply.status == 200 and b"HTTP" in version and path not in CANONICAL):
                tally.blame(f"{reply.status} for {shown(request.replace(key, b'KEY'))}")


def grpc_paths(tally: Tally) -> None:
    """Other spellings of ModelInfer, and other methods of Triton's service."""
    service = "/inference.GRPCInferenceService/"
    others = [
        service + name for name in ("RepositoryIndex", "ModelStreamInfer", "ServerMetadata", "LogSettings")
    ]
    others += [
        service + "SystemSharedMemoryRegister",
        service + "RepositoryModelUnload",
        service,
        "/",
        "/x/y",
    ]
    paths = [*spellings(INFER), *others]
    message = make_message(inputs_of(Question(("x",)))).SerializeToString()
    with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
        for number in tally.beats(RATE / 4):
            path = paths[number % len(paths)]
            status, text = channel.ask(message, path=path)
            tally.count(status)
            if status not in ("UNIMPLEMENTED", "INVALID_ARGUMENT", "NOT_FOUND"):
                tally.blame(f"{path!r} over gRPC gives {status} {text[:60]!r}, not UNIMPLEMENTED")


ATTACKS: Final = (
    Attack("other spellings", other_spellings),
    Attack("random paths", random_paths),
    Attack("gRPC paths", grpc_paths),
)
