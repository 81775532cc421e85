"""Images install packages whose hashes are known: the .lock files fit the requirements; pip checks them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

IMAGES = ROOT / "deploy" / "images"
LOCKS = sorted(IMAGES.rglob("*.lock"))
AGAIN = "run: make lock"


def locked(path: Path) -> dict[str, str]:
    """Package → version. Each has the hash of at least one file."""
    versions = {}
    for entry in path.read_text().replace("\\\n", " ").splitlines():
        requirement, *hashes = entry.split(" --hash=")
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), requirement
        assert hashes, requirement
        parsed = Requirement(requirement.strip())
        (pin,) = parsed.specifier
        assert pin.operator == "=="
        versions[canonicalize_name(parsed.name)] = pin.version
    return versions


def required(path: Path) -> list[Requirement]:
    """The packages of a requirements file and of those that it includes."""
    found = []
    for line in path.read_text().splitlines():
        if line.startswith("--requirement "):
            found += required(path.parent / line.split()[1])
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def check_fits(lock: Path, wanted: list[Requirement]) -> None:
    versions = locked(lock)
    for requirement in wanted:
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{lock} lacks {requirement}; {AGAIN}"
        assert requirement.specifier.contains(version), f"{lock} has {requirement.name} {version}; {AGAIN}"


@pytest.mark.parametrize(
    ("image", "requirements"), [("cpu", "requirements.txt"), ("gpu", "sampler-requirements.txt")]
)
def test_the_serving_environment_is_locked(image: str, requirements: str) -> None:
    check_fits(IMAGES / image / "serving.lock", required(ROOT / "ensemble" / requirements))


def test_the_supervisor_s_environment_is_locked() -> None:
    """All that the packages and the extras "stores" and "redis" need, in the versions of constraints.txt."""
    ours, client = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for folder in ("", "client")
    )
    extras = ours["optional-dependencies"]
    direct = [*ours["dependencies"], *extras["stores"], *extras["redis"], *client["dependencies"]]
    wanted = [Requirement(line) for line in direct]
    check_fits(IMAGES / "supervisor.lock", [r for r in wanted if r.name != "cesta-client"])
    pins = {canonicalize_name(r.name): r for r in required(ROOT / "constraints.txt")}
    for name, version in locked(IMAGES / "supervisor.lock").items():
        assert name not in pins or pins[name].specifier.contains(version), f"{name} {version}; {AGAIN}"


def test_the_image_for_training_is_locked() -> None:
    """The extras "train" and "stores" in the versions of constraints.txt, PyTorch without CUDA."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(line) for line in [*extras["train"], *extras["etl"], *extras["stores"]]]
    check_fits(IMAGES / "train" / "train.lock", [r for r in wanted if r.name != "cesta"])
    versions = locked(IMAGES / "train" / "train.lock")
    assert versions["torch"].endswith("+cpu")
    pins = {canonicalize_name(r.name): r for r in required(ROOT / "constraints.txt")}
    for name, version in versions.items():
        assert name not in pins or pins[name].specifier.contains(version), f"{name} {version}; {AGAIN}"


@pytest.mark.parametrize(("image", "installs"), [("cpu", 3), ("gpu", 3), ("train", 3)])
def test_an_image_installs_nothing_without_a_hash(image: str, installs: int) -> None:
    """Each pip install checks hashes, or may fetch nothing."""
    text = (IMAGES / image / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in re.split(r"&&|\n", text) if re.search(r"\bpip\b.* install\b", line)]
    assert len(lines) == installs
    for line in lines:
        assert "--require-hashes" in line or {"--no-index", "--no-deps"} <= {*line.split()}, line
    for lock in re.findall(r"--requirement (\S+)", text):
        assert lock in {path.name for path in LOCKS}


@pytest.mark.parametrize(
    ("lock", "python", "words"),
    [
        ("cpu/serving.lock", "3.11", ("--no-deps",)),  # the wheel's Python interface is left out
        ("cpu/serving.lock", "3.12", ("--no-deps",)),  # "cesta install" makes it for both
        ("gpu/serving.lock", "3.12", ()),
        ("supervisor.lock", "3.11", ()),
        ("supervisor.lock", "3.12", ()),
    ],
)
def test_a_lock_can_be_installed(lock: str, python: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """Each package has a wheel with a known hash for this Python, and nothing else is needed."""
    uv = Path(sys.executable).with_name("uv")
    options = ["--require-hashes", "--only-binary=:all:", f"--python-version={python}", *words]
    machine = f"--python-platform=x86_64-manylinux_2_{39 if lock.startswith('gpu') else 35}"
    target = [f"--target={tmp_path / 'empty'}", f"--requirement={IMAGES / lock}"]
    command = [uv, "pip", "install", "--quiet", "--dry-run", *options, machine, *target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_environment_of_the_flows_is_locked() -> None:
    """Prefect and the tools that check the flows, in the versions of this environment's tools."""
    flows = ROOT / "export_scripts" / "flows"
    wanted = required(flows / "requirements.txt")
    check_fits(flows / "requirements.lock", wanted)
    pins = {canonicalize_name(r.name): r for r in required(ROOT / "constraints.txt")}
    for tool in ("mypy", "ruff"):
        assert pins[tool].specifier.contains(locked(flows / "requirements.lock")[tool])


def test_the_image_with_ray_adds_what_ray_needs() -> None:
    """The version that `make scale` tests, and no package that train.lock has already."""
    (ray,) = [r for r in required(ROOT / "tests" / "scale" / "requirements.txt") if r.name == "ray"]
    check_fits(IMAGES / "train" / "ray.lock", [ray])
    assert not locked(IMAGES / "train" / "ray.lock").keys() & locked(IMAGES / "train" / "train.lock").keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    check_fits(IMAGES / "train" / "ray.lock", list(map(Requirement, project["optional-dependencies"]["ray"])))
