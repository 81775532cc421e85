"""Which buckets and folders can be a repository, and the empty folders that consoles leave in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from operations.cli import make_app
from operations.errors import CestaError
from operations.records.contract import SAMPLER, SCORER
from operations.releases import publish
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, releases, version_numbers
from operations.releases.retire import retire
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import Repository, open_repository
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.s3 import S3

NO_URLS = [
    *("s3:", "s3:/bucket/x", "s3://", "s3:///x", "S3://bucket/x", "gs:/bucket", "gs://", "az://bucket/x"),
    *("https://bucket/x", "ftp://a/b"),
]
NOT_SERVED = [
    *("s3://bucket//x", "s3://bucket/x//y", "s3://bucket/sh\u00f6p", "s3://b\u00fccket/x", "s3://bucket/a b"),
    *("s3://bucket/a#b", "s3://bucket/a?b", "s3://bucket/a%20b", "s3://bucket/a+b", "s3://bucket/a\\b"),
    *("s3://bucket/../x", "s3://bucket/./x", "s3://bucket/x/..", "s3://Bucket/x", "s3://bu_cket/x"),
    *("s3://user@bucket/x", "s3://bucket:9000/x", "s3://.bucket/x", "s3://bucket/a\nb", "gs://bucket//x"),
]
VERBS = {
    "publish": ["publish", "--out=nowhere"],
    "list": ["release", "list"],
    "verify": ["release", "verify", "1"],
    "promote": ["release", "promote", "1", "--offline"],
    "canary": ["release", "canary", "1", "--offline"],
    "rollback": ["release", "rollback", "--offline"],
    "retire": ["release", "retire", "--offline"],
    "sign": ["release", "sign", "1"],
    "serve": ["serve"],
}


@pytest.mark.parametrize("url", ["s3://b", "s3://b/", "s3://bucket.x/A-b_c.1/..d/e.", "gs://bu_cket/x"])
def test_what_triton_reads_can_be_a_repository(url: str) -> None:
    """Each of the characters was tried on tritonserver 2.51 with moto's S3; Google's store was not."""
    assert str(open_repository(url)) == url.rstrip("/")


@pytest.mark.parametrize("url", NO_URLS)
def test_what_is_no_url_is_told_how_one_looks(url: str) -> None:
    with pytest.raises(CestaError, match=r"cannot be a repository; write a folder, or a bucket as s3://, gs"):
        open_repository(url)


@pytest.mark.parametrize("url", NOT_SERVED)
def test_what_triton_cannot_read_is_refused_with_what_it_can(url: str) -> None:
    with pytest.raises(CestaError, match=r"cannot be served: a bucket.s name has small letters of a to z"):
        open_repository(url)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("url", ["s3://bucket//x", "s3:/bucket"])
def test_every_verb_refuses_it_before_any_request(verb: str, url: str, tmp_path: Path) -> None:
    """`s3:/bucket` was a local folder of that name."""
    from typer.testing import CliRunner

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr("operations.records.object_path.connect", lambda *_: pytest.fail("a connection"))
        done = CliRunner().invoke(make_app(), [*VERBS[verb], "--repository", url])
    assert isinstance(done.exception, CestaError), done.exception
    assert url in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def repository(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Two releases in a bucket; the second is active."""
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    repository = open_repository(f"s3://{s3.bucket()}/shop")
    for seed in (1, 2):
        publish.publish(toy_run(tmp_path / f"run-{seed}", seed), repository)
        promote(repository, seed)
    return repository


@pytest.fixture
def make_folder(repository: Repository, s3: S3) -> Callable[[str], None]:
    """Do what a console's button "new folder" does."""
    bucket = str(repository).removeprefix("s3://")
    return lambda name: (s3.request("PUT", f"/{bucket}/{name}"), None)[1]


PLACES = [
    *("", "new/", ".numbers/", "recommender/", "recommender/2/", f"{SAMPLER}/", f"{SAMPLER}/new%20folder/"),
    *(f"{SAMPLER}/2/", f"{SAMPLER}/2/arrays/", f"{SAMPLER}/2/new/", f"{SAMPLER}/1/new/inner/"),
    *(f"{SCORER}/2/", f"{SCORER}/configs/", f"{SCORER}/9/", "recommender/9/", "recommender_canary/"),
]


def test_empty_folders_anywhere_are_passed_over(
    repository: Repository, make_folder: Callable[[str], None], tmp_path: Path
) -> None:
    for place in PLACES:
        make_folder(place)
    assert releases(repository) == [1, 2]
    for release in (1, 2):
        verify_release(repository, release)
    assert roll_back(repository)["release"] == 1
    promote(repository, 2)
    assert active_release(repository) == 2
    three = publish.publish(toy_run(tmp_path / "run-3", 3), repository)
    promote(repository, three)
    verify_release(repository, three)


def test_an_empty_folder_is_retired_once(repository: Repository, make_folder: Callable[[str], None]) -> None:
    """It cannot be deleted: the store's library loses the slash. It is no release all the same."""
    make_folder(f"{SAMPLER}/1/")
    promote(repository, 1)
    promote(repository, 2)
    make_folder(f"{SCORER}/0/")
    assert 0 in version_numbers(repository)
    assert retire(repository) == []


@pytest.mark.parametrize("place", ["2/evil.py", "evil.py", "evil/__init__.py"])
def test_an_empty_file_is_no_folder(repository: Repository, s3: S3, place: str) -> None:
    """A module without content can hide one with content."""
    s3.request("PUT", f"/{str(repository).removeprefix('s3://')}/{SAMPLER}/{place}")
    with pytest.raises(CestaError, match=r"evil(\.py)? (is not in the manifest|was not written by cesta)"):
        verify_release(repository, 2)
