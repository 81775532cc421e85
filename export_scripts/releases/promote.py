"""Which release is served: promote one, or roll back to the one before. Whatever fails on the way is undone.

With a running server: load the parts beside the old ones, ask them the manifest's golden requests, only
then write the configs and load the ensemble anew. Without one: write the configs for its next start.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from export_scripts.contract import ENSEMBLE
from export_scripts.errors import CestaError, NotPromoted
from export_scripts.releases import history
from export_scripts.releases.configs import (
    PARTS,
    Config,
    configs_of,
    ensemble_config,
    identity,
    identity_on_disk,
    part_config,
    put_back,
    read_texts,
    write_configs,
)
from export_scripts.releases.gate import objections
from export_scripts.releases.golden import check_canary, check_golden
from export_scripts.releases.model_control import ModelControl
from export_scripts.releases.repository import active_release, read_release
from export_scripts.releases.stand_in import unload
from export_scripts.releases.store import Repository, locked
from export_scripts.releases.verify import verify_release
from export_scripts.settings import ReleaseSettings

Golden = list[dict[str, Any]]


@dataclass
class Steps:
    """What is being done, and how many seconds each step took."""

    now: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.now, started = name, time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


def promote(
    repository: Repository,
    release: int,
    control: ModelControl | None = None,
    *,
    bars: ReleaseSettings | None = None,
    force: bool = False,
) -> history.Record:
    """Have ``release`` served, by the server of ``control`` or else from the next start on; the record of it.

    Raises NotPromoted, which names the step and its reason; the release before then still answers. ``force``
    promotes against the gate's objections, which the record then holds.
    """
    with locked(repository), _told(repository, "promote", release, control) as (steps, before):
        with steps("verify"):
            described = verify_release(repository, release)
        with steps("gate"):
            against = _objections(repository, described, before, bars)
            if against and not force:
                raise CestaError(f"{'; '.join(against)}; --force promotes it all the same, and is recorded")
        with _switched(repository, release, before, control, steps, described["golden"]):
            forced = {"forced": against} if against else {}
            return _record(repository, "promote", release, before, control, steps, **forced)


def roll_back(repository: Repository, control: ModelControl | None = None) -> history.Record:
    """Return to the release that was active before this one; in milliseconds while that is still loaded.

    Raises CestaError if there is none, and NotPromoted as ``promote``.
    """
    line = history.line_of_succession(repository)
    if len(line) < 2:
        raise CestaError(
            f"no release was active in {repository} before {line[0] if line else 'now'}; "
            'name one with "cesta release promote"'
        )
    release = line[-2]
    with locked(repository), _told(repository, "rollback", release, control) as (steps, before):
        golden: Golden = []
        if control is None or any(release not in control.ready(model) for model in PARTS):
            with steps("verify"):
                golden = verify_release(repository, release)["golden"]
        with _switched(repository, release, before, control, steps, golden):
            return _record(repository, "rollback", release, before, control, steps)


def served_release(repository: Repository, control: ModelControl) -> int:
    """The release that the server's ensemble is pinned to. Raises CestaError if it serves something else."""
    config = control.config(ENSEMBLE)
    if identity(config) != identity_on_disk(repository):
        raise CestaError(
            f"the server at {control.address} does not serve {repository}; give --address of the one "
            "that does, or --offline to change only what its next start serves"
        )
    return int(config.ensemble_scheduling.step[0].model_version)


@contextlib.contextmanager
def _told(
    repository: Repository, what: str, release: int, control: ModelControl | None
) -> Iterator[tuple[Steps, int | None]]:
    """Yield the steps and the release before; a failure is recorded and becomes NotPromoted."""
    steps, before = Steps(), active_release(repository)
    try:
        if control is not None:
            with steps("find the server"):
                before = served_release(repository, control)
        yield steps, before
    except (CestaError, OSError) as error:
        why = "; ".join([str(error), *getattr(error, "__notes__", [])])
        failed = {"failed": steps.now, "why": why}
        with contextlib.suppress(OSError):  # a full disk may be what failed
            _record(repository, what, release, before, control, steps, **failed)
        still = "nothing is active" if before is None else f"release {before} is still the active one"
        raise NotPromoted(
            f'release {release} was not promoted, {still}: step "{steps.now}" failed: {why}'
        ) from None


@contextlib.contextmanager
def _switched(
    repository: Repository,
    release: int,
    before: int | None,
    control: ModelControl | None,
    steps: Steps,
    golden: Golden,
) -> Iterator[None]:
    """Have ``release`` active within the block, and after it, unless something in it fails."""
    texts = read_texts(repository)
    configs = configs_of(repository, release, {release, _previous(repository, release, before)} - {None})
    loaded = {model: control.ready(model) for model in PARTS} if control else {}
    try:
        if control is None:
            with steps("write"):
                write_configs(repository, configs)
        else:
            _load(control, release, loaded, steps)
            if golden:
                with steps("golden requests"):
                    check_golden(control, release, golden)
            with steps("switch"):
                write_configs(repository, configs)
                control.load(configs[ENSEMBLE])
            with steps("canary"):
                check_canary(control, release)
        with steps("record"):
            yield
    except BaseException as error:
        failed = steps.now
        _undo(repository, texts, release, before, control, loaded, error)
        steps.now = failed
        raise
    if control is not None:
        _unload_others(control, configs)


def _load(control: ModelControl, release: int, loaded: dict[str, set[int]], steps: Steps) -> None:
    """Scorer, then sampler, beside what is loaded; nothing where the release is loaded already."""
    for model in PARTS:
        if release not in loaded[model]:
            with steps(f"load {model}"):
                control.load(part_config(model, loaded[model] | {release}))


def _undo(
    repository: Repository,
    texts: dict[str, str],
    release: int,
    before: int | None,
    control: ModelControl | None,
    loaded: dict[str, set[int]],
    error: BaseException,
) -> None:
    """Disk and server as they were: first what is served, then what is loaded."""
    try:
        put_back(repository, texts)
        if control is None or before is None:
            return
        if control.ready(ENSEMBLE) != {before}:
            control.load(ensemble_config(before, identity_on_disk(repository)))
        for model in PARTS:
            if release not in loaded[model] and release in control.states(model):
                unload(control, repository, model, release, loaded[model])
    except (CestaError, OSError) as trouble:
        error.add_note(f"and undoing that failed: {trouble}; restart the server")


def _unload_others(control: ModelControl, configs: dict[str, Config]) -> None:
    """Of the parts, keep what rolling back needs."""
    for model in PARTS:
        if control.ready(model) != set(configs[model].version_policy.specific.versions):
            control.load(configs[model])


def _previous(repository: Repository, release: int, before: int | None) -> int | None:
    """What stays loaded beside ``release``: the one before, or where that is it, the one before that."""
    if before != release:
        return before
    earlier = [number for number in history.line_of_succession(repository) if number != release]
    return earlier[-1] if earlier else None


def _objections(
    repository: Repository, described: dict[str, Any], before: int | None, bars: ReleaseSettings | None
) -> list[str]:
    if before == described["release"]:
        return []
    return objections(described, None if before is None else read_release(repository, before), bars)


def _record(
    repository: Repository,
    what: str,
    release: int,
    before: int | None,
    control: ModelControl | None,
    steps: Steps,
    **more: Any,
) -> history.Record:
    server = control.address if control else None
    return history.append(
        repository, what, release, before=before, server=server, seconds=dict(steps.seconds), **more
    )
