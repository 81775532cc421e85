"""Publishing: numbered releases, whole or not at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.records.contract import MODEL_REPOSITORY, MODELS, read_config
from operations.records.manifest import RunManifest
from operations.releases import history, publish
from operations.releases.history import Action
from operations.releases.models import configs
from operations.releases.promote import promote
from operations.releases.repository import active_release, read_release, releases
from operations.releases.signatures import signature
from operations.releases.signatures.verify import verify_release
from operations.releases.stores import bucket
from operations.releases.stores.folder import ROOM
from operations.releases.stores.store import Repository, open_repository
from tests.building.repositories import ALL_KINDS, empty_repository, folder_only
from tests.building.runs import make_run


def publish_active(run: Path, repository: Repository) -> int:
    """Publish and promote a run, as a build does."""
    release = publish.publish(run, repository)
    promote(repository, release)
    return release


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


@pytest.fixture(params=ALL_KINDS)
def repository(request: pytest.FixtureRequest) -> Repository:
    return empty_repository(request)


def names(repository: Repository) -> set[str]:
    """The names in the repository, except for signatures, a bucket's numbers and a folder's room."""
    kept = {bucket.NUMBERS, signature.NAME, ROOM}
    return {path.name for path in repository.root.iterdir()} - kept


def versions(repository: Repository, model: str) -> list[int]:
    """The versions that the model's config lets Triton load."""
    return list(read_config(repository / model / "config.pbtxt").version_policy.specific.versions)


def pins(repository: Repository) -> set[int]:
    steps = read_config(repository / "recommender" / "config.pbtxt").ensemble_scheduling.step
    return {step.model_version for step in steps}


def loadable(repository: Repository) -> int:
    """The active release; fails unless everything that Triton needs for it is there."""
    (active,) = pins(repository)
    for model in MODELS:
        assert active in versions(repository, model)
        for version in versions(repository, model):
            assert any((repository / model / str(version)).iterdir())
        strangers = {path.name for path in (repository / model).iterdir() if not path.name.isdigit()}
        assert strangers <= {
            "config.pbtxt",
            "configs",
        }  # anything that changes makes Triton reload every version
        for path in (repository / model).glob("configs/*"):
            assert path.read_text() == (MODEL_REPOSITORY / model / "configs" / path.name).read_text()
    verify_release(repository)
    return active


def test_a_published_release_is_not_active(run: Path, repository: Repository) -> None:
    """It is number 1 and whole. No config names it, and no staging folder is left."""
    assert publish.publish(run, repository) == 1
    assert verify_release(repository, 1).release == 1
    assert active_release(repository) is None
    assert names(repository) == set(MODELS)
    assert not list(repository.root.glob("*/config.pbtxt"))


@folder_only
def test_the_first_promoted_release(run: Path, repository: Repository) -> None:
    assert publish_active(run, repository) == 1
    assert loadable(repository) == 1
    assert names(repository) == {*MODELS, history.NAME}


@folder_only
def test_releases_hold_code_data_and_graph(run: Path, repository: Repository) -> None:
    """They lie where Triton looks for them."""
    publish.publish(run, repository)
    files = {p.relative_to(repository.root).as_posix() for p in repository.root.rglob("*") if p.is_file()}
    assert {
        "candidate_sampler/1/model.py",
        "candidate_sampler/1/arrays/clock.now.npy",
        "ncf_scorer/1/model.onnx",
        "recommender/1/manifest.json",
    } <= files
    assert not any("__pycache__" in name for name in files)


def test_tables_beside_the_graph_are_published_with_it(run: Path, repository: Repository) -> None:
    """They are listed and verified like all other files."""
    graph = onnx.load(str(run / "model.onnx"))
    beside = {"save_as_external_data": True, "location": "model.data", "size_threshold": 1}
    onnx.save_model(graph, str(run / "model.onnx"), **beside)
    described = RunManifest.read(run / manifest.NAME)
    files = file_record.describe((p for p in run.rglob("*") if p.name != manifest.NAME), run)
    made = {"files": files, "digest": file_record.digest(files)}
    manifest.write(described.model_copy(update=made), run)
    assert publish_active(run, repository) == 1
    published = repository / "ncf_scorer" / "1" / "model.data"
    assert published.read_bytes() == (run / "model.data").read_bytes()
    assert "ncf_scorer/1/model.data" in verify_release(repository, 1).files
    published.write_bytes(b"other weights")
    with pytest.raises(CestaError, match=r"ncf_scorer/1/model\.data is not what the manifest lists"):
        verify_release(repository, 1)


