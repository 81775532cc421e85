"""The text of a csv in a stream: unpacked, checked to be text, and UTF-8 from the first byte to the last."""

from __future__ import annotations

import codecs
import io
import re
import sys

import pyarrow as pa

from export_scripts.receipts.reading.parts import Part

COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\x04\x22\x4d\x18": "lz4"}
MAGIC = 4  # bytes that tell it
PACKED_PIECE = 1 << 20  # bytes: a read from a bucket is a request
HEAD = 1 << 16  # bytes: the delimiter shows in them
MOST_TIMES, MOST_UNPACKED = 200, 1 << 28  # receipts shrink to a tenth; from 256 MiB on, bytes count
LONGEST_CHARACTER = 4  # bytes
ZEROS = bytes(512)  # a sector of the disk; programs pad cells with fewer


class CsvText(io.RawIOBase):
    """The text of a part as a file to read from, without the byte order mark, with at least one line end.

    Raises UnicodeError if it is UTF-16, UTF-32 or no text. Bytes that are not UTF-8 become U+FFFD.
    """

    def __init__(self, part: Part) -> None:
        self._raw = part.open()
        self._packed: pa.NativeFile | None = None
        self.repaired = False  # some bytes became U+FFFD
        self.has_quotes = False
        self._has_lines, self._ended = False, False
        self._held = b""  # the first bytes of a character
        self._ready = b""  # text that is not yet read
        start = self._raw.read(MAGIC)
        self._raw.seek(0)
        compression = next((c for magic, c in COMPRESSED.items() if start.startswith(magic)), None)
        if compression:
            self._packed, self._unpacked = self._raw, 0
            pieces = pa.BufferedInputStream(self._packed, PACKED_PIECE)
            self._raw = pa.CompressedInputStream(pieces, compression)
        first = self._read_raw(HEAD).removeprefix(codecs.BOM_UTF8)  # Excel's "CSV UTF-8" starts with it
        _check_text(first)
        self._ready = self._repaired(first)
        self.head = self._ready.decode()  # to sniff the delimiter in

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Read at most `size` bytes, and at least half of that before the end: a header may be long."""
        most = size if size >= 0 else sys.maxsize
        while 2 * len(self._ready) < most and not self._ended:
            self._ready += self._repaired(self._read_raw(max(most - len(self._ready), HEAD)))
        piece, self._ready = self._ready[:most], self._ready[most:]
        return piece

    def close(self) -> None:
        self._raw.close()
        super().close()

    def _read_raw(self, size: int) -> bytes:
        piece: bytes = self._raw.read(size)
        if self._packed:
            self._unpacked += len(piece)
            if self._unpacked > MOST_UNPACKED and self._unpacked > MOST_TIMES * self._packed.tell():
                raise OSError(f"it unpacks to over {MOST_TIMES} times its size: it holds no receipts")
        if ZEROS in piece:
            raise OSError(
                "it has zero bytes in the place of lines, as a power failure or a broken copy leaves"
            )
        return piece

    def _repaired(self, piece: bytes) -> bytes:
        """Return whole characters, with U+FFFD for what is none; an unfinished one waits for its end."""
        self._ended = not piece
        text = self._held + piece if self._held else piece
        end = len(text) if self._ended else _whole_characters(text)
        text, self._held = text[:end], text[end:]
        if not _is_utf8(text):
            self.repaired = True
            text = text.decode("utf-8", "replace").encode()
        self.has_quotes = self.has_quotes or b'"' in text
        self._has_lines = self._has_lines or b"\n" in text or b"\r" in text
        if self._ended and not self._has_lines:
            self._has_lines, text = True, text + b"\n"
        return text


def _check_text(content: bytes) -> None:
    """Raise UnicodeError for UTF-16, UTF-32 and bytes that are no text."""
    if content[:2] in {b"\xff\xfe", b"\xfe\xff"} or re.match(b"[^\0]\0[^\0]\0|\0[^\0]\0[^\0]", content):
        raise UnicodeError("it is UTF-16, not UTF-8")
    if b"\0" in content[:4]:
        raise UnicodeError("it is no text, or text of another encoding than UTF-8")


def _whole_characters(text: bytes) -> int:
    """Return where the last character starts if it is unfinished, else the length of the text."""
    for back in range(1, min(LONGEST_CHARACTER, len(text) + 1)):
        byte = text[-back]
        if byte >= 0xC0:  # the first byte of a character
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(text) - back if back < length else len(text)
        if byte < 0x80:
            break
    return len(text)


def _is_utf8(text: bytes) -> bool:
    """Decide without a decoded copy: it would take up to four times the memory."""
    if text.isascii():
        return True
    offsets = pa.array([0, len(text)], pa.int64()).buffers()[1]
    array = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(text)])
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
