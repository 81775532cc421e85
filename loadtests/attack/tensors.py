"""Bodies that only an attacker writes: V2 heads, JSON and protobuf with wrong numbers, types and bytes."""

import copy
import json
import random
from collections.abc import Callable
from typing import Any, Final

from loadtests.attack.collisions import inputs_of
from loadtests.attack.deadlines import make_question
from loadtests.attack.place import Attack, Tally, shown
from loadtests.attack.wire import NONE, Grpc, Line, make_message, pack, write_request

RATE: Final = 250.0  # requests per second
INFER: Final = "/v2/models/recommender/infer"
NUMBERS: Final = (
    0,
    1,
    -1,
    -6,
    5,
    2**31,
    2**32 - 1,
    2**53,
    2**63,
    2**64 - 8,
    2**64,
    -(2**63),
    1e300,
    -0.0,
    0.5,
)
VALUES: Final[tuple[Any, ...]] = (
    *NUMBERS, None, True, False, "", "x", "BYTES", [], {}, ["BYTES"], [[]], {"a": []}, "\u0000", "\ud800",
    [1, 1], [1, -1], [2**64, 1], [1, 2**62], [0, 0], ["1", "1"], [1, 1, 1],
)  # fmt: skip
WAITS_S: Final = 0.5  # for an answer to a body that may look unfinished
SIZES: Final = (
    b"11",
    b"0",
    b"-1",
    b"10",
    b"12",
    b"0x11",
    b"ffffffffffffffff",
    b"1" * 30,
    b"",
    b"g",
    b"11;x=y",
    b" 11",
)
BROKEN: Final = (
    b"", b"\0", b"\0\0\0", b"\xff\xff\xff\xff", b"\x05\0\0\0x", b"\x01\0\0\0xy", b"\x01\0\0\0\xff",
    b"\x02\0\0\0\xed\xa0", b"\0\0\0\x80",
)  # fmt: skip
REFUSED: Final = {"INVALID_ARGUMENT", "OK", "UNIMPLEMENTED", "NOT_FOUND", "RESOURCE_EXHAUSTED"}


def known_heads(tally: Tally) -> None:
    """Every field of a V2 head with every odd value, in turn."""
    ids = pack(["x"])
    cases = [
        (_head(field, value), ids)
        for value in VALUES
        for field in ("name", "shape", "datatype", "parameters", "binary_data_size", "data", "inputs", "id")
    ]
    with Line(tally.place.http) as line:
        for number in tally.beats(RATE):
            head, data = cases[number % len(cases)]
            content = json.dumps(head).encode()
            _send_infer(tally, line, content, data, str(len(content)))


def random_heads(tally: Tally) -> None:
    """A good V2 body with random changes to its bytes, its fields and its lengths."""
    rng = random.Random()
    with Line(tally.place.http) as line:
        for _ in tally.beats(RATE):
            question = make_question(tally.place, rng)
            inputs = [(name, pack(ids), len(ids)) for name, ids in inputs_of(question).items()]
            head: Any = {"inputs": [_tensor(name, size, len(data)) for name, data, size in inputs]}
            for _ in range(rng.randrange(3)):
                change_value(head, rng)
            content = json.dumps(head).encode()
            data = b"".join(data for _, data, _ in inputs)
            if rng.random() < 0.3:
                content = garble(content, rng)
            if rng.random() < 0.5:
                data = garble(data, rng)
            length = str(len(content)) if rng.random() < 0.8 else str(rng.choice(NUMBERS))
            _send_infer(tally, line, content, data, length)


def random_json(tally: Tally) -> None:
    """Good JSON with random changes to its values and its bytes, alone and in a batch."""
    rng, key = random.Random(), tally.place.keys["attacker"]
    with Line(tally.place.http) as line:
        for _ in tally.beats(RATE):
            query: Any = {**make_question(tally.place, rng).json, "k": 3, "exclude": ["a"], "categories": []}
            path, content = "/v1/recommend", query
            if rng.random() < 0.4:
                path, content = "/v1/recommend/batch", {"queries": [query, {"basket": ["x"]}]}
            for _ in range(rng.randrange(3)):
                change_value(content, rng)
            body = json.dumps(content).encode()
            if rng.random() < 0.5:
                body = garble(body, rng)
            reply = line.ask(write_request(path, body, key=key))
            tally.count(reply.status or NONE)
            if reply.status >= 500 or not reply.status:
                tally.blame(f"{path} gives {reply.status or NONE} for {shown(body)}")