@folder_only
def test_the_next_release_keeps_the_active_one_loadable(
    tmp_path: Path, run: Path, repository: Repository
) -> None:
    """The parts serve both, so that a server switches without a gap. The ensemble serves the new one."""
    publish_active(run, repository)
    assert publish_active(make_run(tmp_path / "second", seed=2), repository) == 2
    assert publish.publish(make_run(tmp_path / "third", seed=3), repository) == 3
    assert loadable(repository) == 2
    assert [versions(repository, model) for model in MODELS] == [[1, 2], [1, 2], [2]]
    promote(repository, 3)
    assert loadable(repository) == 3
    assert [versions(repository, model) for model in MODELS] == [[2, 3], [2, 3], [3]]
    assert {p.name for p in (repository / "recommender").iterdir()} == {"1", "2", "3", "config.pbtxt"}


def test_the_manifest_lists_the_release_where_it_lies(run: Path, repository: Repository) -> None:
    """It has the number, the moment, every file except itself, and the run's own entries."""
    publish.publish(run, repository)
    described = verify_release(repository, 1)
    assert described.release == 1
    assert described.created_at.endswith("+00:00")
    assert described.digest == RunManifest.read(run / "manifest.json").digest
    files = (path for model in MODELS for path in (repository / model / "1").rglob("*"))
    present = {path.relative_to(repository.root).as_posix() for path in files if path.is_file()}
    assert described.files.keys() == present - {"recommender/1/manifest.json"}


@folder_only
@pytest.mark.parametrize("name", ["candidate_sampler/1/kernels.py", "ncf_scorer/1/model.onnx"])
def test_an_altered_release_is_found(run: Path, repository: Repository, name: str) -> None:
    """Code and graph are checked like arrays."""
    publish_active(run, repository)
    path = repository / name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CestaError, match=f"{name} is not what the manifest lists"):
        verify_release(repository)


@folder_only
@pytest.mark.parametrize("name", ["extra.py", "__pycache__/model.cpython-311.pyc"])
def test_a_stranger_in_a_release_is_found(run: Path, repository: Repository, name: str) -> None:
    """Python's own caches count: Python loads a cached module in place of the source beside it."""
    publish_active(run, repository)
    stranger = repository / "candidate_sampler" / "1" / name
    stranger.parent.mkdir(exist_ok=True)
    stranger.touch()
    with pytest.raises(CestaError, match=f"{name} is not in the manifest"):
        verify_release(repository)


@folder_only
def test_a_missing_release_is_named(run: Path, repository: Repository) -> None:
    with pytest.raises(CestaError, match="no release in"):
        read_release(repository)
    publish_active(run, repository)
    with pytest.raises(CestaError, match="no release 7 in"):
        verify_release(repository, 7)


@folder_only
def test_an_altered_run_is_not_published(run: Path, repository: Repository) -> None:
    (run / "arrays" / "clock.now.npy").write_bytes(b"?")
    with pytest.raises(CestaError, match="is not what the manifest lists"):
        publish.publish(run, repository)
    assert not repository.root.exists()


@folder_only
def test_a_run_of_other_sampler_code_is_not_published(tmp_path: Path, repository: Repository) -> None:
    """The golden answers would not be those of the release."""
    run = make_run(tmp_path / "old", sampler_code="0" * 64)
    with pytest.raises(CestaError, match="changed since the export"):
        publish.publish(run, repository)


def test_the_source_repository_is_not_published_into(run: Path, tmp_path: Path) -> None:
    """The ensemble there pins no release."""
    shutil.copytree(MODEL_REPOSITORY, tmp_path / "models")
    with pytest.raises(CestaError, match="pins no release"):
        publish.publish(run, open_repository(tmp_path / "models"))


def test_a_run_is_recognised_as_published(tmp_path: Path, run: Path, repository: Repository) -> None:
    """The content counts, not when it was made, nor whether it is active."""
    assert publish.published_as(run, repository) is None
    publish.publish(run, repository)
    assert publish.published_as(run, repository) == 1
    assert publish.published_as(make_run(tmp_path / "other", seed=5), repository) is None


