"""The image with NVIDIA's server: its packages fit Python 3.12, on a base without that server."""

from __future__ import annotations

import pytest

from tests.containers.engine import Engine
from tests.containers.images import build_image

pytestmark = [pytest.mark.timeout(1800)]  # building the image takes most of it


@pytest.fixture(scope="session")
def gpu_image(engine: Engine) -> str:
    try:
        return build_image(engine, "gpu")
    except LookupError as error:
        pytest.skip(str(error))


def test_its_packages_are_those_of_python_3_12(engine: Engine, gpu_image: str) -> None:
    """cesta starts, the sampler's packages can be imported, and the stub's numpy is numpy 1."""
    version = engine.read("run", "--rm", "--entrypoint=python3", gpu_image, "--version")
    assert version.startswith("Python 3.12.")
    assert "serve" in engine.read("run", "--rm", "--entrypoint=cesta", gpu_image, "--help")
    sampler = "import faiss, numba, numpy, onnxruntime; print(numpy.__version__)"
    python = "/opt/cesta/.venv-serving/bin/python"
    printed = engine.read("run", "--rm", f"--entrypoint={python}", gpu_image, "-c", sampler)
    assert printed.startswith("1.")
