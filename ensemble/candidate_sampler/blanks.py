"""The letters that do not count at the ends of an id: one definition for the receipts and for requests."""

import unicodedata
from typing import Final

# First and last code point of each range: white space; control characters that pad or frame a value;
# invisible letters, such as the zero-width space, the byte order mark and the marks of direction. Variation
# selectors and tags are no blanks: emoji end with them.
_RANGES: Final = (
    (0x0000, 0x0004),
    (0x0009, 0x000D),
    (0x001A, 0x001A),
    (0x001C, 0x0020),
    (0x0085, 0x0085),
    (0x00A0, 0x00A0),
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x1680, 0x1680),
    (0x180E, 0x180E),
    (0x2000, 0x200F),
    (0x2028, 0x202F),
    (0x205F, 0x206F),
    (0x2800, 0x2800),
    (0x3000, 0x3000),
    (0x3164, 0x3164),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF9, 0xFFFB),
)
BLANKS: Final = "".join(chr(code) for first, last in _RANGES for code in range(first, last + 1))
ASCII_BLANKS: Final = bytes(ord(letter) for letter in BLANKS if letter.isascii())
_JOINERS: Final = ("\u200c", "\u200d")
_VIRAMA: Final = 9  # the combining class of the signs that silence a vowel


def trimmed(text: str) -> str:
    """Return the text without blanks at its ends. A joiner after a virama stays: Indic words end with it."""
    bare = text.strip(BLANKS)
    if not bare or text.endswith(bare) or unicodedata.combining(bare[-1]) != _VIRAMA:
        return bare
    after = text.lstrip(BLANKS)[len(bare)]
    return bare + after if after in _JOINERS else bare
