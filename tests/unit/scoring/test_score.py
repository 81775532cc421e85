"""`cesta score`: the best items of the whole catalog, whole or not at all, whoever computes them."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ensemble.candidate_sampler.sources import SOURCES
from ensemble.reference import Reference
from export_scripts.score import ResultManifest, Wanted, score
from export_scripts.scoring import partition, questions
from export_scripts.scoring.results import COMPARISON, LEFT_OUT, MANIFEST
from export_scripts.settings import Settings, load_settings
from operations.errors import CestaError, WontOverwrite
from operations.records.object_path import ObjectPath
from operations.releases.stores.store import Repository, open_repository
from tests import ROOT
from tests.building.old_releases import unpack_old_repository
from tests.building.scored import publish_release, random_scorer
from tests.building.world import arrays_of, random_shop, tower_of
from tests.running.small_disk import small_disk

ITEMS, USERS, K = 60, 12, 7
SEVEN = Wanted(K)
# Room for all that the sources propose, which is all items: the sampler loses nothing.
NO_LOSS = {"capacity": 64, "similar": 20, "popular": 10, "per_category": 5, "fill": 60, "width": 1024}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A release whose sampler hands all of its items to the scorer; its lists have 20 places."""
    rng = np.random.default_rng(3)
    shop = random_shop(rng, ITEMS, USERS, 80)
    arrays = arrays_of(shop, retrieval=tower_of(shop, rng))
    scorer = random_scorer(shop.n_users, shop.n_items)
    folder = tmp_path_factory.mktemp("release")
    return publish_release(folder, shop, arrays, scorer, answers_per_list=20, **NO_LOSS)