def test_a_number_is_never_given_twice(tmp_path: Path, run: Path, repository: Repository) -> None:
    """A cache may still hold answers of the retired release 2."""
    publish_active(run, repository)
    history.append(repository, Action.RETIRE, 2)
    assert publish.publish(make_run(tmp_path / "second", seed=2), repository) == 3


RACE = """
import sys
from pathlib import Path
from operations.releases.publish import publish
from operations.releases.stores.store import open_repository
sys.stdin.readline()
print(*(publish(Path(sys.argv[1]), open_repository(sys.argv[2])) for _ in range(int(sys.argv[3]))))
"""


def test_publishers_that_race_get_a_number_each(run: Path, repository: Repository) -> None:
    """Three processes publish as many releases each: every number occurs once, every release is whole."""
    each = 2 if repository.is_remote else 4
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, run, str(repository), str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    got = [int(number) for racer in racers for number in racer.communicate(timeout=200)[0].split()]
    assert sorted(got) == releases(repository) == list(range(1, 3 * each + 1))
    for release in got:
        assert verify_release(repository, release).release == release
    assert names(repository) == set(MODELS)


def test_a_taken_number_is_not_overwritten(
    tmp_path: Path, run: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another publisher moves first. This one takes the next number and does not touch the other."""
    publish.publish(run, repository)
    looks = iter([1, 2])
    monkeypatch.setattr(publish, "next_release", lambda _: next(looks))
    assert publish.publish(make_run(tmp_path / "second", seed=2), repository) == 2
    assert verify_release(repository, 1).digest != verify_release(repository, 2).digest


@folder_only
def test_a_number_that_an_older_cesta_takes_is_not_overwritten(
    run: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes a number with the sampler's folder, not with the ensemble's."""
    taken = repository / "candidate_sampler" / "1" / "model.py"
    taken.parent.mkdir(parents=True)
    taken.write_text("# older")
    looks = iter([1, 2])
    monkeypatch.setattr(publish, "next_release", lambda _: next(looks))
    assert publish.publish(run, repository) == 2
    assert [path.name for path in taken.parent.iterdir()] == ["model.py"]
    verify_release(repository, 2)


@folder_only
@pytest.mark.parametrize("calls", range(6))
def test_dying_while_promoting_leaves_a_release_that_loads(
    tmp_path: Path, repository: Repository, calls: int
) -> None:
    """The process dies before a config is in place, between two of them, and after the last."""
    publish_active(make_run(tmp_path / "first"), repository)
    publish.publish(make_run(tmp_path / "second", seed=2), repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configs, "put_back", lambda *_: None)  # no time is left to undo anything
        patch.setattr("operations.releases.switch.put_back", lambda *_: None)
        works, remaining = Path.replace, iter(range(calls))

        def replace(*paths: Path) -> Path:
            if next(remaining, None) is None:
                raise KeyboardInterrupt
            return works(*paths)

        patch.setattr(Path, "replace", replace)
        if calls < 3:
            with pytest.raises(KeyboardInterrupt):
                promote(repository, 2)
        else:
            promote(repository, 2)
    assert loadable(repository) == (1 if calls < 3 else 2)


@folder_only
def test_a_full_disk_leaves_the_active_release(
    tmp_path: Path, run: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failed publisher frees the space that it took."""
    publish_active(run, repository)
    before = sorted(repository.root.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "x.npy")

    monkeypatch.setattr(publish.shutil, "copy2", full)
    with pytest.raises(CestaError, match=r"second was not published in .*x\.npy: No space left"):
        publish.publish(make_run(tmp_path / "second", seed=2), repository)
    assert sorted(repository.root.rglob("*")) == before
    assert loadable(repository) == 1


@folder_only
def test_files_are_readable_for_another_user(run: Path, repository: Repository) -> None:
    """Server and publisher may be different users."""
    publish.publish(run, repository)
    for path in repository.root.rglob("*"):
        assert path.stat().st_mode & 0o044 == 0o044, path
    json.loads((repository / "recommender" / "1" / "manifest.json").read_text())
