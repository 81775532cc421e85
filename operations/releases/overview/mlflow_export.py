"""Copies the record of each release to an MLflow server: parameters, metrics, manifest, report, aliases.

The repository stays the truth, and nothing is served from MLflow. The alias "champion" is the active release,
"challenger" the canary release. A second export adds what is new and moves the aliases.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from operations.errors import CestaError
from operations.outputs import Outputs
from operations.records.manifest import NAME as MANIFEST
from operations.records.manifest import ReleaseManifest
from operations.releases.overview.index import read_index
from operations.releases.repository import manifest_place, read_release
from operations.releases.stores.store import Repository

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
REPOSITORY, RELEASE, DIGEST = "cesta.repository", "cesta.release", "cesta.digest"  # tags of runs and versions
REPORT: Final = "report.html"
MOST_AT_ONCE: Final = 100  # parameters of one request
LONGEST: Final = 6000  # characters of a parameter


class Exported(NamedTuple):
    """Release → version of the registered model; the releases that this call has added."""

    versions: dict[int, str]
    added: list[int]


def export_releases(
    repository: Repository, server: str, model: str, reports: Mapping[str, Path] | None = None
) -> Exported:
    """Bring the registered ``model`` of the MLflow at ``server`` up to date with ``repository``.

    ``reports`` are pages by the text of the metrics that they show; the release with these metrics gets one.
    Raises CestaError if the server cannot be reached or refuses.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise CestaError('the export needs mlflow-skinny; run pip install "cesta[mlflow]"') from None
    index = read_index(repository)
    try:
        client = MlflowClient(tracking_uri=server, registry_uri=server)
        of_digests = _known_versions(client, model, repository)
        versions: dict[int, str] = {}
        added: list[int] = []
        for entry in index["releases"]:
            number = entry["release"]
            release = read_release(repository, number)
            if known := of_digests.get((number, release.digest)):
                versions[number] = known
            else:
                page = (reports or {}).get(metrics_text(release))
                versions[number] = _add(client, repository, release, model, page)
                added.append(number)
        canary = index["canary"]
        _point(client, model, CHAMPION, versions.get(index["active"] or 0))
        _point(client, model, CHALLENGER, versions.get(canary["release"]) if canary else None)
    except MlflowException as error:
        raise CestaError(f"MLflow at {server}: {' '.join(str(error).split())[:300]}; try again") from None
    return Exported(versions, added)


def read_report(out: Path) -> dict[str, Path]:
    """The report of a build, by the text of its metrics; {} if there is none."""
    outputs = Outputs(out)
    page = out / REPORT
    if not outputs.metrics.exists() or not page.exists():
        return {}
    return {json.dumps(json.loads(outputs.metrics.read_bytes()), sort_keys=True): page}


def metrics_text(release: ReleaseManifest) -> str:
    """The metrics of a release in the form that names them."""
    return json.dumps(release.json_object().get("metrics"), sort_keys=True)


def _known_versions(client: "MlflowClient", model: str, repository: Repository) -> dict[tuple[int, str], str]:
    """(release, digest) → version, of the versions that came from this repository.

    A repository that was made anew has other releases under the same numbers.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.get_registered_model(model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        client.create_registered_model(model, description="Releases of cesta; Triton serves them.")
        return {}
    found = client.search_model_versions(f"name = '{model}'")
    return {
        (int(version.tags[RELEASE]), version.tags.get(DIGEST, "")): str(version.version)
        for version in found
        if version.tags.get(REPOSITORY) == str(repository)
    }


def _add(
    client: "MlflowClient", repository: Repository, release: ReleaseManifest, model: str, page: Path | None
) -> str:
    """Make a run and a version of the model for a release; the version."""
    tags = {REPOSITORY: str(repository), RELEASE: str(release.release), DIGEST: release.digest}
    run = client.create_run(_experiment(client, model), tags=tags, run_name=f"release {release.release}")
    run_id = run.info.run_id
    _log(client, run_id, release)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, MANIFEST)
        copy.write_bytes(manifest_place(repository, release.release).read_bytes())
        client.log_artifact(run_id, str(copy))
    if page is not None:
        client.log_artifact(run_id, str(page))
    client.set_terminated(run_id)
    made = client.create_model_version(model, run.info.artifact_uri, run_id, tags=tags)
    return str(made.version)


def _experiment(client: "MlflowClient", name: str) -> str:
    found = client.get_experiment_by_name(name)
    experiment: str = found.experiment_id if found else client.create_experiment(name)
    return experiment


def _log(client: "MlflowClient", run_id: str, release: ReleaseManifest) -> None:
    from mlflow.entities import Metric, Param

    record = release.json_object()
    metrics = [
        Metric(name, value, 0, 0) for name, value in _leaves(record.get("metrics")) if _is_number(value)
    ]
    params = [Param(name, str(value)[:LONGEST]) for name, value in _leaves(record.get("settings"))]
    params += [Param(name, str(value)) for name, value in _leaves(record.get("data"), "data")]
    for start in range(0, max(len(metrics), len(params)), MOST_AT_ONCE):
        chosen = slice(start, start + MOST_AT_ONCE)
        client.log_batch(run_id, metrics=metrics[chosen], params=params[chosen])


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Name and value of everything below a JSON object that is not an object; names joined by dots."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, f"{name}.{key}" if name else key)
    elif value is not None:
        yield name, value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _point(client: "MlflowClient", model: str, alias: str, version: str | None) -> None:
    """Have an alias name a version, or nothing."""
    if version is not None:
        client.set_registered_model_alias(model, alias, version)
    elif alias in client.get_registered_model(model).aliases:
        client.delete_registered_model_alias(model, alias)
