"""Writes a generated shop: a chain of a named size, a small shop of another kind, or a chain of any size.

python -m loadtests.shops S1 artifacts/shops/S1
python -m loadtests.shops gift-shop artifacts/shops/gift-shop
python -m loadtests.shops S2 artifacts/shops/S2-daily --days csv
python -m loadtests.shops my-size FOLDER --lines 5000000 --users 20000 --items 40000

Then: cesta build --settings FOLDER/shop.toml --out FOLDER/out
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.shops.chain import SIZES, Chain, Size
from loadtests.shops.days import KINDS, Kind
from loadtests.shops.invented import SHOPS, make_tables
from loadtests.shops.tables import SETTINGS, Written, write_shop


def write_named(
    name: str, folder: Path, seed: int, size: Size | None = None, days: Kind | None = None
) -> Written:
    """Write the shop ``name``, or a chain of ``size``, into ``folder``; with ``days`` a file for each day."""
    if chosen := size or SIZES.get(name):
        chain = Chain(chosen, seed)
        return write_shop(folder, chain.lines(), chain.products(), days)
    lines, products = make_tables(SHOPS[name], seed)
    return write_shop(folder, [lines], products, days)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one shop and print its size."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.shops", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("name", help=", ".join([*SIZES, *SHOPS]))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", choices=KINDS, help="receipts as a file for each day, of this kind")
    for option in ("lines", "users", "items"):
        parser.add_argument(f"--{option}", type=int)
    given = parser.parse_args(arguments)
    own = [given.lines, given.users, given.items]
    if any(own) and not all(own):
        parser.error("a chain of your own size needs --lines, --users and --items")
    if given.name not in SIZES | SHOPS and not any(own):
        parser.error(
            f"no shop is called {given.name}: give one of {', '.join([*SIZES, *SHOPS])}, "
            "or --lines, --users and --items"
        )
    size = Size(*own) if all(own) else None
    written = write_named(given.name, given.folder, given.seed, size, given.days)
    print(f"{given.folder / SETTINGS}: {written.lines:,} lines, {written.baskets:,} baskets")
    return 0


if __name__ == "__main__":
    sys.exit(main())
