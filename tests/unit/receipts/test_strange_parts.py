"""OUT/parts that somebody else uses or has changed, and folders in which one file has several names."""

import json
import os
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import structlog.testing

from export_scripts.receipts.problems import BadInput, Problems
from export_scripts.receipts.reading.parts import find_parts, parts_state
from operations.errors import WontOverwrite
from tests.building.daily_sales import day, kept_parts, run, whole, write_days


def test_receipts_in_out_parts_stay(tmp_path: Path) -> None:
    """Parquet files of a shop whose own folder is called parts; nothing of them is kept there."""
    folder = tmp_path / "parts"
    write_days(folder)
    for path in sorted(folder.iterdir()):
        pq.write_table(pyarrow.csv.read_csv(path), path.with_suffix(".parquet"))
        path.unlink()
    names = sorted(path.name for path in folder.iterdir())
    run(folder, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == names


def test_parts_are_not_put_among_the_files_of_others(tmp_path: Path) -> None:
    """The next run would read them as receipts."""
    folder = write_days(tmp_path / "parts")
    names = sorted(path.name for path in folder.iterdir())
    with pytest.raises(WontOverwrite, match=r"parts exists and has no files.json.* --out, or set etl.parts"):
        run(folder, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert run(folder, tmp_path, etl__parts=False)


def test_files_of_others_beside_parts_stay(tmp_path: Path) -> None:
    """What has not the name of a part is nobody's to remove; a link with such a name is not believed."""
    sales, out = write_days(tmp_path / "sales"), tmp_path / "out"
    run(sales, out)
    other, part = out / "parts" / "mine.parquet", kept_parts(out)[0]
    other.write_bytes(b"mine")
    part.unlink()
    part.symlink_to(other)
    assert run(sales, out) == whole(sales, tmp_path)
    assert other.read_bytes() == b"mine"


@pytest.mark.parametrize("content", ["[1]", "null", "[" * 100_000, '{"PATH": 5}', '{"PATH": [[]]}', "\udcff"])
def test_damaged_digests_are_not_believed(tmp_path: Path, content: str) -> None:
    """The files are read for their digests instead."""
    sales, out = write_days(tmp_path / "sales"), tmp_path / "out"
    written = run(sales, out)
    text = content.replace("PATH", str(sales / "2024-03-01.csv"))
    (out / "parts" / "files.json").write_bytes(text.encode(errors="surrogateescape"))
    assert run(sales, out) == written


def test_a_file_with_two_names_is_read_once(tmp_path: Path) -> None:
    """Links, such as one to the latest day, and folders that a list names beside their files."""
    sales = write_days(tmp_path / "sales")
    (sales / "latest.csv").symlink_to("2024-03-03.csv")
    manifest = tmp_path / "sales.manifest"
    manifest.write_text(f"sales\nsales/2024-03-01.csv\n{sales}/../sales/2024-03-02.csv\n")
    for place in (sales, manifest):
        found = find_parts(place, Problems())
        assert found
        assert [Path(str(part.path)).name for part in found.files] == [f"2024-03-0{n}.csv" for n in (1, 2, 3)]


def test_a_copied_day_is_told(tmp_path: Path) -> None:
    """The lines of the copy count twice, as they would in two files that are meant."""
    sales, out = write_days(tmp_path / "sales"), tmp_path / "out"
    (sales / "2024-03-03 (1).csv").write_text(day(3))
    for _ in range(2):  # also if both are old
        with structlog.testing.capture_logs() as logs:
            run(sales, out)
        told = [entry["event"] for entry in logs if "holds the same as" in entry["event"]]
        assert told == [
            "sales: 2024-03-03.csv holds the same as 2024-03-03 (1).csv, so its lines count twice; "
            "remove one of them unless both are meant (1 such file)"
        ]


def test_unfinished_copies_are_passed_over(tmp_path: Path) -> None:
    """A day is being copied into the folder while etl runs."""
    sales = write_days(tmp_path / "sales")
    written = run(sales, tmp_path / "out")
    for ending in (".part", ".tmp", "~", ".filepart"):
        (sales / f"2024-03-04.csv{ending}").write_text(day(4)[:100])
    assert run(sales, tmp_path / "out") == written


def test_another_content_with_the_old_time_and_size_is_a_change(tmp_path: Path) -> None:
    """A program can set the time of modification back, as copies with their times do."""
    path = tmp_path / "sales.csv"
    path.write_text(day(1))
    before, times = parts_state(path), path.stat()
    path.write_text(day(1).replace("2024-03-01 10", "2024-03-01 11"))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert json.loads(parts_state(path))[0][1] == json.loads(before)[0][1]
    assert parts_state(path) != before


@pytest.mark.parametrize("entry", ["null", "5", "[]"])
def test_an_address_in_an_unload_is_a_text(tmp_path: Path, entry: str) -> None:
    """No file is called None."""
    (tmp_path / "manifest.json").write_text(f'{{"entries": [{{"url": {entry}}}]}}')
    problems = Problems()
    assert find_parts(tmp_path / "manifest.json", problems) is None
    assert "it is no list of files" in str(problems.collected[0])


def test_zero_bytes_are_no_blank_lines(tmp_path: Path) -> None:
    """After a power failure a file can have its length and not its last lines."""
    sales = write_days(tmp_path / "sales")
    path = sales / "2024-03-02.csv"
    path.write_bytes(path.read_bytes()[:2000] + bytes(4096))
    with pytest.raises(
        BadInput, match=r"2024-03-02.csv: the file cannot be read: it has zero bytes in the place"
    ):
        run(sales, tmp_path / "out")


def test_an_address_is_told_without_its_secrets(tmp_path: Path) -> None:
    """A warehouse's list of signed addresses, of which etl reads none."""
    (tmp_path / "sales.manifest").write_text("https://user:secret@host/a/b.csv?X-Amz-Signature=secret\n")
    problems = Problems()
    assert find_parts(tmp_path / "sales.manifest", problems) is None
    assert "https://host/a/b.csv: https:// is no place that is read" in str(problems.collected[0])
    assert "secret" not in str(problems.collected[0])


def hive(folder: Path, *names: str, column: str = "timestamp") -> Path:
    """A file of one day in each folder; those whose folder is no key have the column themselves."""
    for number, name in enumerate(names, 1):
        lines = [line.split(",") for line in day(number).splitlines()]
        place = lines[0].index(column)
        file = folder / name / "sales.csv"
        file.parent.mkdir(parents=True)
        kept = [line[:place] + line[place + 1 :] if "=" in name else line for line in lines]
        file.write_text("\n".join(map(",".join, kept)))
    return folder


@pytest.mark.parametrize("names", [("a", "b/timestamp=2024-03-02"), ("a/timestamp=2024-03-01", "b")])
def test_a_column_may_be_in_the_names_of_some_folders_only(tmp_path: Path, names: tuple[str, str]) -> None:
    """A program that wrote plain files now writes hive folders, or the other way round."""
    sales, out = hive(tmp_path / "sales", *names), tmp_path / "out"
    written = run(sales, out)
    assert run(sales, out) == written
    times = pq.read_table(out / "data" / "baskets.parquet")["time"].to_numpy() // 86_400
    assert sorted(set(times.tolist())) == [19_783, 19_784]


def test_a_used_column_that_the_folder_names_too_is_told(tmp_path: Path) -> None:
    """The two may differ: the day of the export and the day of the receipt."""
    folder = tmp_path / "sales" / "timestamp=2025-01-01" / "quantity=5"
    folder.mkdir(parents=True)
    (folder / "sales.csv").write_text(day(1))
    with structlog.testing.capture_logs() as logs:
        run(tmp_path / "sales", tmp_path / "out")
    told = [str(log["event"]) for log in logs if "name of its folder" in str(log["event"])]
    assert len(told) == 2
    assert told[0].startswith(
        'sales: the column "timestamp" is in timestamp=2025-01-01/quantity=5/sales.csv '
    )
