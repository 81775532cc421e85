"""The errors whose message is written for the user, as one tree.

CestaError          every error whose message is written for the user
├── BadSettings     pipeline.toml, a user's own toml or an override
├── BeingChanged    a repository that another process is changing; nothing was done
├── KeyKept         a key that was to be revoked and is still in keys.json
├── NoAnswer        a server or a gateway that does not answer
├── NotPromoted     a release that did not become active; the earlier one still is
│   └── NotActive   one that was published a moment before
├── ServerError     a tritonserver that cannot start, died, or did not become ready
│   └── NoRoom      one that was not started, for lack of memory or disk
├── StoreError      an object store that cannot be reached, is silent, fails or refuses
└── WontOverwrite   a target folder that cesta did not write
"""


class CestaError(Exception):
    """Base of all errors with a message written for the user."""


class BadSettings(CestaError):  # noqa: N818 - the name itself says what is wrong
    """A settings file or override that cannot be used."""


class BeingChanged(CestaError):  # noqa: N818 - as above
    """A repository that another process is changing; it will be free in a moment."""


class KeyKept(CestaError):  # noqa: N818 - as above
    """A key that was to be revoked, whose file could not be changed. ``hashes`` are its secrets' SHA-256."""

    def __init__(self, hashes: tuple[str, ...], why: str) -> None:
        super().__init__(why)
        self.hashes = hashes


class NoAnswer(CestaError):  # noqa: N818 - as above
    """A server or a gateway that does not answer. A change that was asked for may have been made."""


class NotPromoted(CestaError):  # noqa: N818 - as above
    """A promotion or rollback that failed and was undone."""


class NotActive(NotPromoted):
    """A release that was published, but not promoted as its publisher asked."""


class ServerError(CestaError):
    """The tritonserver cannot start, died, or did not become ready; the text names the way out."""


class NoRoom(ServerError):  # noqa: N818 - as above
    """Too little shared memory or temporary disk space for a start. Nothing was started."""


class StoreError(CestaError):
    """An object store that cannot be reached, is silent, fails or refuses; the text names the object."""


class WontOverwrite(CestaError):  # noqa: N818 - as above
    """A target folder that cesta did not write."""
