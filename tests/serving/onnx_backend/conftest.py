"""Both `onnxruntime` backends, compiled and Python: every test of this folder runs on each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.running import needs
from tests.running.toy_server import Toys


@pytest.fixture(scope="package", params=["compiled", "python"])
def toys(
    request: pytest.FixtureRequest, start_server: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Toys:
    repository = tmp_path_factory.mktemp("toys")
    if request.param == "compiled":
        needs.the_compiled_backend()
    return Toys(repository, start_server(repository, models=(), onnx_backend=request.param))
