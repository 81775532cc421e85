"""The errors whose message is meant for the person at the keyboard, as one tree.

CestaError          every error whose message is meant for the person at the keyboard
├── BadSettings     pipeline.toml, a user's own toml or an override
├── BeingChanged    a repository that somebody else changes just now; nothing was done
├── NotPromoted     a release that did not become the active one; the one before still is
└── WontOverwrite   a target folder that cesta did not write
"""


class CestaError(Exception):
    """Base of all errors with a message written for the user."""


class BadSettings(CestaError):  # noqa: N818 - the name says what is wrong, "except BadInput" reads
    """A settings file or override that cannot be used."""


class BeingChanged(CestaError):  # noqa: N818 - likewise
    """A repository that another process holds; it will be free in a moment."""


class NotPromoted(CestaError):  # noqa: N818 - likewise
    """A promotion or rollback that failed on its way and was undone."""


class WontOverwrite(CestaError):  # noqa: N818 - likewise
    """A folder in the way that was not written by cesta."""
