"""The three config.pbtxt of a published repository: the versions that may load, and the ensemble's pins.

They are made from the checkout's model_repository/ at each promotion: instances and batching are the
operator's and stay when a release is rolled back; the tensors are held to the manifest by ``verify``.
"""

import uuid
from collections.abc import Iterable

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from export_scripts.contract import ENSEMBLE, MODEL_REPOSITORY, MODELS, SAMPLER, SCORER, read_config
from export_scripts.releases.repository import CONFIG
from export_scripts.releases.store import Repository, write_file

PARTS = (SCORER, SAMPLER)  # in the order of loading: what is asked last is there first
IDENTITY = "cesta_repository"  # a parameter of the ensemble: tells whether a server serves this repository

Config = model_config_pb2.ModelConfig


def part_config(model: str, versions: Iterable[int]) -> Config:
    """A sampler's or scorer's config that lets ``versions`` load."""
    config = read_config(MODEL_REPOSITORY / model / CONFIG)
    config.version_policy.specific.versions.extend(sorted(set(versions)))
    return config


def ensemble_config(release: int, identity: str) -> Config:
    """The front door, pinned to one release: its own version and that of both steps."""
    config = part_config(ENSEMBLE, [release])
    for step in config.ensemble_scheduling.step:
        step.model_version = release
    config.parameters[IDENTITY].string_value = identity
    return config


def identity(config: Config) -> str:
    """The repository that an ensemble's config is of; "" in one that was published before there was any."""
    return config.parameters[IDENTITY].string_value if IDENTITY in config.parameters else ""


def identity_on_disk(repository: Repository) -> str:
    """As ``identity``; a new one where nothing was promoted yet."""
    path = repository / ENSEMBLE / CONFIG
    return identity(read_config(path)) if path.exists() else uuid.uuid4().hex


def configs_of(repository: Repository, release: int, loadable: Iterable[int]) -> dict[str, Config]:
    """Model → config, the ensemble last, that make ``release`` active; the parts may load others too."""
    configs = {model: part_config(model, loadable) for model in PARTS}
    return configs | {ENSEMBLE: ensemble_config(release, identity_on_disk(repository) or uuid.uuid4().hex)}


def write_configs(repository: Repository, configs: dict[str, Config]) -> None:
    """The ensemble's comes last: its rename is the moment at which its release becomes the active one."""
    _write(repository, {model: text_format.MessageToString(config) for model, config in configs.items()})


def read_texts(repository: Repository) -> dict[str, str]:
    """The configs as they stand, for ``put_back``."""
    paths = {model: repository / model / CONFIG for model in MODELS}
    return {model: path.read_text(encoding="utf-8") for model, path in paths.items() if path.exists()}


def put_back(repository: Repository, texts: dict[str, str]) -> None:
    """Undo ``write_configs``: what ``read_texts`` found before, and nothing else."""
    for model in MODELS:
        if model not in texts:
            (repository / model / CONFIG).unlink(missing_ok=True)
    _write(repository, texts)


def _write(repository: Repository, texts: dict[str, str]) -> None:
    now = read_texts(repository)
    for model in (*PARTS, ENSEMBLE):
        if model in texts and texts[model] != now.get(model):
            write_file(repository / model / CONFIG, texts[model].encode(), repository)
