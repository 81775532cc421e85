"""Releases of different contracts lie in one repository: each has the configs that it needs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtests.faults.broken_releases import rewrite_manifest
from operations.commands import release as commands
from operations.errors import CestaError
from operations.records import manifest
from operations.records.contract import ENSEMBLE, NAMED, SAMPLER, SCORER, Config, read_config, tensors
from operations.releases import publish
from operations.releases.canary import start_canary, stop_canary
from operations.releases.models import configs
from operations.releases.models.configs import CANARY, PARTS, part_config
from operations.releases.models.contracts import FIRST, ServedContract
from operations.releases.models.placing import models_of
from operations.releases.overview.diff import diff
from operations.releases.promote import promote, roll_back
from operations.releases.repository import CONFIG, active_release, part_models, read_release, releases
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.newer_contract import SIZES, newer_contract, newer_sampler
from tests.building.old_releases import unpack_old_repository
from tests.building.repositories import KINDS, folder_only
from tests.building.runs import toy_run

PLAIN = {SCORER, SAMPLER}


@pytest.fixture(params=KINDS)
def repository(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Release 1 is the old one of commit 85684cf and active. What is published has the newer toy sampler."""
    sampler = newer_sampler(tmp_path / "sampler")
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", sampler)
    folder = unpack_old_repository(tmp_path / "repository")
    if request.param == "folder":
        return open_repository(folder)
    bucket = open_repository(f"s3://{request.getfixturevalue('s3').bucket()}/shops/one")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        (bucket.root / path.relative_to(folder).as_posix()).upload(path)
    return bucket


def add_newer(repository: Repository, folder: Path, seed: int = 2) -> int:
    """Publish a release of the newer contract."""
    run = toy_run(folder / f"run-{seed}", seed, SIZES, contract=newer_contract())
    return publish.publish(run, repository)


def own_models(repository: Repository, release: int) -> set[str]:
    """The models that hold the parts of a release."""
    models = models_of(read_release(repository, release))
    return {models[part] for part in PARTS}


def on_disk(repository: Repository) -> dict[str, list[int]]:
    """Every part with a config → the versions that the next start may load."""
    written = (model for model in part_models(repository) if (repository / model / CONFIG).exists())
    return {model: list(config(repository, model).version_policy.specific.versions) for model in written}


def loads(repository: Repository, *numbers: int) -> dict[str, list[int]]:
    """What ``on_disk`` gives if these releases are loaded, all of different contracts."""
    return {model: [number] for number in numbers for model in own_models(repository, number)}


def config(repository: Repository, model: str) -> Config:
    return read_config(repository / model / CONFIG)


def test_an_old_release_is_whole_and_listed(repository: Repository) -> None:
    """Neither its manifest nor its files need a change."""
    assert releases(repository) == [1]
    assert verify_release(repository).contract.answers == 20
    listed = CliRunner().invoke(commands.app, ["list", "--repository", str(repository)])
    assert "active" in listed.stdout
    assert own_models(repository, 1) == PLAIN


