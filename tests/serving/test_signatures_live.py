"""No code of a release that nobody trusted signed runs: at a start, at a restart, at a promotion.

The planted code leaves a file behind when it runs.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from operations.errors import NotPromoted
from operations.records import file_record, manifest
from operations.releases import publish
from operations.releases.promote import promote
from operations.releases.repository import manifest_place, read_release
from operations.releases.signatures.signature import sign
from operations.releases.signatures.trust import publisher_key
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.supervised import Supervised
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1 is active."""
    root = tmp_path_factory.mktemp("signed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
        repository = open_repository(root / "repository")
        promote(repository, publish.publish(toy_run(root / "run", 1), repository))
    return root / "repository"


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Repository:
    """A copy, in which a test may plant."""
    shutil.copytree(published, tmp_path / "repository")
    return open_repository(tmp_path / "repository")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """The file that planted code writes."""
    return tmp_path / "planted"


@pytest.fixture
def serving(start_server: object) -> Iterator[list[Supervised]]:
    """The servers that a test starts."""
    started: list[Supervised] = []
    yield started
    for supervised in started:
        supervised.kill()


def plant(repository: Repository, planted: Path, release: int = 1) -> Path:
    """Have a release's sampler write ``planted`` when Triton imports it."""
    model = Path(str(repository / f"candidate_sampler/{release}/model.py"))
    model.write_text(f"open({str(planted)!r}, 'w').close()\n" + model.read_text())
    return model


def list_the_files(repository: Repository, release: int = 1) -> None:
    """Write a manifest that lists the release's files as they are, and leave its signature alone."""
    described = read_release(repository, release)
    files = file_record.describe((Path(str(repository / name)) for name in described.files), repository.root)
    manifest.write(described.model_copy(update={"files": files}), manifest_place(repository, release).parent)


def refused(serving: list[Supervised], repository: Repository) -> str:
    """Start a server, which must end with exit code 1; its sentence."""
    serving.append(Supervised(repository.root, wait=False))
    assert serving[-1].process.wait(60) == 1
    serving[-1]._reader.join(20)
    return serving[-1].not_events[-1]


def test_signed_code_runs(serving: list[Supervised], repository: Repository, planted: Path) -> None:
    """The planted code would leave its file, if a trusted publisher signed it."""
    plant(repository, planted)
    list_the_files(repository)
    sign(repository, 1, manifest_place(repository, 1).read_bytes(), publisher_key())
    serving.append(Supervised(repository.root))
    assert planted.exists()


def test_altered_code_does_not_run_at_a_start(
    serving: list[Supervised], repository: Repository, planted: Path
) -> None:
    """Neither with the manifest as it was, nor with one that lists the altered file, nor unsigned."""
    plant(repository, planted)
    assert "candidate_sampler/1/model.py is not what the manifest lists" in refused(serving, repository)
    list_the_files(repository)
    assert "signed as release 1" in refused(serving, repository)
    repository.delete("signatures.jsonl")
    assert "release 1 in" in (sentence := refused(serving, repository))
    assert "cesta release sign 1" in sentence
    assert not planted.exists()


def test_a_cached_module_does_not_run(
    serving: list[Supervised], repository: Repository, planted: Path
) -> None:
    """Python would run it in place of the source, which is as its publisher signed it."""
    import py_compile

    model = Path(str(repository / "candidate_sampler/1/model.py"))
    source = model.read_bytes()
    plant(repository, planted)
    py_compile.compile(str(model), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    model.write_bytes(source)
    assert "__pycache__" in refused(serving, repository)
    assert not planted.exists()


def test_altered_code_does_not_run_at_a_restart(
    serving: list[Supervised], repository: Repository, planted: Path
) -> None:
    """The watchdog logs why it cannot start the server. Once the file is restored, it can."""
    supervised = Supervised(repository.root)
    serving.append(supervised)
    model = Path(str(repository / "candidate_sampler/1/model.py"))
    source = model.read_bytes()
    plant(repository, planted)
    os.kill(supervised.triton, signal.SIGKILL)
    assert "model.py is not what the manifest lists" in supervised.event("start failed")["reason"]
    assert not planted.exists()
    model.write_bytes(source)
    assert supervised.event("server restored")["release"] == 1
    assert not planted.exists()


def test_altered_code_does_not_run_at_a_promotion(shop: ToyShop, planted: Path) -> None:
    """Neither that of the promoted release, nor that of the active one, which Triton would read again."""
    shop.first(1)
    shop.add(2)
    model = Path(str(shop.repository / "candidate_sampler/2/model.py"))
    source = model.read_bytes()
    plant(shop.repository, planted, 2)
    with pytest.raises(NotPromoted, match=r"model\.py is not what the manifest lists"):
        promote(shop.repository, 2, shop.control)
    model.write_bytes(source)
    plant(shop.repository, planted, 1)
    with pytest.raises(NotPromoted, match="release 1, which is loaded, would be read again, too"):
        promote(shop.repository, 2, shop.control)
    assert not planted.exists()
    assert shop.mistakes(1) == []