@pytest.fixture(autouse=True)
def small_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five questions a partition, so that twelve users are three."""
    monkeypatch.setattr(questions, "FEWEST", 5)


def settings_of(workers: int = 1) -> Settings:
    return load_settings(overrides={"engine.workers": workers})


def run(
    repository: Repository, place: Path | str, wanted: Wanted = SEVEN, workers: int = 1
) -> ResultManifest:
    return score(settings_of(workers), repository, str(place), wanted)


def rows_of(place: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for file in sorted(place.glob("partition=*/*.parquet")):
        found += pq.ParquetFile(file).read().to_pylist()
    return found


def files_of(place: Path) -> dict[str, bytes]:
    return {
        path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()
    }


def served(repository: Repository, user: str, basket: Sequence[str] = ()) -> list[tuple[str, list[str]]]:
    """Items and names of reasons of the served answer."""
    reference = Reference.load(Path(str(repository)).parent / "run")
    query = reference.vocabulary.query([item.encode() for item in basket], user.encode())
    answer = reference.recommend([query])
    names = [[name for name, bit in SOURCES.items() if bits & bit] for bits in answer.reasons[0].tolist()]
    return [pair for pair in zip(answer.item_ids[0].tolist(), names, strict=True) if pair[0]]


def test_every_user_gets_the_served_list_where_the_sampler_loses_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    manifest = run(repository, tmp_path / "scores")
    rows = rows_of(tmp_path / "scores")
    users = sorted(f"u{n}" for n in range(1, USERS + 1))
    by_user = {user: [row for row in rows if row["user_id"] == user] for user in users}
    assert [row["user_id"] for row in rows] == [f"u{n}" for n in range(1, USERS + 1) for _ in range(K)]
    for user, own in by_user.items():
        assert [row["place"] for row in own] == list(range(1, K + 1))
        assert [(row["item_id"], row["reasons"]) for row in own] == served(repository, user)[:K]
        assert [row["score"] for row in own] == sorted((row["score"] for row in own), reverse=True)
    assert (manifest.asked, manifest.rows, manifest.left_out) == (USERS, USERS * K, 0)


def test_a_basket_gets_the_served_list_without_its_own_items(repository: Repository, tmp_path: Path) -> None:
    """Baskets lie in lines, in any order, some twice; b2 has no user, and b3 an unknown item."""
    file = tmp_path / "baskets.csv"
    file.write_text(
        "basket_id,user_id,item_id\nb3,u2,i0003\nb1,u1,i0001\nb2,,i0004\nb1,u1,i0002\nb1,u1,i0001\nb3,u2,none\n"
    )
    run(repository, tmp_path / "scores", Wanted(K, baskets=file))
    rows = rows_of(tmp_path / "scores")
    baskets = {"b1": ("u1", ["i0001", "i0002"]), "b2": ("", ["i0004"]), "b3": ("u2", ["i0003"])}
    assert [row["basket_id"] for row in rows] == [basket for basket in baskets for _ in range(K)]
    for basket, (user, items) in baskets.items():
        own = [row for row in rows if row["basket_id"] == basket]
        assert {row["user_id"] for row in own} == {user or None}
        assert [(row["item_id"], row["reasons"]) for row in own] == served(repository, user, items)[:K]
        assert not {row["item_id"] for row in own} & set(items)


def test_a_list_of_users_is_sorted_and_tells_whom_it_leaves_out(
    repository: Repository, tmp_path: Path
) -> None:
    file = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": ["u3", "nobody", None, "u1", "u3", "x" * 200]}), file)
    manifest = run(repository, tmp_path / "scores", Wanted(K, users=file))
    rows = rows_of(tmp_path / "scores")
    assert [row["user_id"] for row in rows] == ["u1"] * K + ["u3"] * K
    with (tmp_path / "scores" / LEFT_OUT).open() as text:
        left_out = dict(list(csv.reader(text))[1:])
    assert left_out.keys() == {"nobody", "x" * 200}
    assert left_out["nobody"] == "the release does not know this user"
    assert "200 bytes; at most 128" in left_out["x" * 200]
    assert (manifest.asked, manifest.left_out) == (4, 2)


def test_whole_numbers_of_a_column_with_empty_cells_are_ids(tmp_path: Path) -> None:
    """pandas makes them fractions, and etl reads 7.0 as 7."""
    file = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": [7.0, None, float("nan"), 12345678.0, 0.5]}), file)
    with questions.open_file("users", str(file), "100MB", tmp_path) as found:
        assert [key for keys, _, _ in found.batches() for key in keys] == ["0.5", "12345678", "7"]


def test_a_list_of_which_nobody_can_be_scored_does_not_replace_a_result(
    repository: Repository, tmp_path: Path
) -> None:
    file = tmp_path / "users.csv"
    run(repository, tmp_path / "scores")
    before = files_of(tmp_path / "scores")
    file.write_text("user_id\nnobody\nno one\n")
    with pytest.raises(
        CestaError, match=r'none of its 2 users can be .* the first is "no one", and the release'
    ):
        run(repository, tmp_path / "scores", Wanted(K, users=file))
    assert files_of(tmp_path / "scores") == before


def test_ids_in_lists_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user_id": [["u1"], ["u2"]]}), file)
    with (
        pytest.raises(CestaError, match=r"the column user_id is VARCHAR\[\]; give one id in each line"),
        questions.open_file("users", str(file), "100MB", tmp_path),
    ):
        pass


def test_the_same_bytes_come_from_any_number_of_workers(repository: Repository, tmp_path: Path) -> None:
    for workers in (1, 2):
        run(repository, tmp_path / str(workers), workers=workers)
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")
    assert len(files_of(tmp_path / "1")) == 4  # three partitions and the manifest


def test_a_run_that_was_stopped_goes_on(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three partitions were written, and then a score in the second changes. It is computed again."""
    run(repository, tmp_path / "whole")
    computed = stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(repository, tmp_path / "scores")
    assert not (tmp_path / "scores").exists()
    unfinished = tmp_path / ".scores.unfinished"
    assert [path.parent.name for path in sorted(unfinished.rglob("*.parquet"))] == [
        "partition=00000",
        "partition=00001",
    ]
    second = unfinished / "partition=00001" / "scores.parquet"
    content = bytearray(second.read_bytes())
    score_in_it = pq.ParquetFile(second).read()["score"][3].as_py()
    place = content.find(np.float32(score_in_it).tobytes())  # random numbers are stored as they are
    assert place > 0
    content[place] ^= 1
    second.write_bytes(content)
    computed.clear()
    monkeypatch.undo()
    monkeypatch.setattr(questions, "FEWEST", 5)
    computed = stop_after(99, monkeypatch)
    run(repository, tmp_path / "scores")
    assert computed == [1, 2]
    assert files_of(tmp_path / "scores") == files_of(tmp_path / "whole")
    assert not unfinished.exists()


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stop a run as Ctrl-C does, before another partition is computed; those that were."""
    computed: list[int] = []
    compute = partition.score_partition

    def counted(shared: partition.Shared, asked: questions.Asked) -> partition.Scored:
        if len(computed) == count:
            raise KeyboardInterrupt
        computed.append(asked.number)
        return compute(shared, asked)

    monkeypatch.setattr("export_scripts.score.score_partition", counted)
    return computed


def test_partitions_of_another_run_are_not_believed(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stopped run gave six items to each user."""
    stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(repository, tmp_path / "scores", Wanted(K - 1))
    computed = stop_after(99, monkeypatch)
    run(repository, tmp_path / "scores")
    assert computed == [0, 1, 2]
    assert len(rows_of(tmp_path / "scores")) == USERS * K


