"""Promotes what was just published, but changes nothing behind the back of a running server.

If the config on disk changed beside a server, that server's next restart would serve another release than the
one that was promoted in it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from operations.errors import CestaError, NotActive
from operations.releases.history import Record, known_active
from operations.releases.model_control import ModelControl
from operations.releases.promote import promote
from operations.releases.serving_mark import may_be_served
from operations.releases.stores.store import Repository
from operations.releases.switch import served_release
from operations.settings import ReleaseSettings

log = structlog.get_logger()


def activate(
    repository: Repository,
    release: int,
    address: str | None = None,
    *,
    bars: ReleaseSettings | None = None,
    force: bool = False,
) -> Record:
    """Promote ``release`` in the server at ``address`` (host:port of gRPC), if it serves ``repository``.

    The next start of a server serves the release if ``address`` is None, if no release was ever active, or if
    nobody serves the repository. Raises NotActive if the gate objects and not ``force``, if the promotion
    fails, if a server somewhere else may serve the repository, or if the repository has lost the config that
    says what is active. The active release then stays as it is.
    """
    try:
        with _server_of(repository, address) as control:
            return promote(repository, release, control, bars=bars, force=force)
    except CestaError as error:
        raise NotActive(f"release {release} is in {repository}, but not active: {error}") from None


@contextmanager
def _server_of(repository: Repository, address: str | None) -> Iterator[ModelControl | None]:
    if address is None or known_active(repository) is None:
        yield None
        return
    with ModelControl(address) as control:
        if control.is_there() and _serves(control, repository):
            yield control
            return
    if may_be_served(repository):
        raise CestaError(
            f"a server may serve {repository}, and the one at {address} does not; give --address of the one "
            "that does, or --offline to change what its next start serves"
        )
    log.info("no server", repository=str(repository), changes="what the next start serves")
    yield None


def _serves(control: ModelControl, repository: Repository) -> bool:
    try:
        served_release(repository, control)
    except CestaError:
        return False
    return True
