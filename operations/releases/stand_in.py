"""Unloads a version, even one whose load failed.

Triton keeps a failed version on its books, and /v2/health/ready false, until that version has been loaded
once and unloaded again. Loading the others without it does not help, so another release's files stand in.
"""

from operations.releases.model_control import READY, UNLOADED, ModelControl
from operations.releases.store import Repository


def unload(control: ModelControl, repository: Repository, model: str, release: int, others: set[int]) -> None:
    """Unload ``release`` of a part, so that nothing stays on the server's books; ``others`` stay loaded."""
    if control.states(model).get(release) not in (READY, UNLOADED):
        _load_stand_in(control, repository, model, release, others)
    control.load_part(model, others)
    control.wait_unloaded(model, release)


def _load_stand_in(
    control: ModelControl, repository: Repository, model: str, release: int, others: set[int]
) -> None:
    """Load files that load well under the number of those that do not, which return to their place."""
    folder, other = f"{model}/{release}", f"{model}/{max(others)}"
    with repository.substitute(folder, other, aside=f".failed-{model}-{release}"):
        control.load_part(model, others | {release})