def test_a_result_that_is_there_is_not_computed_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(repository, tmp_path / "scores")
    computed = stop_after(0, monkeypatch)
    assert run(repository, tmp_path / "scores") == first
    assert computed == []


def test_readers_have_the_old_result_until_the_new_one_is_whole(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(repository, tmp_path / "scores")
    before = files_of(tmp_path / "scores")
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(repository, tmp_path / "scores", Wanted(3))
    assert files_of(tmp_path / "scores") == before
    monkeypatch.undo()
    run(repository, tmp_path / "scores", Wanted(3))
    assert len(rows_of(tmp_path / "scores")) == USERS * 3


def test_files_and_manifest_name_the_release(repository: Repository, tmp_path: Path) -> None:
    manifest = run(repository, tmp_path / "scores")
    written = json.loads((tmp_path / "scores" / MANIFEST).read_text())
    assert written == manifest.json_object() | {"partitions": written["partitions"]}
    file = next((tmp_path / "scores").rglob("*.parquet"))
    about = json.loads(pq.read_schema(file).metadata[b"cesta"])
    for name in ("release", "digest", "k", "kind", "questions"):
        assert about[name] == written[name] == getattr(manifest, name)
    assert (written["release"], written["k"], written["items"]) == (1, K, ITEMS)


@pytest.mark.parametrize(
    ("name", "content", "kind", "sentence"),
    [
        ("a.csv", "customer\n1\n", "users", r"a\.csv has the columns customer; --users needs user_id$"),
        ("a.csv", "basket_id\n1\n", "baskets", r"the columns basket_id; --baskets needs item_id$"),
        ("a.txt", "user_id\n1\n", "users", r"a\.txt is neither \.csv nor \.parquet"),
        ("a.csv", "user_id\n", "users", r"a\.csv has no user; give a file with at least one line$"),
        ("a.parquet", "nothing", "users", r"a\.parquet cannot be read: "),
        (
            "a.csv",
            "basket_id,user_id,item_id\nb,u1,i1\nb,u2,i1\n",
            "baskets",
            r'basket "b" has the users u1 and u2; a basket has one user$',
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    repository: Repository, tmp_path: Path, name: str, content: str, kind: str, sentence: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    wanted = Wanted(K, users=file) if kind == "users" else Wanted(K, baskets=file)
    with pytest.raises(CestaError, match=sentence):
        run(repository, tmp_path / "scores", wanted)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_more_places_than_items_are_refused(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r"^--k 61: release 1 has 60 items, .*; give at most 60$"):
        run(repository, tmp_path / "scores", Wanted(61))


def test_all_items_can_be_asked_for(repository: Repository, tmp_path: Path) -> None:
    """A basket has one item fewer: its own does not come back."""
    file = tmp_path / "baskets.csv"
    file.write_text("basket_id,item_id\nb,i0001\n")
    run(repository, tmp_path / "scores", Wanted(ITEMS, baskets=file))
    items = [row["item_id"] for row in rows_of(tmp_path / "scores")]
    assert sorted(items) == [f"i{row:04d}" for row in range(2, ITEMS + 1)]


def test_a_release_that_was_changed_is_not_scored(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    shop = random_shop(rng, 20, 2, 10)
    repository = publish_release(tmp_path, shop, arrays_of(shop), random_scorer(3, 21), **NO_LOSS)
    table = tmp_path / "repository" / "candidate_sampler" / "1" / "arrays" / "popularity.score.npy"
    table.write_bytes(table.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(CestaError, match=r"popularity\.score\.npy is not what the manifest lists"):
        run(repository, tmp_path / "scores")


def test_a_folder_of_others_is_left_alone(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(WontOverwrite, match=r"has no _manifest\.json"):
        run(repository, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_a_full_disk_keeps_what_is_finished(repository: Repository, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            run(repository, disk.root / "scores")
        (disk.root / "filling").unlink()
        assert run(repository, disk.root / "scores").rows == USERS * K


@pytest.mark.parametrize(("scheme", "store"), [("s3", "s3"), ("gs", "gcs")])
def test_a_bucket_has_the_manifest_last(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    scheme: str,
    store: str,
) -> None:
    """A stopped run leaves no manifest, and the one of an earlier result is gone. The next run goes on."""
    place = f"{scheme}://{request.getfixturevalue(store).bucket()}/scores"
    run(repository, place, Wanted(3))
    stop_after(1, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run(repository, place)
    root = ObjectPath.at(place)
    assert not (root / MANIFEST).exists()
    computed = stop_after(99, monkeypatch)
    run(repository, place)
    run(repository, tmp_path / "scores")
    found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.files()}
    assert computed[:2] == [1, 2]
    assert found == files_of(tmp_path / "scores")
    (root / "photo.jpg").write_bytes(b"")
    with pytest.raises(WontOverwrite, match=r"photo\.jpg is not of a result of cesta"):
        run(repository, place, Wanted(3))


def test_the_comparison_lies_beside_the_result(repository: Repository, tmp_path: Path) -> None:
    """The sampler of this release loses nothing, so all twelve lists are equal."""
    manifest = run(repository, tmp_path / "scores", Wanted(K, compared=100))
    counts = manifest.comparison
    assert counts
    assert (counts["questions"], counts["identical"]) == (USERS, USERS)
    assert counts["score_error"] < 1e-5
    assert (tmp_path / "scores" / COMPARISON).read_text() == "id,place,item_id,cause\n"


def test_a_release_of_another_sampler_is_not_scored(tmp_path: Path) -> None:
    """Release 1 of commit 85684cf has the arrays of a toy."""
    repository = open_repository(unpack_old_repository(tmp_path / "repository"))
    with pytest.raises(CestaError, match=r"^release 1 was made by another version of cesta, .*again$"):
        run(repository, tmp_path / "scores")


def test_the_readers_of_the_documents_read_a_result(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The Python blocks of docs/offline-scoring.md: a query, commands for Redis, lines for Postgres."""
    text = (ROOT / "docs" / "offline-scoring.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    run(repository, tmp_path / "artifacts" / "scores")
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    printed = []
    for block in blocks:
        exec(block, {})
        printed.append(capfd.readouterr().out)
    query, redis, lines = printed
    assert "item_id" in query
    assert redis.count("RPUSH") == USERS
    assert redis.endswith("$3\r\nSET\r\n$14\r\nscores:release\r\n$1\r\n1\r\n")
    assert len(lines.splitlines()) == USERS * K
    assert lines.startswith("u1,1,i0")
