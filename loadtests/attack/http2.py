"""Frames of HTTP/2 by hand (RFC 9113, RFC 7541): a library would not send what an attacker sends."""

import struct
from collections.abc import Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM: Final = 1
END_HEADERS: Final = 4
CANCEL: Final = 8


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Literal fields without indexing and without Huffman's code."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in headers)


def open_stream(stream: int, headers: Iterable[tuple[str, str]], last: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END_STREAM if last else 0), stream, header_block(headers))


def reset_stream(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


def grpc_headers(path: str, key: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "shop"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("authorization", f"Bearer {key}"),
    ]


def _text(text: str) -> bytes:
    content = text.encode("latin-1")
    return _integer(len(content)) + content


def _integer(value: int) -> bytes:
    """A length in a prefix of 7 bits."""
    if value < 127:
        return bytes((value,))
    rest, out = value - 127, bytearray((127,))
    while rest >= 128:
        out.append(rest & 127 | 128)
        rest >>= 7
    return bytes((*out, rest))
