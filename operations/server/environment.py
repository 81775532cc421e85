"""The serving environment: tritonserver, the packages inside it, and whether they can run on this machine.

This module runs in the application environment. It reads the files of the serving environment and imports
nothing from it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from operations.errors import NoRoom, ServerError
from operations.plain_path import plain_path
from operations.server.cached_environment import cache_folder, find_made, place
from operations.server.distribution import library_sentence
from operations.server.inherited import inherited_variables
from operations.server.libraries import (
    ARCHITECTURE,
    GLIBC,
    glibc_version,
    libpython_folders,
    missing_libraries,
)
from operations.shipped import ROOT, command, is_checkout

_ONNX_BACKEND = ROOT / "ensemble" / "onnx_backend"
_STUB = "triton_python_backend_stub"
_LIBRARIES = "nvidia_pytriton.libs"
_MINIMUM_FREE_BYTES = 64 * 2**20  # of shared memory: a stub takes 1 MiB and grows with its batches


@dataclass(frozen=True)
class ServingEnvironment:
    """A Python environment for the stubs, and the tritonserver that starts them.

    By default that is the embedded tritonserver, from the wheel `nvidia-pytriton` in the same environment.
    """

    root: Path
    site_packages: Path
    installation: Path | None = None  # such as an image's /opt/tritonserver: bin, backends, caches, lib

    @property
    def python_version(self) -> str:
        """For example `"3.11"`, from the name of the folder; the interpreter is not started for this."""
        return self.site_packages.parent.name.removeprefix("python")

    @property
    def triton(self) -> Path:
        """The folder of the server, its backends and its caches."""
        return self.installation or self.site_packages / "pytriton" / "tritonserver"

    @property
    def stub(self) -> Path:
        """The program that runs a Python model. The wheel has one for each `libpython`."""
        if self.installation:
            return self.triton / "backends" / "python" / _STUB
        return self.triton / "python_backend_stubs" / self.python_version / _STUB

    @property
    def program(self) -> Path:
        """The program tritonserver."""
        return self.triton / "bin" / "tritonserver"

    @property
    def interpreter(self) -> Path:
        """The Python from which this environment was made."""
        settings = self.root / "pyvenv.cfg"
        home = (
            re.search(r"^home *= *(.+)$", settings.read_text(), re.MULTILINE) if settings.exists() else None
        )
        folder = Path(home[1].strip()) if home else self.root / "bin"
        named = folder / f"python{self.python_version}"
        return (named if named.exists() else folder / "python3").resolve()

    @property
    def library_path(self) -> list[Path]:
        """The folders with the stub's `libpython` and the server's libraries."""
        python = libpython_folders(plain_path(self.interpreter.parent.parent), self.python_version)
        if self.installation:
            return [*python, self.triton / "lib"]
        # The last one: where the compiled backend's ONNX Runtime is found if its own entry cannot be read.
        return [*python, self.site_packages / _LIBRARIES, self.root / "lib" / "cesta"]


def find_serving_environment(root: Path | None = None) -> ServingEnvironment:
    """Return the environment at `root`, else `$CESTA_SERVING_ENV`, else `.venv-serving` of the checkout.

    An installed cesta has no checkout and looks in the user's cache folder. `$CESTA_TRITON` names a
    tritonserver that replaces the embedded one. Raises `ServerError` without one.
    """
    root = root or _default_root()
    installation = plain_path(Path(os.environ["CESTA_TRITON"])) if os.environ.get("CESTA_TRITON") else None
    plain = plain_path(root)
    for site_packages in sorted(plain.glob("lib/python3.*/site-packages")):
        environment = ServingEnvironment(plain, site_packages, installation)
        if installation or environment.program.is_file():
            return environment
    raise ServerError(
        f'no tritonserver in the serving environment {root}; run "{command("install")}", '
        "or set CESTA_SERVING_ENV to an environment made from ensemble/requirements.txt"
    )


def _default_root() -> Path:
    if named := os.environ.get("CESTA_SERVING_ENV"):
        return Path(named)
    if is_checkout():
        return ROOT / ".venv-serving"
    return find_made(_version()) or place(_version())


def _version() -> str:
    return ".".join(map(str, sys.version_info[:2]))


def check_serving_environment(environment: ServingEnvironment) -> None:
    """Raise `ServerError` for an environment that would fail later, or give wrong answers."""
    if environment.installation:
        _check_installation(environment)
    else:
        _check_architecture()
        _check_stub(environment)
        _check_glibc()
    _check_numpy(environment)


def check_programs(environment: ServingEnvironment) -> None:
    """Raise `ServerError` if the interpreter is gone, or if tritonserver or its stub cannot be started."""
    if not environment.interpreter.exists():
        raise ServerError(
            f"the serving environment {environment.root} was made from {environment.interpreter}, which is "
            f'gone; remove {environment.root} and run "{command("install")}"'
        )
    for program in (environment.program, environment.stub):
        if not os.access(program, os.X_OK):
            raise ServerError(
                f"{program} may not be executed; remount its disk with exec if it is mounted noexec, "
                f"else make it executable: chmod +x {program}"
            )
        try:
            missing = missing_libraries(
                program, loader_path(environment, os.environ if environment.installation else {})
            )
        except OSError as error:
            raise ServerError(f"{program} does not run on this machine ({error.strerror})") from None
        if missing:
            ways_out = {library_sentence(library, environment.python_version): None for library in missing}
            raise ServerError(
                f"{program} cannot be started without {', '.join(missing)}; {'; '.join(ways_out)}"
            )


def loader_path(environment: ServingEnvironment, inherited: Mapping[str, str]) -> str:
    """Return the server's LD_LIBRARY_PATH: the environment's folders, and then those of the variables."""
    return os.pathsep.join(
        [*map(str, environment.library_path), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
    )


def check_space(shared_memory: Path = Path("/dev/shm"), temporary: Path | None = None) -> None:
    """Raise `NoRoom` if there is too little shared memory or temporary disk space."""
    for folder, way_out in (
        (shared_memory, "give it more (docker: --shm-size=1g) or remove files of dead processes there"),
        (temporary, "free some, or point TMPDIR elsewhere"),
    ):
        if folder is None:
            continue
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            raise ServerError(f"{folder} cannot be used ({error.strerror}); {way_out}") from None
        if free < _MINIMUM_FREE_BYTES:
            needed = _MINIMUM_FREE_BYTES // 2**20
            raise NoRoom(f"{folder} has {free // 2**20} MiB free of the {needed} needed; {way_out}")


def assemble_runtime(folder: Path, environment: ServingEnvironment, onnx_library: Path | None = None) -> None:
    """Write the server's `backends/` and `python/` to `folder`, about 5 MB.

    `onnx_library` is the compiled `onnxruntime` backend; without it the Python backend is used.
    """
    if not environment.installation:
        _assemble_backends(folder / "backends", environment, onnx_library)
    _assemble_python(folder / "python", environment)


def backend_directory(folder: Path, environment: ServingEnvironment) -> Path:
    """Return an installation's backends, which include ONNX Runtime; else those in the runtime `folder`."""
    return environment.triton / "backends" if environment.installation else folder / "backends"


