"""The config.pbtxt files of a published repository: which versions load, and which release an ensemble pins.

Each promotion makes them from the checkout's model_repository/ and the releases' contracts. Instances and
batching belong to the operator and survive a rollback; the tensors are those in a release's manifest. A
part may have more configs, ``configs/<name>.pbtxt``; a server may be started with one of these names.
"""

import uuid
from copy import deepcopy
from pathlib import Path
from typing import Final, NamedTuple

from google.protobuf import text_format

from operations.errors import CestaError
from operations.records.contract import (
    ENSEMBLE,
    MODEL_REPOSITORY,
    MORE_ENSEMBLES,
    NAMED,
    SAMPLER,
    SCORER,
    Config,
    kind_of,
    read_config,
)
from operations.records.manifest import ContractRecord, ReleaseManifest
from operations.releases.models.contracts import ServedContract
from operations.releases.models.fitting import fit, fit_ensemble, tensors_in
from operations.releases.models.placing import ensembles_of, models_of, parts_of
from operations.releases.repository import CONFIG, part_models, read_release
from operations.releases.stores.store import Repository

PARTS: Final = (SCORER, SAMPLER)  # that every release has
CANARY: Final = "recommender_canary"  # a second ensemble, pinned to the canary release
FRONTS: Final = (ENSEMBLE, CANARY)  # the models that clients ask
BESIDE: Final = {  # each of FRONTS → the further ensembles that are pinned to its release
    ENSEMBLE: {ensemble: ensemble for ensemble in MORE_ENSEMBLES},
    CANARY: {ensemble: f"{ensemble}_canary" for ensemble in MORE_ENSEMBLES},
}
ALL_FRONTS: Final = (*FRONTS, *BESIDE[ENSEMBLE].values(), *BESIDE[CANARY].values())
IDENTITY: Final = "cesta_repository"  # an ensemble's parameter: names the repository that a server serves
PERCENT: Final = "cesta_percent"  # the canary's parameter: the share of requests that a gateway sends there
NAME: Final = "cesta_config"  # a parameter of every named config: its name
PLACEHOLDER: Final = "placeholder"  # in the canary's version folder: an object store holds no empty folder


class Canary(NamedTuple):
    """A canary release and its share of the requests."""

    release: int
    percent: float


class Served(NamedTuple):
    """The releases that are loaded, and the role of each."""

    active: int
    previous: int | None = None  # loaded for a rollback
    canary: int | None = None
    percent: float = 0.0

    @property
    def loaded(self) -> set[int]:
        """The releases whose samplers and scorers are loaded side by side."""
        return {n for n in (self.active, self.previous, self.canary) if n is not None}

    def pinned(self, front: str) -> int:
        """The release that one of FRONTS answers with."""
        release = self.active if front == ENSEMBLE else self.canary
        assert release is not None, "a canary's config is made only for a canary release"
        return release


def part_config(model: str, contract: ContractRecord, versions: set[int], name: str = "") -> Config:
    """The config, made for a contract, of a part that lets ``versions`` load.

    It is made from the checkout's config called ``name`` if the part has one.
    """
    kind = kind_of(model)
    assert kind is not None, "only parts have configs of this kind"
    named = MODEL_REPOSITORY / kind / NAMED / f"{name}.pbtxt"
    config = read_config(named if name and named.exists() else MODEL_REPOSITORY / kind / CONFIG)
    fit(config, model, ServedContract.of(contract).tensors[kind])
    return with_versions(config, versions)


def written_config(repository: Repository, model: str, versions: set[int], name: str = "") -> Config:
    """The config, called ``name`` if there is one, that a promotion has written for a part."""
    named = repository / model / NAMED / f"{name}.pbtxt"
    return with_versions(
        read_config(named if name and named.exists() else repository / model / CONFIG), versions
    )


def with_versions(config: Config, versions: set[int]) -> Config:
    """A copy of a config that lets exactly ``versions`` load."""
    pinned = deepcopy(config)
    pinned.version_policy.specific.versions[:] = sorted(versions)
    return pinned


def check_named(repository: Repository, name: str) -> None:
    """Raise CestaError if no part of a repository has a config called ``name``; "" is config.pbtxt."""
    paths = (
        path for model in part_models(repository) for path in (repository / model / NAMED).glob("*.pbtxt")
    )
    names = sorted({path.name.removesuffix(".pbtxt") for path in paths})
    if name and name not in names:
        raise CestaError(
            f'no config "{name}" in {repository}; there is {" and ".join(names) or "none with a name"}, and '
            '"cesta release promote" adds those of model_repository/'
        )


def front_config(front: str, served: Served, identity: str, release: ReleaseManifest) -> Config:
    """The config of one of FRONTS with a release's tensors, pinned to its version and its parts."""
    config = _ensemble_config(ENSEMBLE, front, release)
    config.parameters[IDENTITY].string_value = identity
    if front == CANARY:
        config.parameters[PERCENT].string_value = f"{served.percent:g}"
    return config


def configs_beside(front: str, release: ReleaseManifest) -> dict[str, Config]:
    """The configs of the further ensembles of a release that answers as one of FRONTS, by model."""
    beside = BESIDE[front]
    return {
        beside[ensemble]: _ensemble_config(ensemble, beside[ensemble], release)
        for ensemble in ensembles_of(release)
        if ensemble != ENSEMBLE
    }


def _ensemble_config(ensemble: str, model: str, release: ReleaseManifest) -> Config:
    config = read_config(MODEL_REPOSITORY / ensemble / CONFIG)
    fit_ensemble(config, ensemble, ServedContract.of(release.contract).tensors, models_of(release))
    config.name = model
    config.version_policy.specific.versions[:] = [release.release]
    for step in config.ensemble_scheduling.step:
        step.model_version = release.release
    return config


