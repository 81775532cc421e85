"""The config.pbtxt files of a published repository: which versions load, and which release an ensemble pins.

Each promotion makes them from the checkout's model_repository/. Instances and batching belong to the operator
and survive a rollback; ``verify`` compares the tensors with the manifest. A part may have more configs,
``configs/<name>.pbtxt``; a server may be started with one of these names.
"""

import uuid
from typing import Final, NamedTuple

from google.protobuf import text_format

from operations.errors import CestaError
from operations.records.contract import (
    ENSEMBLE,
    MODEL_REPOSITORY,
    MODELS,
    NAMED,
    SAMPLER,
    SCORER,
    Config,
    read_config,
)
from operations.records.place import Place
from operations.releases.repository import CONFIG
from operations.releases.store import Repository

PARTS: Final = (SCORER, SAMPLER)  # in the order of loading: the one that is asked last is ready first
CANARY: Final = "recommender_canary"  # a second ensemble, pinned to the canary release
FRONTS: Final = (ENSEMBLE, CANARY)  # the models that clients ask
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
        """The releases that sampler and scorer hold side by side."""
        return {n for n in (self.active, self.previous, self.canary) if n is not None}

    def pinned(self, front: str) -> int:
        """The release that one of FRONTS answers with."""
        release = self.active if front == ENSEMBLE else self.canary
        assert release is not None, "a canary's config is made only for a canary release"
        return release


def part_config(
    model: str, versions: set[int], name: str = "", repository: Repository | None = None
) -> Config:
    """The config of a model that lets ``versions`` load; its config called ``name`` if it has one.

    It is read from the checkout, or from a published ``repository``.
    """
    source: Place | Repository = repository or MODEL_REPOSITORY
    folder = source / model
    named = folder / NAMED / f"{name}.pbtxt"
    config = read_config(named if name and named.exists() else folder / CONFIG)
    config.version_policy.specific.versions[:] = sorted(versions)
    return config


def check_named(repository: Repository, name: str) -> None:
    """Raise CestaError if no part of a repository has a config called ``name``; "" is config.pbtxt."""
    paths = (path for model in MODELS for path in (repository / model / NAMED).glob("*.pbtxt"))
    names = sorted({path.name.removesuffix(".pbtxt") for path in paths})
    if name and name not in names:
        raise CestaError(
            f'no config "{name}" in {repository}; there is {" and ".join(names) or "none with a name"}, and '
            '"cesta release promote" adds those of model_repository/'
        )


def front_config(front: str, served: Served, identity: str) -> Config:
    """The config of an ensemble pinned to one release: its version and the versions of both steps."""
    release = served.pinned(front)
    config = part_config(ENSEMBLE, {release})
    for step in config.ensemble_scheduling.step:
        step.model_version = release
    config.parameters[IDENTITY].string_value = identity
    if front == CANARY:
        config.name = CANARY
        config.parameters[PERCENT].string_value = f"{served.percent:g}"
    return config


def identity(config: Config) -> str:
    """The identity of the repository that an ensemble's config belongs to; "" in those of older versions."""
    return config.parameters[IDENTITY].string_value if IDENTITY in config.parameters else ""


def identity_on_disk(repository: Repository) -> str:
    """The identity of a repository; a new one if nothing was promoted yet."""
    path = repository / ENSEMBLE / CONFIG
    return identity(read_config(path)) if path.exists() else uuid.uuid4().hex


def configs_of(repository: Repository, served: Served, front: str = ENSEMBLE) -> dict[str, Config]:
    """The configs of the parts and, last, of one of FRONTS, by model."""
    configs = {model: part_config(model, served.loaded) for model in PARTS}
    return configs | {front: front_config(front, served, identity_on_disk(repository) or uuid.uuid4().hex)}


def write_configs(repository: Repository, configs: dict[str, Config]) -> None:
    """Write the configs, the front's last: at that moment its release becomes the active one."""
    if CANARY in configs:
        release = configs[CANARY].ensemble_scheduling.step[0].model_version
        repository.write(f"{CANARY}/{release}/{PLACEHOLDER}", b"")
    _write_named(repository)
    _write(repository, {model: text_format.MessageToString(config) for model, config in configs.items()})


def canary_on_disk(repository: Repository) -> Canary | None:
    """The canary release that the next start serves beside the active one; None if there is none."""
    path = repository / CANARY / CONFIG
    if not path.exists():
        return None
    config = read_config(path)
    release = config.ensemble_scheduling.step[0].model_version
    return Canary(int(release), float(config.parameters[PERCENT].string_value))


def end_canary(repository: Repository) -> None:
    """Keep every later start of a server from loading a canary release."""
    repository.delete(f"{CANARY}/{CONFIG}")


def read_texts(repository: Repository) -> dict[str, str]:
    """The contents of the configs by model, for ``put_back``."""
    paths = {model: repository / model / CONFIG for model in (*PARTS, *FRONTS)}
    return {model: path.read_text(encoding="utf-8") for model, path in paths.items() if path.exists()}


def put_back(repository: Repository, texts: dict[str, str]) -> None:
    """Undo ``write_configs``: restore the configs that ``read_texts`` returned, and delete any other."""
    for model in (*PARTS, *FRONTS):
        if model not in texts:
            repository.delete(f"{model}/{CONFIG}")
    _write(repository, texts)


def _write_named(repository: Repository) -> None:
    """Copy the named configs that changed. All versions of a model share them: Triton reloads every one."""
    for source in MODEL_REPOSITORY.glob(f"*/{NAMED}/*.pbtxt"):
        name, text = source.relative_to(MODEL_REPOSITORY).as_posix(), source.read_text("utf-8")
        written = repository / name
        if not written.exists() or written.read_text(encoding="utf-8") != text:
            repository.write(name, text.encode())


def _write(repository: Repository, texts: dict[str, str]) -> None:
    written = read_texts(repository)
    for model in (*PARTS, *FRONTS):
        if model in texts and texts[model] != written.get(model):
            repository.write(f"{model}/{CONFIG}", texts[model].encode())
