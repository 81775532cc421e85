"""Loads releases when a server starts: first only the active one, which the configs pin, then the others.

Each release is checked before Triton reads it: at every start, as at a promotion.

Triton's own `--load-model` loads all versions of a model or none, so a broken previous release would stop the
active one, too. Here the active release answers before any other is loaded, and a second server tries the
others first.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER, Config, kind_of, read_config
from operations.records.manifest import ReleaseManifest
from operations.releases.admit import is_loaded
from operations.releases.mirror.local_files import LocalFiles
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import (
    CANARY,
    Served,
    canary_on_disk,
    check_named,
    configs_beside,
    front_config,
    identity_on_disk,
    part_config,
    with_versions,
    written_config,
)
from operations.releases.models.fitting import limit_cache
from operations.releases.models.placing import parts_of
from operations.releases.repository import CONFIG, active_release, part_models, read_release
from operations.releases.signatures.intact import check_front, check_intact, check_part
from operations.releases.stores.store import Repository
from operations.releases.stores.waiting import wait_for_lock
from operations.releases.trial import open_trial

log = structlog.get_logger()

NOBODY: Final = "pinned by --release"  # identity of a server that commands on a repository must not change
LOCK_S: Final = 60.0  # of another change; after that, a rollback loads the previous release by itself


def load_active(local: LocalFiles, control: ModelControl, config: str = "") -> int:
    """Check and load the pinned release and no other, with the named config; return its number.

    Raises CestaError with the reason, or with Triton's words.
    """
    repository = local.folder
    check_named(repository, config)
    release = active_release(repository)
    if release is None:
        raise CestaError(f'no release in {local.origin} was promoted; run "cesta release promote"')
    ensemble = _front(repository, ENSEMBLE)
    try:
        described = local.check(release, check_intact)
        check_front(ENSEMBLE, ensemble, described)
        models = parts_of(described).values()
        parts = {model: written_config(repository, model, {release}, config) for model in models}
        for model, part in parts.items():
            check_part(model, part, described, config)
        _load(control, [*parts.values()])
        _load_fronts(control, ensemble, described)
    except CestaError as error:
        raise CestaError(f"release {release} cannot be served: {error}") from None
    return release


def load_named(
    local: LocalFiles, control: ModelControl, release: int, config: str = "", identity: str | None = None
) -> int:
    """Check and load ``release`` and no other in the active one's place; return its number.

    Its configs are made anew, because those on disk may be what is damaged. ``identity`` stands in place of
    the repository's. Raises as ``load_active`` does.
    """
    identity = identity_on_disk(local.folder) if identity is None else identity
    check_named(local.folder, config)
    try:
        described = local.check(release, check_intact)
        models = parts_of(described).values()
        _load(control, [part_config(model, described.contract, {release}, config) for model in models])
        _load_fronts(control, front_config(ENSEMBLE, Served(release), identity, described), described)
    except CestaError as error:
        raise CestaError(f"release {release} cannot be served: {error}") from None
    return release


def load_others(local: LocalFiles, control: ModelControl) -> None:
    """Load the previous and the canary release beside the active one. A failure is logged and skipped."""
    repository = local.folder
    try:
        with wait_for_lock(local.origin, LOCK_S):
            local.refresh()
            named = sorted(_named_releases(repository))
        for release in named:
            _load_beside(local, control, release)
        with wait_for_lock(local.origin, LOCK_S):
            if canary_on_disk(repository):
                _load_canary(repository, control, _front(repository, CANARY))
            elif (repository / CANARY / CONFIG).exists():
                log.warning("canary not loaded", reason="its config is damaged")
    except (CestaError, OSError) as error:
        log.warning("other releases not loaded", reason=str(error))
        return
    log.info("all loaded", releases=sorted(_loaded(control, SAMPLER) & _loaded(control, SCORER)))


def _load_beside(local: LocalFiles, control: ModelControl, release: int) -> None:
    """Load a release that is not loaded, once a second server has tried it. A failure is logged.

    A rollback need not wait for the trial. It, or a promotion, may leave the release without a use.
    """
    repository = local.folder
    try:
        described = local.fetch(release)
        if is_loaded(described, control):
            return
        name = control.config_name()
        with open_trial(repository.root, described, name) as trial:
            described = local.check(release, check_intact)
            models = parts_of(described).values()
            parts = [written_config(repository, model, {release}, name) for model in models]
            for part in parts:
                check_part(part.name, part, described, name)
            trial.run(described, name)
        with wait_for_lock(local.origin, LOCK_S):  # a change does not see what is loaded beside it
            if release in _named_releases(repository) and not is_loaded(described, control):
                for part in parts:
                    control.load(with_versions(part, control.ready(part.name) | {release}))
    except (CestaError, OSError) as error:
        log.warning("release not loaded", release=release, reason=str(error))


def _load_canary(repository: Repository, control: ModelControl, canary: Config) -> None:
    pins = _pins(canary)
    if missing := [model for model, version in pins if version not in control.ready(model)]:
        reason = f"{' and '.join(missing)} of that release are not loaded"
        log.warning("canary not loaded", release=pins[0][1], reason=reason)
        return
    described = read_release(repository, pins[0][1])
    check_front(CANARY, canary, described)
    _load_fronts(control, canary, described)


def _front(repository: Repository, front: str) -> Config:
    """The config of one of FRONTS. An older cesta may have written it with the cache on."""
    config = read_config(repository / front / CONFIG)
    limit_cache(config)
    return config


def _load_fronts(control: ModelControl, front: Config, described: ReleaseManifest) -> None:
    """Load one of FRONTS and the ensembles beside it, whose configs are made anew and need no check."""
    for config in (front, *configs_beside(front.name, described).values()):
        control.load(config)


def _load(control: ModelControl, configs: list[Config]) -> None:
    """Load all in parallel: each starts a process of its own."""
    with ThreadPoolExecutor(len(configs)) as pool:
        list(pool.map(control.load, configs))


def _pins(ensemble: Config) -> list[tuple[str, int]]:
    return [(step.model_name, int(step.model_version)) for step in ensemble.ensemble_scheduling.step]


def _named_releases(repository: Repository) -> set[int]:
    """The releases that the parts' configs name."""
    paths = (repository / model / CONFIG for model in part_models(repository))
    configs = [read_config(path) for path in paths if path.exists()]
    return {number for config in configs for number in config.version_policy.specific.versions}


def _loaded(control: ModelControl, kind: str) -> set[int]:
    parts = control.ready_parts().items()
    return {version for model, versions in parts if kind_of(model) == kind for version in versions}
