"""Publishing: numbered releases, whole or not at all."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ensemble.candidate_sampler.features import FEATURES
from export_scripts import atomic, manifest, publish
from export_scripts.contract import MODELS, read_config, read_contract
from export_scripts.errors import CestaError
from export_scripts.graph import build_graph, fold
from export_scripts.ncf import NCF, NCFShape


def make_run(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A run of a three-item shop, with an array that differs by `seed`; `changes` go into its manifest."""
    (folder / "arrays").mkdir(parents=True)
    torch.manual_seed(0)
    model = NCF(NCFShape(2, 3, len(FEATURES), gmf=2, mlp=2, hidden=(2,)))
    graph = build_graph(fold(model), ["", "a", "b"], read_contract())
    (folder / "model.onnx").write_bytes(graph.SerializeToString(deterministic=True))
    np.save(folder / "arrays" / "clock.now.npy", np.array(seed))
    files = manifest.describe(folder.rglob("*"), folder)
    described = {
        "contract": vars(read_contract()),
        "sampler_code": manifest.digest(publish.sampler_code()),
        "digest": manifest.digest(files),
        "files": files,
    }
    manifest.write(described | changes, folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def versions(repository: Path, model: str) -> list[int]:
    """What the model's config lets Triton load."""
    return list(read_config(repository / model / "config.pbtxt").version_policy.specific.versions)


def pins(repository: Path) -> set[int]:
    steps = read_config(repository / "recommender" / "config.pbtxt").ensemble_scheduling.step
    return {step.model_version for step in steps}


def loadable(repository: Path) -> int:
    """The active release, after all that Triton needs for it was found."""
    (active,) = pins(repository)
    for model in MODELS:
        assert active in versions(repository, model)
        for version in versions(repository, model):
            assert any((repository / model / str(version)).iterdir())
        strangers = [p.name for p in (repository / model).iterdir() if not p.name.isdigit()]
        assert strangers == ["config.pbtxt"]  # anything else makes Triton reload every version
    publish.verify_release(repository)
    return active


def test_the_first_release(run: Path, repository: Path) -> None:
    """Number 1, active, whole; nothing is left of the staging."""
    assert publish.publish(run, repository) == 1
    assert loadable(repository) == 1
    assert sorted(p.name for p in repository.iterdir()) == sorted(MODELS)


def test_releases_hold_code_data_and_graph(run: Path, repository: Path) -> None:
    """In the places where Triton looks for them."""
    publish.publish(run, repository)
    files = {p.relative_to(repository).as_posix() for p in repository.rglob("*") if p.is_file()}
    assert {
        "candidate_sampler/1/model.py",
        "candidate_sampler/1/arrays/clock.now.npy",
        "ncf_scorer/1/model.onnx",
        "recommender/1/manifest.json",
    } <= files
    assert not any("__pycache__" in name for name in files)


def test_the_next_release_keeps_the_active_one_loadable(tmp_path: Path, run: Path, repository: Path) -> None:
    """The parts serve both, so that a server switches without a gap; the ensemble serves the new one."""
    publish.publish(run, repository)
    assert publish.publish(make_run(tmp_path / "second", seed=2), repository) == 2
    assert publish.publish(make_run(tmp_path / "third", seed=3), repository) == 3
    assert loadable(repository) == 3
    assert [versions(repository, model) for model in MODELS] == [[2, 3], [2, 3], [3]]
    assert {p.name for p in (repository / "recommender").iterdir()} == {"1", "2", "3", "config.pbtxt"}


def test_the_manifest_lists_the_release_where_it_lies(run: Path, repository: Path) -> None:
    """Number, moment, and every file but itself, with the run's own words."""
    publish.publish(run, repository)
    described = publish.verify_release(repository, 1)
    assert described["release"] == 1
    assert described["created_at"].endswith("+00:00")
    assert described["digest"] == manifest.read(run / "manifest.json")["digest"]
    present = {p.relative_to(repository).as_posix() for p in repository.glob("*/1/**/*") if p.is_file()}
    assert described["files"].keys() == present - {"recommender/1/manifest.json"}


@pytest.mark.parametrize("name", ["candidate_sampler/1/kernels.py", "ncf_scorer/1/model.onnx"])
def test_an_altered_release_is_found(run: Path, repository: Path, name: str) -> None:
    """Code and graph as much as arrays."""
    publish.publish(run, repository)
    path = repository / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CestaError, match=f"{name} is not what the manifest lists"):
        publish.verify_release(repository)


def test_a_stranger_in_a_release_is_found(run: Path, repository: Path) -> None:
    """Python's own caches are none."""
    publish.publish(run, repository)
    (repository / "candidate_sampler" / "1" / "__pycache__").mkdir()
    (repository / "candidate_sampler" / "1" / "__pycache__" / "model.pyc").touch()
    publish.verify_release(repository)
    (repository / "candidate_sampler" / "1" / "extra.py").touch()
    with pytest.raises(CestaError, match=r"extra\.py is not in the manifest"):
        publish.verify_release(repository)


def test_asking_for_what_is_not_there(run: Path, repository: Path) -> None:
    with pytest.raises(CestaError, match="no release in"):
        publish.read_release(repository)
    publish.publish(run, repository)
    with pytest.raises(CestaError, match="no release 7 in"):
        publish.verify_release(repository, 7)