def test_a_release_of_another_contract_has_models_of_its_own(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract names them, so that the next release of it joins them. The old contract keeps its own."""
    assert add_newer(repository, tmp_path) == 2
    assert add_newer(repository, tmp_path, seed=3) == 3
    suffix = ServedContract.of(newer_contract()).digest
    assert own_models(repository, 2) == own_models(repository, 3) == {f"{part}_{suffix}" for part in PARTS}
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    old = read_release(repository, 1).contract
    assert publish.publish(toy_run(tmp_path / "run-4", 4, FIRST, contract=old), repository) == 4
    assert own_models(repository, 4) == PLAIN
    for release in releases(repository):
        verify_release(repository, release)
    assert active_release(repository) == 1


def test_each_release_is_served_with_its_own_tensors(repository: Repository, tmp_path: Path) -> None:
    """The newer one is promoted, and the old one returned to. Both stay loaded."""
    old = {model: config(repository, model) for model in (*PARTS, ENSEMBLE)}
    assert old[ENSEMBLE].response_cache.enable  # as commit 85684cf wrote it
    newer = add_newer(repository, tmp_path)
    promote(repository, newer, force=True)
    assert active_release(repository) == newer
    assert on_disk(repository) == loads(repository, 1, newer)
    ensemble = config(repository, ENSEMBLE)
    assert tensors(ensemble.input)["hint"] == ("STRING", [1])
    assert tensors(ensemble.output)["echo"] == ("STRING", [1])
    assert tensors(ensemble.output)["item_ids"] == ("STRING", [12])
    sampler, scorer = (config(repository, step.model_name) for step in ensemble.ensemble_scheduling.step)
    assert all(tensor.optional and tensor.allow_ragged_batch for tensor in sampler.input)
    assert tensors(sampler.output)["rows"] == ("INT32", [1 + 150 + 2 * 100])
    assert tensors(scorer.input) == {
        "rows": ("INT32", [351]),
        "candidate_features": ("FP32", [100, 30]),
    }
    first, second = ensemble.ensemble_scheduling.step
    assert dict(first.output_map).keys() == tensors(sampler.output).keys()
    assert dict(second.input_map).keys() == tensors(scorer.input).keys()

    assert roll_back(repository)["release"] == 1
    old[ENSEMBLE].response_cache.enable = False  # its answers have no digest
    assert {model: config(repository, model) for model in old} == old
    assert on_disk(repository).keys() == PLAIN | own_models(repository, 2)
    assert promote(repository, newer, force=True)["before"] == 1
    assert config(repository, ENSEMBLE) == ensemble


@folder_only
@pytest.mark.parametrize("named", [True, False])
def test_only_answers_that_name_their_question_are_cached(
    repository: Repository, tmp_path: Path, named: bool
) -> None:
    """Another question may have the same key in Triton's cache. A digest shows whose the answer is."""
    contract = newer_contract()
    if not named:
        sides = {
            side: {name: tensor for name, tensor in getattr(contract, side).items() if name != "digest"}
            for side in ("outputs", "sampler_outputs")
        }
        contract = contract.model_copy(update=sides)
    release = publish.publish(toy_run(tmp_path / "run", 2, SIZES, contract=contract), repository)
    promote(repository, release, force=True)
    assert config(repository, ENSEMBLE).response_cache.enable is named


def test_models_that_nothing_needs_have_no_config(repository: Repository, tmp_path: Path) -> None:
    """The next start loads no release of that contract."""
    two, three = add_newer(repository, tmp_path), add_newer(repository, tmp_path, seed=3)
    promote(repository, two, force=True)
    promote(repository, three, force=True)
    assert on_disk(repository).keys() == own_models(repository, two)
    promote(repository, 1, force=True)
    assert on_disk(repository) == loads(repository, 1, three)


@pytest.mark.parametrize("newer_is_canary", [True, False])
def test_the_canary_release_may_have_another_contract(
    repository: Repository, tmp_path: Path, newer_is_canary: bool
) -> None:
    newer = add_newer(repository, tmp_path)
    active, canary = (1, newer) if newer_is_canary else (newer, 1)
    if active == newer:
        promote(repository, newer, force=True)
    start_canary(repository, canary, 5, force=True)
    steps = config(repository, CANARY).ensemble_scheduling.step
    assert {step.model_name for step in steps} == own_models(repository, canary)
    assert on_disk(repository).keys() == PLAIN | own_models(repository, newer)
    assert active_release(repository) == active
    stop_canary(repository, canary)
    assert active_release(repository) == active


def test_a_contract_s_models_go_with_its_last_release(repository: Repository, tmp_path: Path) -> None:
    newer = [add_newer(repository, tmp_path, seed) for seed in (2, 3)]
    models = own_models(repository, newer[0])
    promote(repository, newer[0], force=True)
    promote(repository, newer[1], force=True)
    assert retire(repository) == [1]
    assert releases(repository) == newer
    assert set(part_models(repository)) - PLAIN == models
    for seed in (4, 5):
        old = toy_run(tmp_path / f"run-{seed}", seed, FIRST, contract={})
        promote(repository, publish.publish(old, repository), force=True)
    assert retire(repository) == newer
    assert set(part_models(repository)) == PLAIN


def test_files_compare_by_their_names_without_the_contract(repository: Repository, tmp_path: Path) -> None:
    newer = add_newer(repository, tmp_path)
    rows = {name for name, _, _ in diff(read_release(repository, 1), read_release(repository, newer))}
    assert {"contract.answers", "contract.sampler_outputs.echo", "candidate_sampler/model.py"} <= rows


@folder_only
def test_a_model_that_two_contracts_share_is_refused(repository: Repository, tmp_path: Path) -> None:
    """Two publishers may meet in an empty repository. The newer release must be published again."""
    old = toy_run(tmp_path / "run", 2, FIRST, contract={})
    release = publish.publish(old, repository)
    rewrite_manifest(repository, 1, contract=newer_contract())
    with pytest.raises(
        CestaError, match=r"release 2 lies in .*candidate_sampler beside release 1, which has"
    ):
        verify_release(repository, release)
    again = publish.publish(old, repository)
    assert own_models(repository, again).isdisjoint(PLAIN)
    verify_release(repository, again)


@folder_only
def test_a_damaged_release_keeps_no_model_to_itself(repository: Repository, tmp_path: Path) -> None:
    """It cannot be served, so the plain names are free for another contract."""
    (repository / ENSEMBLE / "1" / manifest.NAME).write_text("{")
    newer = add_newer(repository, tmp_path)
    assert own_models(repository, newer) == PLAIN
    with pytest.raises(CestaError, match="damaged"):
        verify_release(repository, 1)


@folder_only
def test_a_named_config_has_the_shapes_of_the_contract(repository: Repository, tmp_path: Path) -> None:
    """TensorRT builds its engine for them. The checkout's contract keeps the text with its comments."""
    newer = add_newer(repository, tmp_path)
    promote(repository, newer, force=True)
    scorer = models_of(read_release(repository, newer))[SCORER]
    written = read_config(repository / scorer / NAMED / "tensorrt.pbtxt")
    assert tensors(written.input)["candidate_features"] == ("FP32", [100, 30])
    (accelerator,) = written.optimization.execution_accelerators.gpu_execution_accelerator
    shapes = accelerator.parameters["trt_profile_opt_shapes"]
    assert shapes == "rows:16x351,candidate_features:16x100x30"
    chosen = part_config(scorer, newer_contract(), {newer}, "tensorrt")
    assert (chosen.name, chosen.instance_group, chosen.optimization) == (
        scorer,
        written.instance_group,
        written.optimization,
    )
    fresh = open_repository(tmp_path / "fresh")
    promote(fresh, publish.publish(toy_run(tmp_path / "run", 4), fresh), force=True)
    source = (configs.MODEL_REPOSITORY / SCORER / NAMED / "tensorrt.pbtxt").read_text()
    assert (fresh / SCORER / NAMED / "tensorrt.pbtxt").read_text() == source
