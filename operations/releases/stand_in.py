"""Unloading a version, also one whose load failed.

Triton keeps a failed version on its books, and /v2/health/ready false, until that version has been loaded
once and unloaded again; loading the others without it does not help. So another release's files stand in.
"""

from operations.releases.model_control import ModelControl
from operations.releases.store import Repository, standing_in


def unload(control: ModelControl, repository: Repository, model: str, release: int, kept: set[int]) -> None:
    """Leave the versions ``kept`` of a part loaded, and nothing on the server's books of ``release``."""
    if control.states(model).get(release) not in ("READY", ""):
        _load_stand_in(control, repository, model, release, kept)
    control.load_part(model, kept)
    control.wait_unloaded(model, release)


def _load_stand_in(
    control: ModelControl, repository: Repository, model: str, release: int, kept: set[int]
) -> None:
    """Load files that are known to load under the number of those that do not, which stay on disk."""
    folder, other = (repository / model / str(number) for number in (release, max(kept)))
    with standing_in(folder, other, aside=repository / f".failed-{model}-{release}"):
        control.load_part(model, kept | {release})
