"""What Google's store answers in another way than S3: conditions on generations, deletions, large objects."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.records.file_record import sha256
from operations.records.object_path import ObjectPath
from operations.releases import history
from operations.releases.history import Action
from operations.releases.stores.store import Repository, open_repository
from tests.running.gcs import Gcs


@pytest.fixture
def repository(gcs: Gcs) -> Repository:
    return open_repository(f"gs://{gcs.bucket()}/shops/one")


@pytest.fixture
def place(gcs: Gcs) -> ObjectPath:
    return ObjectPath.at(f"gs://{gcs.bucket()}/shop")


def test_an_object_is_replaced_only_by_who_read_it_last(place: ObjectPath) -> None:
    """The second writer holds the tag of the first content. Equal contents are two generations, too."""
    path = place / "record"
    assert path.create(b"one")
    assert not path.create(b"two")
    content, tag = path.read_tagged()
    assert content == b"one"
    assert path.replace_tagged(b"three", tag)
    assert not path.replace_tagged(b"four", tag)
    path.write_bytes(b"one")
    assert not path.replace_tagged(b"five", tag)
    assert path.read_bytes() == b"one"


def test_what_is_not_there_can_be_deleted(place: ObjectPath) -> None:
    """Google's store answers 404, S3 does not."""
    (place / "nothing").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (place / "nothing").unlink()


def test_a_large_file_arrives_in_parts_with_its_digest(place: ObjectPath, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(range(256)) * 60_000)  # three parts of 5 MiB
    (place / "folder" / "large").upload(large)
    (found,) = place.files()
    assert (found.key, found.size()) == ("folder/large", 15_360_000)
    assert found.uploaded_sha256() == sha256(large)
    assert found.download(tmp_path / "copy").sha256 == sha256(large)


def test_only_one_of_many_gets_the_lock(repository: Repository) -> None:
    """Another one gets it after them."""
    held: list[int] = []
    start, done = threading.Barrier(4), threading.Barrier(4)

    def take(number: int) -> None:
        start.wait()
        try:
            with repository.lock():
                held.append(number)
                done.wait()
        except CestaError:
            done.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert len(held) == 1
    with repository.lock():
        pass


def test_records_of_many_writers_are_all_kept(repository: Repository) -> None:
    """Each replaces what it read, or reads again."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda release: history.append(repository, Action.RETIRE, release), range(1, 9)))
    assert sorted(record["release"] for record in history.read(repository)) == list(range(1, 9))


def test_a_missing_bucket_is_named(gcs: Gcs) -> None:
    with pytest.raises(CestaError, match=r"gs://nobody-made-it/a/file: no such bucket; create it"):
        (ObjectPath.at("gs://nobody-made-it/a") / "file").write_bytes(b"")
