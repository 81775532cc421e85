"""The signatures of a repository's releases: made by publishers, checked before any code is loaded.

``signatures.jsonl`` has a JSON object per line: release, id of the key, signature. It lies beside the models,
because older versions of cesta refuse an unknown file in a release, and Triton reloads a model whose folder
changes. A release may have several signatures; one of a trusted key is enough.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import structlog

from operations.errors import CestaError
from operations.releases.repository import manifest_place
from operations.releases.signatures.signing_key import key_id
from operations.releases.signatures.trust import FILE_VARIABLE, UNSIGNED_VARIABLE, Trust, find_trust
from operations.releases.stores.store import Repository

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME: Final = "signatures.jsonl"


def sign(repository: Repository, release: int, content: bytes, key: "Ed25519PrivateKey") -> None:
    """Add the signature of a manifest's ``content`` as that of ``release``; on disk when this returns."""
    line = {
        "release": release,
        "key": key_id(key.public_key()),
        "signature": b64encode(key.sign(_message(release, content))).decode(),
    }
    repository.append(NAME, json.dumps(line))


def check_signature(repository: Repository, release: int, trust: Trust) -> bytes:
    """The content of a release's manifest, which a trusted key signed for this number; else CestaError.

    If ``trust`` allows unsigned releases, one without any signature passes, and a warning is logged.
    """
    from cryptography.exceptions import InvalidSignature

    place = manifest_place(repository, release)
    content = place.read_bytes()
    signatures = list(_read_signatures(repository, release))
    if not signatures:
        _check_unsigned(repository, release, trust)
        return content
    trusted = [(trust.keys[key], signature) for key, signature in signatures if key in trust.keys]
    if not trusted:
        signers = ", ".join(sorted({key for key, _ in signatures}))
        listed = ", ".join(sorted(trust.keys)) or "no key"
        raise CestaError(
            f"release {release} in {repository} is signed by {signers}, and {trust.path} lists {listed}; "
            f'if you trust that publisher, run "cesta release trust" with his line, or set {FILE_VARIABLE}'
        )
    for public_key, signature in trusted:
        try:
            public_key.verify(signature, _message(release, content))
        except InvalidSignature:
            continue
        return content
    signers = ", ".join(sorted({key_id(public_key) for public_key, _ in trusted}))
    raise CestaError(
        f"{place} is not what {signers} signed as release {release}; restore the file, or run "
        '"cesta publish" again'
    )


def is_trusted(repository: Repository, release: int) -> bool:
    """Would ``check_signature`` accept the release?"""
    try:
        check_signature(repository, release, find_trust())
    except CestaError:
        return False
    return True


def _check_unsigned(repository: Repository, release: int, trust: Trust) -> None:
    if not trust.allow_unsigned:
        raise CestaError(
            f"release {release} in {repository} is not signed; if you know where it comes from, run "
            f'"cesta release sign {release}", or set {UNSIGNED_VARIABLE}=allow, which is logged'
        )
    log = structlog.get_logger()
    log.warning("unsigned release", release=release, repository=str(repository), setting=UNSIGNED_VARIABLE)


def _message(release: int, content: bytes) -> bytes:
    """The signed bytes. They hold the number, so that no release can be passed off as another."""
    return f"cesta release {release}\n".encode() + content


def _read_signatures(repository: Repository, release: int) -> Iterator[tuple[str, bytes]]:
    """Key and signature of each line about ``release``. A damaged line is no signature."""
    path = repository / NAME
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            described = json.loads(line)
            if described["release"] == release:
                yield str(described["key"]), b64decode(described["signature"], validate=True)
        except (ValueError, TypeError, KeyError):
            continue