def child_variables(
    runtime: Path, environment: ServingEnvironment, *, threads: int, repository: Path | str = ""
) -> dict[str, str]:
    """Return the environment variables of tritonserver. Its stubs inherit them, so they hold no secret."""
    inherited = inherited_variables(repository, is_embedded=environment.installation is None)
    return inherited | {
        # The stub embeds Python and believes that it is the first `python3` on PATH ...
        "PATH": os.pathsep.join([str(runtime / "python" / "bin"), os.environ.get("PATH", os.defpath)]),
        # ... and loads the first libpython here, else the system's, which may have another patch version.
        "LD_LIBRARY_PATH": loader_path(environment, inherited),
        "NUMBA_CACHE_DIR": str(kernels_folder(runtime)),
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), str(threads)),
    }


def kernels_folder(runtime: Path) -> Path:
    """Return the folder of the sampler's compiled kernels; for a user without a home, one below `runtime`."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        folder = Path(named)
    else:
        try:
            folder = cache_folder() / "numba"
        except ServerError:  # this user has none
            folder = runtime / "cache" / "cesta" / "numba"
    plain = plain_path(folder)
    if plain != folder.absolute():
        with contextlib.suppress(OSError):  # the sampler then compiles for itself
            folder.mkdir(parents=True, exist_ok=True)  # a link to nothing could not be filled
    return plain


def _assemble_backends(folder: Path, environment: ServingEnvironment, onnx_library: Path | None) -> None:
    if os.statvfs(folder.parent).f_flag & os.ST_NOEXEC:
        raise ServerError(
            f"{folder.parent.parent} is mounted noexec, but tritonserver runs its backends from there; mount "
            "it with exec (docker: --tmpfs /tmp:exec), or point TMPDIR elsewhere"
        )
    # Copies, not links: Triton refuses a backend library that "escapes" the backend directory.
    ignore = shutil.ignore_patterns("__pycache__", "*.md")
    shutil.copytree(environment.triton / "backends" / "python", folder / "python", ignore=ignore)
    shutil.copy2(environment.stub, folder / "python")
    (folder / "onnxruntime").mkdir()
    if onnx_library:
        shutil.copy2(onnx_library, folder / "onnxruntime" / "libtriton_onnxruntime.so")
    else:
        shutil.copy2(_ONNX_BACKEND / "model.py", folder / "onnxruntime")


def _assemble_python(folder: Path, environment: ServingEnvironment) -> None:
    """Make a virtual environment with the packages of the serving environment that writes no bytecode.

    A `__pycache__` in a model's folder would make Triton reload the version. The stub ignores every PYTHON*
    variable (it embeds Python in isolated mode), but not the .pth files of its virtual environment.
    """
    site_packages = folder / "lib" / environment.site_packages.parent.name / "site-packages"
    site_packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(environment.interpreter)
    home = plain_path(environment.interpreter.parent.parent) / environment.interpreter.parent.name
    (folder / "pyvenv.cfg").write_text(f"home = {home}\n")
    packages = str(environment.site_packages)
    (site_packages / "serving.pth").write_text(
        f"import site, sys; sys.dont_write_bytecode = True; site.addsitedir({packages!r})\n"
    )


def _check_stub(environment: ServingEnvironment) -> None:
    if not environment.stub.is_file():
        versions = ", ".join(sorted(folder.name for folder in environment.stub.parent.parent.iterdir()))
        raise ServerError(
            f"the serving environment {environment.root} has Python {environment.python_version} and its "
            f'tritonserver runs {versions}; run "{command("install")}" with one of those'
        )


def _check_installation(environment: ServingEnvironment) -> None:
    """Check that the installation is complete and that its stub runs the environment's Python."""
    backends = environment.triton / "backends"
    for path in (environment.program, environment.stub, backends / "onnxruntime"):
        if not path.exists():
            raise ServerError(
                f"CESTA_TRITON is {environment.triton} and there is no {path}; set it to a tritonserver "
                "with the backends python and onnxruntime, or unset it for the embedded one"
            )
    linked = {
        version.decode() for version in re.findall(rb"libpython(3\.\d+)\.so", environment.stub.read_bytes())
    }
    if linked and environment.python_version not in linked:
        raise ServerError(
            f"{environment.stub} runs Python {' or '.join(sorted(linked))} and the serving environment "
            f"{environment.root} has Python {environment.python_version}; make one with the former from "
            "ensemble/sampler-requirements.txt and set CESTA_SERVING_ENV to it"
        )


def _check_numpy(environment: ServingEnvironment) -> None:
    names = [
        path.name.removesuffix(".dist-info") for path in environment.site_packages.glob("numpy-*.dist-info")
    ]
    majors = [int(name.removeprefix("numpy-").split(".")[0]) for name in names]
    if not majors or max(majors) >= 2:
        raise ServerError(
            f"the serving environment {environment.root} has {' and '.join(names) or 'no numpy'}, but its "
            "tritonserver needs numpy 1: with numpy 2 tensors arrive corrupt without an error; "
            f'run "{command("install")}"'
        )


def _check_architecture() -> None:
    if (machine := platform.machine()) != ARCHITECTURE:
        raise ServerError(
            f"this machine is {machine} and the embedded tritonserver runs on {ARCHITECTURE}; "
            "set CESTA_TRITON to a tritonserver for this machine"
        )


def _check_glibc() -> None:
    if (version := glibc_version()) < GLIBC:
        minimum, found = (".".join(map(str, numbers)) for numbers in (GLIBC, version))
        library = f"glibc {found}" if found else "no glibc"
        raise ServerError(
            f"this machine has {library} and tritonserver needs {minimum} or newer; "
            "use Ubuntu 22.04, Debian 12 or newer, or the container"
        )