def random_protobuf(tally: Tally) -> None:
    """A good ModelInferRequest with random changes to its fields and its bytes."""
    rng = random.Random()
    with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
        for _ in tally.beats(RATE):
            message = make_message(inputs_of(make_question(tally.place, rng)))
            for _ in range(rng.randrange(3)):
                rng.choice(CHANGES)(message, rng)
            content = message.SerializeToString()
            if rng.random() < 0.6:
                content = garble(content, rng)
            status, text = channel.ask(content)
            tally.count(status)
            if status not in REFUSED:
                tally.blame(f"{status} {text[:60]!r} over gRPC for {shown(content)}")


def broken_chunks(tally: Tally) -> None:
    """Bodies in chunks whose sizes are wrong, and requests that hide another one behind them."""
    key = tally.place.keys["attacker"]
    body = b'{"basket": ["x"]}'
    chunks = [b"%b\r\n%b\r\n0\r\n\r\n" % (size, body) for size in SIZES]
    chunks += [b"11\r\n" + body, b"11\r\n" + body + b"\r\n0\r\nX: y\r\n\r\n", b"11\n" + body + b"\n0\n\n"]
    heads = [(("Transfer-Encoding", "chunked"),), (("Transfer-Encoding", "chunked"), ("Content-Length", "4"))]
    heads += [(("Transfer-Encoding", value),) for value in ("Chunked", " chunked", "chunked, identity", "x")]
    cases = [(head, chunk) for head in heads for chunk in chunks]
    hidden = b"GET /admin/releases HTTP/1.1\r\nHost: shop\r\n\r\n"
    first = b"POST /v1/recommend HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
    for number in tally.beats(RATE):
        head, chunk = cases[number % len(cases)]
        fields = b"".join(b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in head)
        request = first + b"Authorization: Bearer %b\r\n%b\r\n%b" % (key.encode(), fields, chunk + hidden)
        with Line(tally.place.http, WAITS_S) as line:
            reply = line.ask(request)
        tally.count(reply.status or NONE)
        if reply.status >= 500:
            tally.blame(f"{reply.status} for {shown(fields + chunk)}")


def broken_strings(tally: Tally) -> None:
    """Tensors whose bytes are no strings, in a form that is right otherwise.

    Triton computes several callers' questions at once. One that cannot be read must not fail the others.
    """
    rng = random.Random()
    with Grpc(tally.place.grpc, tally.place.keys["attacker"]) as channel:
        for _ in tally.beats(RATE):
            message = make_message(inputs_of(make_question(tally.place, rng)))
            place = rng.randrange(len(message.raw_input_contents))
            message.raw_input_contents[place] = rng.choice(BROKEN)
            status, text = channel.ask(message.SerializeToString())
            tally.count(status)
            if status not in REFUSED:
                tally.blame(
                    f"{status} {text[:60]!r} over gRPC for {shown(message.raw_input_contents[place])}"
                )


ATTACKS: Final = (
    Attack("known heads", known_heads),
    Attack("random heads", random_heads),
    Attack("random JSON", random_json),
    Attack("random protobuf", random_protobuf),
    Attack("broken strings", broken_strings),
    Attack("broken chunks", broken_chunks),
)


def garble(content: bytes, rng: random.Random) -> bytes:
    """Change, remove or insert up to three bytes at a random place, or cut the rest off."""
    at = rng.randrange(len(content) + 1)
    if rng.random() < 0.1:
        return content[:at]
    return content[:at] + rng.randbytes(rng.randrange(4)) + content[at + rng.randrange(4) :]


