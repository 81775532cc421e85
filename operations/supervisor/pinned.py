"""Loads releases when a server starts: first only the active one, which the configs pin, then the others.

Each release is checked before Triton reads it: at every start, as at a promotion.

Triton's own `--load-model` loads all versions of a model or none, so a broken previous release would stop the
active one, too. Here the active release answers before any other is loaded.
"""

from concurrent.futures import ThreadPoolExecutor

import structlog

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, SAMPLER, SCORER, Config, kind_of, read_config
from operations.releases.configs import CANARY, check_named, written_config
from operations.releases.fitting import limit_cache
from operations.releases.intact import check_front, check_intact, check_part
from operations.releases.model_control import ModelControl
from operations.releases.repository import CONFIG, active_release, part_models, read_release
from operations.releases.stand_in import unload
from operations.releases.store import Repository

log = structlog.get_logger()


def load_active(repository: Repository, control: ModelControl, config: str = "") -> int:
    """Check and load the pinned release and no other, with the named config; return its number.

    Raises CestaError with the reason, or with Triton's words.
    """
    check_named(repository, config)
    release = active_release(repository)
    if release is None:
        raise CestaError(f'no release in {repository} was promoted; run "cesta release promote"')
    ensemble = _front(repository, ENSEMBLE)
    try:
        described = check_intact(repository, release)
        check_front(ENSEMBLE, ensemble, described)
        parts = {model: written_config(repository, model, {n}, config) for model, n in _pins(ensemble)}
        for model, part in parts.items():
            check_part(model, part, described, config)
        _load(control, [*parts.values()])
        control.load(ensemble)
    except CestaError as error:
        raise CestaError(f"release {release} cannot be served: {error}") from None
    return release


def load_others(repository: Repository, control: ModelControl) -> None:
    """Load the previous and the canary release beside the active one. A failure is logged and skipped."""
    try:
        with repository.lock():  # a promotion must not run meanwhile: it would not see these
            for model in part_models(repository):
                for release in sorted(_named(repository, model)):
                    _load_beside(repository, control, model, release)
            if (repository / CANARY / CONFIG).exists():
                _load_canary(repository, control, _front(repository, CANARY))
    except (CestaError, OSError) as error:
        log.warning("other releases not loaded", reason=str(error))
        return
    log.info("all loaded", releases=sorted(_loaded(control, SAMPLER) & _loaded(control, SCORER)))


def _load_beside(repository: Repository, control: ModelControl, model: str, release: int) -> None:
    ready = control.ready(model)
    if release in ready or not (repository / model / str(release)).exists():
        return
    name = control.config_name()
    try:
        described = check_intact(repository, release)
        part = written_config(repository, model, ready | {release}, name)
        check_part(model, part, described, name)
    except CestaError as error:
        log.warning("release not loaded", release=release, model=model, reason=str(error))
        return
    try:
        control.load(part)
    except CestaError as error:
        log.warning("release not loaded", release=release, model=model, reason=str(error))
        unload(control, repository, model, release)  # else Triton never becomes ready again


def _load_canary(repository: Repository, control: ModelControl, canary: Config) -> None:
    pins = _pins(canary)
    if missing := [model for model, version in pins if version not in control.ready(model)]:
        reason = f"{' and '.join(missing)} of that release are not loaded"
        log.warning("canary not loaded", release=pins[0][1], reason=reason)
        return
    check_front(CANARY, canary, read_release(repository, pins[0][1]))
    control.load(canary)


def _front(repository: Repository, front: str) -> Config:
    """The config of one of FRONTS. An older cesta may have written it with the cache on."""
    config = read_config(repository / front / CONFIG)
    limit_cache(config)
    return config


def _load(control: ModelControl, configs: list[Config]) -> None:
    """Load all in parallel: each starts a process of its own."""
    with ThreadPoolExecutor(len(configs)) as pool:
        list(pool.map(control.load, configs))


def _pins(ensemble: Config) -> list[tuple[str, int]]:
    return [(step.model_name, int(step.model_version)) for step in ensemble.ensemble_scheduling.step]


def _named(repository: Repository, model: str) -> set[int]:
    path = repository / model / CONFIG
    return set(read_config(path).version_policy.specific.versions) if path.exists() else set()


def _loaded(control: ModelControl, kind: str) -> set[int]:
    parts = control.ready_parts().items()
    return {version for model, versions in parts if kind_of(model) == kind for version in versions}
