"""The sampler's arrays on disk."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import SamplerArrays, load_arrays, save_arrays
from tests.building.world import arrays_of, shop_of


def leaves(arrays: SamplerArrays) -> dict[str, np.ndarray]:
    return {f"{name}.{f}": a for name, group in arrays._asdict().items() for f, a in group._asdict().items()}


@pytest.mark.parametrize("categories", [{}, {"kind": ["a", "", "a"]}])
def test_arrays_come_back_as_they_were(tmp_path: Path, categories: dict[str, list[str]]) -> None:
    """The test includes empty arrays (no users, no categories) and the clock's scalars. Loaded arrays are
    read-only, but for ids.
    """
    saved = arrays_of(shop_of([(0, 0, [1, 2]), (0, 1, [2, 3])], items=3, categories=categories))
    save_arrays(saved, tmp_path)
    loaded = leaves(load_arrays(tmp_path))
    for name, array in leaves(saved).items():
        np.testing.assert_array_equal(loaded[name], array, strict=True)  # dtype and shape too
        ids = name.partition(".")[0] in {"item_ids", "user_ids", "category_names", "store_ids"}
        assert loaded[name].size == 0 or loaded[name].flags.writeable == ids


def test_big_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    save_arrays(arrays_of(shop_of([(1, 0, [1, 2])], items=2)), tmp_path)
    assert isinstance(load_arrays(tmp_path).retrieval.items.base, np.memmap)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    save_arrays(arrays_of(shop_of([(1, 0, [1, 2])], items=2)), tmp_path)
    (tmp_path / "clock.now.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"clock\.now\.npy"):
        load_arrays(tmp_path)