def change_value(content: Any, rng: random.Random) -> None:
    """Replace one value at a random depth, or add a member."""
    while True:
        places = list(content) if isinstance(content, dict) else list(range(len(content)))
        if not places or (isinstance(content, dict) and rng.random() < 0.1):
            if isinstance(content, dict):
                content[rng.choice(("x", "", "parameters", "outputs", "id", "__proto__"))] = rng.choice(
                    VALUES
                )
            return
        place = rng.choice(places)
        if isinstance(content[place], dict | list) and rng.random() < 0.7:
            content = content[place]
            continue
        content[place] = copy.deepcopy(rng.choice(VALUES))  # it may be changed in turn
        return


def _tensor(name: str, ids: int, size: int) -> dict[str, Any]:
    parameters = {"binary_data_size": size}
    return {"name": name, "shape": [1, ids], "datatype": "BYTES", "parameters": parameters}


def _head(field: str, value: Any) -> dict[str, Any]:
    """A V2 head for one id, with another value in one field."""
    tensor = _tensor("basket", 1, 5)
    if field == "binary_data_size":
        tensor["parameters"] = {field: value}
    elif field in ("inputs", "id"):
        return {"inputs": [tensor]} | {field: value}
    else:
        tensor[field] = value
    return {"inputs": [tensor]}


def _send_infer(tally: Tally, line: Line, head: bytes, data: bytes, length: str) -> None:
    headers = (("Inference-Header-Content-Length", length),)
    request = write_request(INFER, head + data, headers, tally.place.keys["attacker"])
    reply = line.ask(request)
    tally.count(reply.status or NONE)
    if reply.status >= 500 or not reply.status:
        words = reply.body[:80].decode(errors="replace").strip()
        tally.blame(f"{reply.status or NONE} {words} for {length} {shown(head + data)}")


def _input(message: Any, rng: random.Random) -> Any:
    return rng.choice(message.inputs)


def _shape(message: Any, rng: random.Random) -> None:
    numbers = [number for number in NUMBERS if isinstance(number, int) and -(2**63) <= number < 2**63]
    _input(message, rng).shape[rng.randrange(2)] = rng.choice(numbers)


def _datatype(message: Any, rng: random.Random) -> None:
    _input(message, rng).datatype = rng.choice(("", "FP32", "INT64", "BOOL", "bytes", "BYTES\0", "X" * 300))


def _name(message: Any, rng: random.Random) -> None:
    _input(message, rng).name = rng.choice(("", "basket", "nonce", "digest", "item_ids", "a" * 300, "\0"))


def _raw(message: Any, rng: random.Random) -> None:
    place = rng.randrange(len(message.raw_input_contents))
    message.raw_input_contents[place] = rng.choice(
        (b"", b"\x00" * 3, b"\xff\xff\xff\xff", pack(["x"] * 3), pack(["y" * 300]), garble(pack(["x"]), rng))
    )


def _more_raw(message: Any, rng: random.Random) -> None:
    message.raw_input_contents.append(pack(["x"]))


def _twice(message: Any, rng: random.Random) -> None:
    message.inputs.append(message.inputs[0])


def _contents(message: Any, rng: random.Random) -> None:
    _input(message, rng).contents.bytes_contents.append(b"x")


def _parameter(message: Any, rng: random.Random) -> None:
    names = ("sequence_id", "priority", "timeout", "binary_data_size", "shared_memory_region")
    message.parameters[rng.choice(names)].int64_param = rng.choice((-1, 0, 2**62))


def _tensor_parameter(message: Any, rng: random.Random) -> None:
    _input(message, rng).parameters["shared_memory_region"].string_param = "x"


def _output(message: Any, rng: random.Random) -> None:
    message.outputs.add(name=rng.choice(("item_ids", "", "x")))


def _model(message: Any, rng: random.Random) -> None:
    message.model_name = rng.choice(
        ("", "candidate_sampler", "recommender_canary", "recommender/../x", "x" * 300)
    )


def _version(message: Any, rng: random.Random) -> None:
    message.model_version = rng.choice(("1", "-1", "x", "9" * 30))


def _id(message: Any, rng: random.Random) -> None:
    message.id = rng.choice(("x" * 5000, "\0", "a\r\nb", "é"))


CHANGES: Final[tuple[Callable[[Any, random.Random], None], ...]] = (
    _shape, _datatype, _name, _raw, _more_raw, _twice, _contents, _parameter, _tensor_parameter, _output,
    _model, _version, _id,
)  # fmt: skip
