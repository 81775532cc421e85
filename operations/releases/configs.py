"""The config.pbtxt of a published repository: the versions that may load, and the ensembles' pins.

They are made from the checkout's model_repository/ at each promotion: instances and batching are the
operator's and stay when a release is rolled back; the tensors are held to the manifest by ``verify``.
A part may have further configs by name, ``configs/<name>.pbtxt``, one of which a server may be told to take.
"""

import uuid
from typing import NamedTuple

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from operations.errors import CestaError
from operations.records.contract import ENSEMBLE, MODEL_REPOSITORY, NAMED, SAMPLER, SCORER, read_config
from operations.releases.repository import CONFIG
from operations.releases.store import Repository, write_file

PARTS = (SCORER, SAMPLER)  # in the order of loading: what is asked last is there first
CANARY = "recommender_canary"  # a second ensemble, of the canary release
FRONTS = (ENSEMBLE, CANARY)  # what clients ask
IDENTITY = "cesta_repository"  # a parameter of the ensemble: tells whether a server serves this repository
PERCENT = "cesta_percent"  # a parameter of the canary's: the share of requests that a gateway sends there
NAME = "cesta_config"  # a parameter in each of them: tells what a server was run with
PLACEHOLDER = "placeholder"  # in the canary's version folder: an object store holds no empty ones

Config = model_config_pb2.ModelConfig


class Canary(NamedTuple):
    """A canary release and its share of the requests."""

    release: int
    percent: float


class Served(NamedTuple):
    """Which releases are loaded, and for what."""

    active: int
    previous: int | None = None  # loaded for rolling back
    canary: int | None = None
    percent: float = 0.0

    @property
    def loaded(self) -> set[int]:
        """What sampler and scorer hold side by side."""
        return {self.active, self.previous, self.canary} - {None}  # type: ignore[return-value]

    def pinned(self, front: str) -> int:
        """The release that one of FRONTS answers with."""
        release = self.active if front == ENSEMBLE else self.canary
        assert release is not None, "a canary's config is made where there is one"
        return release


def part_config(
    model: str, versions: set[int], name: str = "", repository: Repository | None = None
) -> Config:
    """A sampler's or scorer's config, the one called ``name`` if it has that, which lets ``versions`` load.

    The checkout's, or what a published ``repository`` has.
    """
    folder = (repository or MODEL_REPOSITORY) / model
    named = folder / NAMED / f"{name}.pbtxt"
    config = read_config(named if name and named.exists() else folder / CONFIG)
    config.version_policy.specific.versions[:] = sorted(versions)
    return config


def check_named(repository: Repository, name: str) -> None:
    """Raise CestaError if no part of a repository has a config called ``name``; "" is config.pbtxt."""
    known = sorted({path.name.removesuffix(".pbtxt") for path in repository.glob(f"*/{NAMED}/*.pbtxt")})
    if name and name not in known:
        raise CestaError(
            f'no config "{name}" in {repository}; there is {" and ".join(known) or "none with a name"}, and '
            '"cesta release promote" adds those of model_repository/'
        )


def front_config(front: str, served: Served, identity: str) -> Config:
    """An ensemble pinned to one release: its own version and that of both steps."""
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
    """The repository that an ensemble's config is of; "" in one that was published before there was any."""
    return config.parameters[IDENTITY].string_value if IDENTITY in config.parameters else ""


def identity_on_disk(repository: Repository) -> str:
    """As ``identity``; a new one where nothing was promoted yet."""
    path = repository / ENSEMBLE / CONFIG
    return identity(read_config(path)) if path.exists() else uuid.uuid4().hex


def configs_of(repository: Repository, served: Served, front: str = ENSEMBLE) -> dict[str, Config]:
    """Model → config of the parts and one of FRONTS, which comes last."""
    configs = {model: part_config(model, served.loaded) for model in PARTS}
    return configs | {front: front_config(front, served, identity_on_disk(repository) or uuid.uuid4().hex)}


def write_configs(repository: Repository, configs: dict[str, Config]) -> None:
    """The front's comes last: its rename is the moment at which its release becomes the active one."""
    if CANARY in configs:
        folder = repository / CANARY / str(configs[CANARY].ensemble_scheduling.step[0].model_version)
        write_file(folder / PLACEHOLDER, b"", repository)
    _write_named(repository)
    _write(repository, {model: text_format.MessageToString(config) for model, config in configs.items()})


def canary_on_disk(repository: Repository) -> Canary | None:
    """What the next start serves beside the active release; None if nothing."""
    path = repository / CANARY / CONFIG
    if not path.exists():
        return None
    config = read_config(path)
    release = config.ensemble_scheduling.step[0].model_version
    return Canary(int(release), float(config.parameters[PERCENT].string_value))


def end_canary(repository: Repository) -> None:
    """No start of a server loads a canary release from now on."""
    (repository / CANARY / CONFIG).unlink(missing_ok=True)


def read_texts(repository: Repository) -> dict[str, str]:
    """The configs as they stand, for ``put_back``."""
    paths = {model: repository / model / CONFIG for model in (*PARTS, *FRONTS)}
    return {model: path.read_text(encoding="utf-8") for model, path in paths.items() if path.exists()}


def put_back(repository: Repository, texts: dict[str, str]) -> None:
    """Undo ``write_configs``: what ``read_texts`` found before, and nothing else."""
    for model in (*PARTS, *FRONTS):
        if model not in texts:
            (repository / model / CONFIG).unlink(missing_ok=True)
    _write(repository, texts)


def _write_named(repository: Repository) -> None:
    """As they are, and only where they changed: to Triton they are files that all versions share."""
    for source in MODEL_REPOSITORY.glob(f"*/{NAMED}/*.pbtxt"):
        target, text = repository / source.relative_to(MODEL_REPOSITORY).as_posix(), source.read_text("utf-8")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            write_file(target, text.encode(), repository)


def _write(repository: Repository, texts: dict[str, str]) -> None:
    now = read_texts(repository)
    for model in (*PARTS, *FRONTS):
        if model in texts and texts[model] != now.get(model):
            write_file(repository / model / CONFIG, texts[model].encode(), repository)
