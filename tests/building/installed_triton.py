"""The embedded tritonserver laid out as an installation such as /opt/tritonserver."""

from __future__ import annotations

import shutil
from pathlib import Path

import ensemble
from operations.server.environment import find_serving_environment


def lay_out_triton(folder: Path) -> Path:
    """Make the installation from the wheel's files; our Python backend replaces the C++ one."""
    environment = find_serving_environment()
    shutil.copytree(environment.triton / "backends" / "python", folder / "backends" / "python")
    shutil.copy2(environment.stub, folder / "backends" / "python")
    shutil.copytree(Path(ensemble.__file__).parent / "onnx_backend", folder / "backends" / "onnxruntime")
    for name in ("bin", "caches"):
        (folder / name).symlink_to(environment.triton / name)
    (folder / "lib").symlink_to(environment.site_packages / "nvidia_pytriton.libs")
    return folder
