"""The publisher's private key, an Ed25519 key in a PEM file, and the line by which others trust it."""

import getpass
import hashlib
import os
import socket
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Final

from operations.errors import CestaError
from operations.server.control_secret import state_folder, write_once

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

FILE_VARIABLE: Final = "CESTA_SIGNING_KEY_FILE"
KIND: Final = "ed25519"  # the first word of a public line
ID_DIGITS: Final = 16


def signing_key_file() -> Path:
    """The file that ``$CESTA_SIGNING_KEY_FILE`` names; by default one in the user's state folder."""
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else own_key_file()


def own_key_file() -> Path:
    """The file of the key that ``make_signing_key`` makes."""
    return state_folder() / "signing-key"


def read_signing_key() -> "Ed25519PrivateKey":
    """Read this user's key. Raises CestaError if the file is missing or holds no Ed25519 key."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = signing_key_file()
    way_out = f'make one with "openssl genpkey -algorithm ed25519 -out {path}"'
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise CestaError(f"the signing key cannot be read: {error}; {way_out}") from None
    except (ValueError, TypeError):  # no PEM; a PEM that needs a password
        raise CestaError(f"{path} holds no private key without a password; {way_out}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise CestaError(f"{path} holds a key of another kind than Ed25519; {way_out}")
    return key


def make_signing_key() -> bool:
    """Make this user's key, in a file that nobody else can read; False if there is one already."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    path = own_key_file()
    if path.exists():
        return False
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode().strip()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_once(path, text)
    except OSError as error:
        raise CestaError(
            f"{path} cannot be written ({error.strerror}); set {FILE_VARIABLE} to a file with a signing key"
        ) from None
    return True


def raw(key: "Ed25519PublicKey") -> bytes:
    """The 32 bytes of a public key."""
    return key.public_bytes_raw()


def key_id(key: "Ed25519PublicKey") -> str:
    """The first hex digits of the SHA-256 of a public key; they name it in errors and signatures."""
    return hashlib.sha256(raw(key)).hexdigest()[:ID_DIGITS]


def public_line(key: "Ed25519PublicKey") -> str:
    """The line that makes others trust a key: kind, base64 of its 32 bytes, and whose it is."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user has a number and no name
        user = str(os.getuid())
    return f"{KIND} {b64encode(raw(key)).decode()} {user}@{socket.gethostname()}"
