"""The images that Dockerfiles start from: pulled, or made from Debian's packages where nothing can be pulled.

    python -m tests.containers.bases [BASE ...]    # prints the name of each

A stand-in lies under localhost/cesta-bases/, so that nobody takes it for the official image. Dockerfiles and
docker-compose.yml get the name as a build argument or a setting, and are otherwise used as they are.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from operations.preflight import other_pythons
from tests import ROOT
from tests.containers.engine import Engine, find_engine

STAND_INS = Path(__file__).with_name("stand_ins")
ORIGIN = "localhost/cesta-bases/"
DEBIAN = "debian:bookworm-slim"
SUITE = "bookworm"
# Official name → file of STAND_INS. DEBIAN itself is made by debootstrap.
BASES = {
    "python:3.11-slim-bookworm": "python.Dockerfile",
    "nvcr.io/nvidia/tritonserver": "tritonserver.Dockerfile",  # any tag; so those below
    "prom/prometheus": "prometheus.Dockerfile",
    "prom/alertmanager": "alertmanager.Dockerfile",
    "grafana/grafana": "grafana.Dockerfile",
    "chrislusf/seaweedfs": "seaweedfs.Dockerfile",
    "redis": "redis.Dockerfile",
}
TOO_LARGE = ("nvcr.io/nvidia/tritonserver",)  # 15 GB and more: a test never pulls these
# What this machine's package programs read. A stand-in has copies, so that a Dockerfile finds packages where
# this machine does.
MACHINE = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
PULL_S = 120


def base(engine: Engine, name: str) -> str:
    """Return the name under which the engine has this base. Where it cannot be pulled, it is made.

    Raises LookupError if neither is possible here.
    """
    if name.startswith(TOO_LARGE):
        return make(engine, name)
    full = (
        f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"
    )  # podman takes any that ends so
    made_before = engine.has_image(ORIGIN + name)
    if engine.has_image(full) or (not made_before and _pull(engine, full)):
        return full
    return make(engine, name)


def make(engine: Engine, name: str) -> str:
    """Make the stand-in, or use the one whose file has not changed."""
    if name == DEBIAN:
        return _debian(engine)
    file = next((file for known, file in BASES.items() if name.startswith(known)), None)
    if file is None:
        raise LookupError(f"{name} cannot be pulled, and tests/containers/bases.py cannot make it")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        _copy_machine_settings(context / "machine")
        for file_of_some in (STAND_INS / "weed.py", ROOT / "tests" / "moto-requirements.txt"):
            shutil.copy(file_of_some, context)
        if "COPY python " in (STAND_INS / file).read_text():
            _copy_python(context / "python")
        arguments = {"DEBIAN_IMAGE": _debian(engine)}
        return engine.build(STAND_INS / file, ORIGIN + name, context=context, arguments=arguments)


def _pull(engine: Engine, name: str) -> bool:
    try:
        return engine.run("pull", name, check=False, timeout_s=PULL_S).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _debian(engine: Engine) -> str:
    """Import a new root of debootstrap, or the one that tests/machines/new_machine.sh has made."""
    tag = ORIGIN + DEBIAN
    if engine.has_image(tag):
        return tag
    cached = ROOT / "artifacts" / "machines" / SUITE
    with tempfile.TemporaryDirectory() as folder:
        root = cached if cached.is_dir() else _bootstrap(Path(folder) / SUITE)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
            imported = [engine.program, "import", "-", tag]
            subprocess.run(
                imported, stdin=packed.stdout, env=engine.variables, check=True, capture_output=True
            )
    return tag


def _bootstrap(root: Path) -> Path:
    if not shutil.which("debootstrap"):
        raise LookupError(
            f"{DEBIAN} cannot be pulled, and there is no debootstrap; apt-get install debootstrap"
        )
    command = ["debootstrap", "--variant=minbase", SUITE, str(root), _mirror()]
    subprocess.run(command, check=True, capture_output=True)
    return root


def _mirror() -> str:
    """Return the address from which this machine's apt gets the suite."""
    listed = ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"]
    done = subprocess.run(listed, capture_output=True, text=True, check=False)
    pairs = [line.split() for line in done.stdout.splitlines()]
    sites = [pair[0] for pair in pairs if len(pair) == 2 and pair[1] == SUITE]
    return sites[0] if sites else "http://deb.debian.org/debian"


def _copy_machine_settings(folder: Path) -> None:
    folder.mkdir()
    for source in filter(Path.exists, map(Path, MACHINE)):
        target = folder / source.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


def _copy_python(folder: Path) -> None:
    """Copy this machine's Python 3.12, which Debian 12 lacks."""
    found = next(iter(other_pythons(["3.12"])), None)
    home = (
        found
        and subprocess.run(
            [found, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    if not home or home == "/usr":
        raise LookupError("no Python 3.12 in a folder of its own, such as pyenv's, that could be copied")
    shutil.copytree(
        home, folder, symlinks=True, ignore=shutil.ignore_patterns("test", "tests", "__pycache__")
    )


def main() -> None:
    """Print the name of each base."""
    engine = find_engine()
    if engine is None:
        sys.exit("neither podman nor docker answers")
    for name in sys.argv[1:] or [DEBIAN, *BASES]:
        print(base(engine, name))


if __name__ == "__main__":
    main()