def identity(config: Config) -> str:
    """The identity of the repository that an ensemble's config belongs to; "" in those of older versions."""
    return config.parameters[IDENTITY].string_value if IDENTITY in config.parameters else ""


def identity_on_disk(repository: Repository) -> str:
    """The identity of a repository; "" if nothing was promoted yet, or if the config is damaged or lost."""
    path = repository / ENSEMBLE / CONFIG
    try:
        return identity(read_config(path)) if path.exists() else ""
    except CestaError:
        return ""


def configs_of(repository: Repository, served: Served, front: str = ENSEMBLE) -> dict[str, Config]:
    """The configs of the parts, of the further ensembles and, last, of one of FRONTS, by model."""
    pinned = served.pinned(front)
    loaded = [release for n in served.loaded if (release := _servable(repository, n, required=n == pinned))]
    holding: dict[str, list[ReleaseManifest]] = {}  # model → the releases that it holds
    for release in loaded:
        for model in parts_of(release).values():
            holding.setdefault(model, []).append(release)
    parts = {
        model: part_config(model, held[0].contract, {release.release for release in held})
        for model, held in holding.items()
    }
    (release,) = (release for release in loaded if release.release == pinned)
    identity = identity_on_disk(repository) or uuid.uuid4().hex
    return parts | configs_beside(front, release) | {front: front_config(front, served, identity, release)}


def write_new_parts(repository: Repository, configs: dict[str, Config]) -> None:
    """Write the configs of parts that have none. Triton reloads a part whose first config comes later."""
    new = {
        model: config
        for model, config in configs.items()
        if kind_of(model) and not (repository / model / CONFIG).exists()
    }
    _write_named(repository, new)
    _write(repository, _contents(new))


def write_configs(repository: Repository, configs: dict[str, Config]) -> None:
    """Write the configs, the front's last: at that moment its release becomes the active one.

    Parts and further ensembles without a config are not to be loaded: theirs are deleted.
    """
    front = CANARY if CANARY in configs else ENSEMBLE
    if front == CANARY:
        release = configs[CANARY].ensemble_scheduling.step[0].model_version
        for model in (CANARY, *BESIDE[CANARY].values()):
            if model in configs:
                repository.write(f"{model}/{release}/{PLACEHOLDER}", b"")
    parts = {model: config for model, config in configs.items() if kind_of(model)}
    _write_named(repository, parts)
    _write(repository, _contents(configs))
    for model in (*part_models(repository), *BESIDE[front].values()):
        if model not in configs:
            repository.delete(f"{model}/{CONFIG}")


def canary_on_disk(repository: Repository) -> Canary | None:
    """The canary release that the next start serves beside the active one; None if there is none.

    With a damaged config there is none, so that the rest can still be changed.
    """
    path = repository / CANARY / CONFIG
    if not path.exists():
        return None
    try:
        config = read_config(path)
        release = config.ensemble_scheduling.step[0].model_version
        return Canary(int(release), float(config.parameters[PERCENT].string_value))
    except (CestaError, IndexError, ValueError):
        return None


def end_canary(repository: Repository) -> None:
    """Keep every later start of a server from loading a canary release."""
    for model in (CANARY, *BESIDE[CANARY].values()):
        repository.delete(f"{model}/{CONFIG}")


def read_contents(repository: Repository) -> dict[str, bytes]:
    """The contents of the configs by model, damaged ones included, for ``put_back``."""
    paths = {model: repository / model / CONFIG for model in (*part_models(repository), *ALL_FRONTS)}
    return {model: path.read_bytes() for model, path in paths.items() if path.exists()}


def put_back(repository: Repository, contents: dict[str, bytes]) -> None:
    """Undo ``write_configs``: restore the configs that ``read_contents`` returned, and delete any other."""
    for model in (*part_models(repository), *ALL_FRONTS):
        if model not in contents:
            repository.delete(f"{model}/{CONFIG}")
    _write(repository, contents)


def _servable(repository: Repository, number: int, required: bool) -> ReleaseManifest | None:
    """A release's manifest. None if it is damaged or gone, unless the release is required."""
    try:
        return read_release(repository, number)
    except CestaError:
        if required:
            raise
        return None


def _write_named(repository: Repository, parts: dict[str, Config]) -> None:
    """Write the named configs that changed, fitted to the tensors of ``parts``.

    All versions of a model share them: Triton reloads every one when a file is written.
    """
    for model, part in parts.items():
        for source in (MODEL_REPOSITORY / str(kind_of(model)) / NAMED).glob("*.pbtxt"):
            text, written = _fitted_text(source, part), repository / model / NAMED / source.name
            if not written.exists() or written.read_bytes() != text.encode():
                repository.write(f"{model}/{NAMED}/{source.name}", text.encode())


def _fitted_text(source: Path, part: Config) -> str:
    """A named config for the tensors of ``part``; with its comments if it has these already."""
    config = read_config(source)
    fit(config, part.name, tensors_in(part))
    return source.read_text("utf-8") if config == read_config(source) else text_format.MessageToString(config)


def _write(repository: Repository, contents: dict[str, bytes]) -> None:
    written = read_contents(repository)
    for model, content in contents.items():
        if content != written.get(model):
            repository.write(f"{model}/{CONFIG}", content)


def _contents(configs: dict[str, Config]) -> dict[str, bytes]:
    return {model: text_format.MessageToString(config).encode() for model, config in configs.items()}
