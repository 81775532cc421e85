"""Whose releases may be loaded: public keys in a file, one line each, and the setting for unsigned ones."""

import binascii
import os
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from operations.errors import CestaError
from operations.records.atomic import write_file
from operations.releases.signatures.signing_key import (
    KIND,
    key_id,
    make_signing_key,
    own_key_file,
    public_line,
    read_signing_key,
    signing_key_file,
)
from operations.server.control_secret import state_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FILE_VARIABLE: Final = "CESTA_TRUSTED_KEYS_FILE"
UNSIGNED_VARIABLE: Final = "CESTA_UNSIGNED_RELEASES"
UNSIGNED: Final = ("refuse", "allow")  # its values; the first is the default


@dataclass(frozen=True)
class Trust:
    """The trusted public keys by their ids, the file that lists them, and whether unsigned releases pass."""

    keys: "Mapping[str, Ed25519PublicKey]"
    path: Path
    allow_unsigned: bool = False


def trusted_keys_file() -> Path:
    """The file that ``$CESTA_TRUSTED_KEYS_FILE`` names; by default one in the user's state folder."""
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else _own_file()


def find_trust() -> Trust:
    """Read the trusted keys and the setting. Raises CestaError for a line that holds no key."""
    path, unsigned = trusted_keys_file(), os.environ.get(UNSIGNED_VARIABLE) or UNSIGNED[0]
    if unsigned not in UNSIGNED:
        raise CestaError(f'{UNSIGNED_VARIABLE} is "{unsigned}"; use {" or ".join(UNSIGNED)}')
    keys = [_parse(line, f"{path}, line {number}") for number, line in _lines(path)]
    return Trust({key_id(key): key for key in keys}, path, unsigned == "allow")


def trust_key(line: str) -> str:
    """Add a key's public line to the trusted ones and return its id. Raises CestaError for another line."""
    key = _parse(line, "the line")
    if key_id(key) not in find_trust().keys:
        _append(trusted_keys_file(), line.strip())
    return key_id(key)


def publisher_key() -> "Ed25519PrivateKey":
    """This user's signing key, made on first use. Its maker trusts it."""
    path = own_key_file()
    if signing_key_file() == path:
        made = make_signing_key()
        key = read_signing_key()
        if made or not _own_file().exists():  # a first use may be killed between the two files
            _append(_own_file(), public_line(key.public_key()))
        return key
    return read_signing_key()


def _own_file() -> Path:
    return state_folder() / "trusted-keys"


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that hold keys, by number. Without a file there are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise CestaError(f"the trusted keys cannot be read: {error}") from None
    return [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")]


def _parse(line: str, origin: str) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    kind, _, rest = line.strip().partition(" ")
    try:
        content = b64decode(rest.split()[0] if rest.split() else "", validate=True)
        if kind == KIND and len(content) == 32:
            return Ed25519PublicKey.from_public_bytes(content)
    except (binascii.Error, ValueError):
        pass
    raise CestaError(
        f'{origin} holds no public key; write a line that "cesta release keys" of a publisher prints: '
        f"{KIND} and 44 characters of base64"
    )


def _append(path: Path, line: str) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        write_file(path, f"{before.rstrip()}\n{line}\n".lstrip().encode(), mode=0o644)
    except OSError as error:
        raise CestaError(
            f"{path} cannot be written ({error.strerror}); set {FILE_VARIABLE} to a file with trusted keys"
        ) from None