def test_an_altered_run_is_not_published(run: Path, repository: Path) -> None:
    (run / "arrays" / "clock.now.npy").write_bytes(b"?")
    with pytest.raises(CestaError, match="is not what the manifest lists"):
        publish.publish(run, repository)
    assert not repository.exists()


def test_a_run_of_other_sampler_code_is_not_published(tmp_path: Path, repository: Path) -> None:
    """Its golden answers would not be those of the release."""
    run = make_run(tmp_path / "old", sampler_code="0" * 64)
    with pytest.raises(CestaError, match="changed since the export"):
        publish.publish(run, repository)


def test_a_graph_that_breaks_the_contract_is_not_published(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K is 20 in the graph and 10 in config.pbtxt."""
    run = make_run(tmp_path / "run")
    shutil.copytree(publish.MODEL_REPOSITORY, tmp_path / "models")
    config = tmp_path / "models" / "ncf_scorer" / "config.pbtxt"
    config.write_text(config.read_text().replace("dims: [ 20 ]", "dims: [ 10 ]"))
    monkeypatch.setattr(publish, "MODEL_REPOSITORY", tmp_path / "models")
    message = r"output item_ids is \('STRING', \[20\]\), config.pbtxt says \('STRING', \[10\]\)"
    with pytest.raises(CestaError, match=message):
        publish.publish(run, repository)


def test_a_new_contract_needs_a_new_repository(tmp_path: Path, repository: Path) -> None:
    """Releases share one config.pbtxt, so the active one would stop loading."""
    publish.publish(make_run(tmp_path / "old", contract=vars(read_contract()) | {"answers": 10}), repository)
    with pytest.raises(CestaError, match=r"answers = 20 \(active release: 10\); publish into a new repo"):
        publish.publish(make_run(tmp_path / "new"), repository)
    assert pins(repository) == {1}


def test_the_source_repository_is_not_published_into(run: Path, tmp_path: Path) -> None:
    """Its ensemble pins no release."""
    shutil.copytree(publish.MODEL_REPOSITORY, tmp_path / "models")
    with pytest.raises(CestaError, match="pins no release"):
        publish.publish(run, tmp_path / "models")


def test_a_run_is_recognised_as_published(tmp_path: Path, run: Path, repository: Path) -> None:
    """By its content, not by when it was made."""
    assert not publish.is_published(run, repository)
    publish.publish(run, repository)
    assert publish.is_published(run, repository)
    assert not publish.is_published(make_run(tmp_path / "other", seed=5), repository)


STEPS = ("copytree", "copy2", "manifest", "configs", "flush", "swap", "rename", "replace", "rmdir")


def dying_after(step: str, calls: int, patch: pytest.MonkeyPatch) -> None:
    """Let `step` of publishing work `calls` times and then die as if the power went."""
    owner, name = {
        "copytree": (publish.shutil, "copytree"),
        "copy2": (publish.shutil, "copy2"),
        "manifest": (manifest, "write"),
        "configs": (publish, "_stage_configs"),
        "flush": (atomic.os, "fsync"),
        "swap": (atomic, "_swap_in"),
        "rename": (Path, "rename"),
        "replace": (Path, "replace"),
        "rmdir": (Path, "rmdir"),
    }[step]
    works, left = getattr(owner, name), iter(range(calls))

    def call(*args: Any, **keywords: Any) -> Any:
        if next(left, None) is None:
            raise KeyboardInterrupt(step)
        return works(*args, **keywords)

    patch.setattr(owner, name, call)


def deaths(run: Path, repository: Path, step: str) -> Iterator[int]:
    """Publish, dying one call later each time, until it lives; yields the release that is then active."""
    for calls in range(100):
        with pytest.MonkeyPatch.context() as patch:
            dying_after(step, calls, patch)
            try:
                publish.publish(run, repository)
            except KeyboardInterrupt:
                yield loadable(repository)
            else:
                return
    raise AssertionError(f"{step} never came to its end")


@pytest.mark.parametrize("step", STEPS)
def test_dying_at_any_step_leaves_a_release_that_loads(tmp_path: Path, repository: Path, step: str) -> None:
    """The old one until the last config is in place; and the next publish works, whatever lies around."""
    publish.publish(make_run(tmp_path / "first"), repository)
    second = make_run(tmp_path / "second", seed=2)
    found = list(deaths(second, repository, step))
    assert found
    if step != "rmdir":
        assert set(found) == {1}
    last = loadable(repository)
    assert last == publish.next_release(repository) - 1
    described = publish.read_release(repository)
    assert described["digest"] == manifest.read(second / "manifest.json")["digest"]
    assert sorted(p.name for p in repository.iterdir()) == sorted(MODELS)


def test_a_full_disk_leaves_the_active_release(
    tmp_path: Path, run: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And gives back the space that it took."""
    publish.publish(run, repository)
    before = sorted(repository.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "x.npy")

    monkeypatch.setattr(publish.shutil, "copy2", full)
    with pytest.raises(OSError, match="No space left"):
        publish.publish(make_run(tmp_path / "second", seed=2), repository)
    assert sorted(repository.rglob("*")) == before
    assert loadable(repository) == 1


def test_files_are_readable_for_another_user(run: Path, repository: Path) -> None:
    """The server need not be the publisher."""
    publish.publish(run, repository)
    for path in repository.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    json.loads((repository / "recommender" / "1" / "manifest.json").read_text())
