"""Is what a server would load what a trusted publisher signed? Asked before Triton reads any of it.

Besides a release's own files, three things could bring in other code: the config.pbtxt of its parts, a module
beside the version folders, where the Python backend looks for imports, and the ensemble's steps.
"""

from copy import deepcopy
from typing import TYPE_CHECKING, Final

from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, MODEL_REPOSITORY, NAMED, Config, read_config
from operations.records.file_record import FileRecord
from operations.records.manifest import ReleaseManifest
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import PARTS, part_config
from operations.releases.models.placing import models_of
from operations.releases.repository import CONFIG, manifest_place, read_release
from operations.releases.signatures.signature import check_signature
from operations.releases.signatures.trust import Trust, find_trust
from operations.releases.stores.store import Repository

if TYPE_CHECKING:
    from operations.releases.mirror.local_files import Files

ENVIRONMENT: Final = "EXECUTION_ENV_PATH"  # a parameter: the Python that runs a model of the Python backend
# Fields of a config that name no code. An operator, or another version of cesta, may have set them otherwise.
FREE: Final = (
    *("name", "version_policy", "max_batch_size", "input", "output", "batch_input", "batch_output"),
    *("instance_group", "dynamic_batching", "response_cache", "parameters", "ensemble_scheduling"),
)
SHAPES: Final = "_shapes"  # the end of an accelerator's parameters that follow the contract
ANEW: Final = 'run "cesta release promote" with --offline, which writes the configs anew'


def check_intact(repository: Repository, release: int, trust: Trust | None = None) -> ReleaseManifest:
    """Check signature and files of a release, and return its manifest.

    Raises CestaError naming a signature that is missing or not trusted (by default: ``find_trust``), or the
    first file that is missing, altered or foreign.
    """
    read_release(repository, release)  # its sentences for a release that is missing or damaged come first
    content = check_signature(repository, release, trust or find_trust())
    described = ReleaseManifest.parse(content, manifest_place(repository, release))
    check_files(repository, release, described)
    for model in models_of(described).values():
        _check_beside(repository, model)
    return described


def check_files(repository: Repository, release: int, described: ReleaseManifest) -> None:
    """Raise CestaError if a release's files, or its number, are not as its manifest says."""
    if described.release != release:
        place = manifest_place(repository, release)
        raise CestaError(f"{place} is the manifest of release {described.release}; {described.WAY_OUT}")
    present: dict[str, FileRecord] = {}
    for model in models_of(described).values():
        present |= repository.describe(f"{model}/{release}")
    present.pop(f"{ENSEMBLE}/{release}/{manifest.NAME}", None)
    manifest.check_files(described.files, present, folder=str(repository), way_out=described.WAY_OUT)


def check_loaded(files: "Files", control: ModelControl | None, *besides: int) -> None:
    """Check the loaded releases, except ``besides``: Triton reads changed ones again when it loads another.

    ``files`` are those that it loads.

    Raises CestaError as ``check_intact`` does.
    """
    parts = control.ready_parts().values() if control else ()
    loaded = {number for versions in parts for number in versions}
    for release in sorted(loaded - {*besides}):
        try:
            files.check(release, check_intact)
        except CestaError as error:
            raise CestaError(
                f"release {release}, which is loaded, would be read again, too: {error}"
            ) from None


def check_part(model: str, config: Config, described: ReleaseManifest, name: str = "") -> None:
    """Raise CestaError if the config of a release's part could run other code than this cesta's does."""
    if model not in models_of(described).values():
        raise CestaError(f"release {described.release} has no files in {model}; {ANEW}")
    _check_config(model, config, part_config(model, described.contract, set(), name))


def check_front(front: str, config: Config, described: ReleaseManifest) -> None:
    """Raise CestaError unless the config of one of FRONTS is an ensemble of the parts of a release."""
    _check_config(front, config, read_config(MODEL_REPOSITORY / ENSEMBLE / CONFIG))
    models = models_of(described)
    steps = [(step.model_name, step.model_version) for step in config.ensemble_scheduling.step]
    if sorted(steps) != sorted((models[part], described.release) for part in PARTS):
        listed = " and ".join(f"{model} {version}" for model, version in steps) or "no step"
        raise CestaError(
            f"the config of {front} in the repository names {listed}, not the parts of release "
            f"{described.release}; {ANEW}"
        )


def _check_config(model: str, config: Config, ours: Config) -> None:
    if config.name != model:
        raise CestaError(f"the config of {model} in the repository is that of {config.name}; {ANEW}")
    theirs, ours = _about_code(config), _about_code(ours)
    fields = {field.name for side in (theirs, ours) for field, _ in side.ListFields()}
    if changed := sorted(field for field in fields if getattr(theirs, field) != getattr(ours, field)):
        raise CestaError(
            f"the config of {model} in the repository has another {' and '.join(changed)} than this cesta's, "
            f"which could run other code; {ANEW}"
        )


def _about_code(config: Config) -> Config:
    """The fields of a config that decide which code runs."""
    kept = deepcopy(config)
    for field in FREE:
        kept.ClearField(field)
    if ENVIRONMENT in config.parameters:
        kept.parameters[ENVIRONMENT].CopyFrom(config.parameters[ENVIRONMENT])
    for accelerators in (
        kept.optimization.execution_accelerators.cpu_execution_accelerator,
        kept.optimization.execution_accelerators.gpu_execution_accelerator,
    ):
        for accelerator in accelerators:
            for key in [key for key in accelerator.parameters if key.endswith(SHAPES)]:
                del accelerator.parameters[key]
    if not kept.optimization.ByteSize():  # looking at a field of a message sets the message
        kept.ClearField("optimization")
    return kept


def _check_beside(repository: Repository, model: str) -> None:
    """Raise CestaError for anything in a model's folder that cesta did not write: a model could import it."""
    for path in sorted((repository / model).glob("*"), key=str):
        if path.name.isdecimal() or path.name in (CONFIG, NAMED):
            continue
        if path.exists() or repository.describe(f"{model}/{path.name}"):  # else an empty folder of a bucket
            raise CestaError(f"{path} was not written by cesta, and a model could import it; remove it")
