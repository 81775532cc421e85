"""Folders of the project that are no packages, such as deploy/: their places in a checkout and in a wheel.

A wheel holds them beside this module (hatch_build.py): site-packages has no place of its own for them.
"""

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]  # where the packages lie: the checkout, or site-packages
COMMIT: Final = HERE / "commit"  # in a wheel: what it was built from


def find_shipped(folder: str, root: Path = ROOT) -> Path:
    """Return the place of `deploy` or `model_repository` of the project whose packages lie in ``root``."""
    packed = root / "operations" / "shipped" / folder
    return packed if packed.is_dir() else root / folder


def is_checkout() -> bool:
    """Tell whether this code runs in a checkout, or in an image that copies one."""
    return not COMMIT.is_file()


def command(verb: str) -> str:
    """Return what users type for a verb that `make` has, too: `make install` or `cesta install`."""
    return f"{'make' if is_checkout() else 'cesta'} {verb}"
