"""Whole numbers and moments of a csv are stored as such; what is read of it stays the same."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from export_scripts.receipts.kept import part as part_module
from export_scripts.receipts.kept.kinds import kind_of, stored_as
from export_scripts.receipts.problems import BadInput
from tests.building.daily_sales import kept_parts, run

FIRST = {
    "basket_id": "1",
    "user_id": "7",
    "item_id": "5",
    "timestamp": "2024-03-01 10:00:00",
    "quantity": "1",
}
SECOND = FIRST | {"basket_id": "3"}


@pytest.mark.parametrize(
    ("files", "second"),
    [
        (1, {"user_id": "007", "item_id": "0x9", "timestamp": "2024-03-02T10:00:00", "quantity": "2.5"}),
        (2, {"user_id": "007", "item_id": "0x9", "timestamp": "2024-03-02T10:00:00", "quantity": "2.5"}),
        (2, {"user_id": "", "item_id": "crème", "timestamp": "2024-03-02", "quantity": "0"}),
        (2, {"user_id": "NULL", "basket_id": "2-b", "item_id": "-8"}),
        (2, {"user_id": "8.0", "item_id": "9223372036854775808", "timestamp": "1709290000"}),
        (2, {"user_id": "'8", "item_id": "=5", "timestamp": "", "quantity": "-1"}),
    ],
)
def test_kinds_of_cells_do_not_change_what_is_read(
    tmp_path: Path, files: int, second: dict[str, str]
) -> None:
    """The judge is the same text in parquet, which is not typed. Numbers meet text in one file or in two."""
    tables = []
    for cells in (FIRST, SECOND | second):
        other = {"item_id": "6", "basket_id": cells["basket_id"]}
        lines = [cells, cells | other, cells | {"basket_id": f"{cells['basket_id']}9"}]
        tables.append(pa.Table.from_pylist(lines))
    joined = pa.concat_tables(tables)
    pq.write_table(joined, tmp_path / "sales.parquet")
    (tmp_path / "csv").mkdir()
    for number, table in enumerate([joined] if files == 1 else tables):
        pa.csv.write_csv(table, tmp_path / "csv" / f"{number}.csv")

    def outcome(path: Path) -> object:
        try:
            written = run(path, tmp_path / f"out-{path.name}")
        except BadInput as error:
            return [(problem.what, problem.count, [v for _, v in problem.rows]) for problem in error.problems]
        return {name: content for name, content in written.items() if name != "meta.json"}

    assert outcome(tmp_path / "csv") == outcome(tmp_path / "sales.parquet")


def test_a_column_that_goes_on_as_text_is_read_again_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind is chosen by the first rows."""
    monkeypatch.setattr(part_module, "LOOKED_AT", 2)
    (tmp_path / "a.csv").write_text("basket_id,item_id\n1,1\n1,2\n2,1\n2,x7\n")
    run(tmp_path / "a.csv", tmp_path / "out")
    assert part_module.read_facts(kept_parts(tmp_path / "out")[0]).kinds == ["integer", "text"]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-20", ""], "integer"),
        (["0", "999999999999999999"], "integer"),
        (["01"], "text"),
        (["+1"], "text"),
        (["-0"], "text"),
        ([" 1"], "text"),
        (["0xF00000000"], "text"),  # eleven letters, and a number of eleven digits
        (["2024-02-29 23:59:59"], "moment"),
        (["2023-02-29 23:59:59"], "text"),
        (["2024-02-29 23:59"], "text"),
        (["2024-02-29 24:00:00"], "text"),
        (["1970-01-01 00:00:00"], "text"),  # a placeholder
    ],
)
def test_only_what_is_written_in_one_way_is_typed(texts: list[str], kind: str) -> None:
    assert kind_of(pa.array(texts)) == kind


def test_moments_are_seconds() -> None:
    """2024-03-01 is day 19,783 since 1970: 19,783 × 86,400 s, and one more."""
    seconds = stored_as("moment", pa.array(["2024-03-01 00:00:01"]))
    assert seconds is not None
    assert seconds.to_pylist() == [1_709_251_201]
