"""A shop that writes a csv for each day, and runs of `etl` on it with and without kept parts."""

from pathlib import Path

from export_scripts.etl import etl
from export_scripts.settings import load_settings

HEADER = "basket_id,user_id,item_id,timestamp,quantity\n"


def day(number: int, *, first_basket: int = 0, quantity: str = "1") -> str:
    """Receipts of one day, three lines each."""
    baskets = range(first_basket or 1000 * number, (first_basket or 1000 * number) + 40)
    lines = (
        f"{basket},{basket % 7},{(basket + step) % 11},"
        f"2024-03-{number:02} 10:{basket % 60:02}:00,{quantity}\n"
        for basket in baskets
        for step in (0, 1, 1)
    )
    return HEADER + "".join(lines)


def write_days(folder: Path) -> Path:
    """Write three days of receipts."""
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"2024-03-{number:02}.csv").write_text(day(number))
    return folder


def run(path: Path | str, out: Path, **settings: object) -> dict[str, bytes]:
    """The written files of a run."""
    overrides = {"data.transactions": path} | {key.replace("__", "."): v for key, v in settings.items()}
    folder = etl(load_settings(overrides=overrides), out)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def whole(path: Path, tmp_path: Path, **settings: object) -> dict[str, bytes]:
    """The written files of a run that keeps nothing."""
    written = run(path, tmp_path / "whole", etl__parts=False, **settings)
    assert [folder.name for folder in (tmp_path / "whole").iterdir()] == ["data"]
    return written


def kept_parts(out: Path) -> list[Path]:
    return sorted((out / "parts").glob("*.parquet"))
