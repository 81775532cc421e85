"""What wheels and sdists hold: all that an installed cesta needs, and no file of another distribution."""

from __future__ import annotations

import re
import subprocess
import tarfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import cesta_client
from tests import ROOT
from tests.building.distributions import SOURCES, Distributions, build

OWN = {"cesta", "cesta-client"}


def tracked(*folders: str) -> set[str]:
    """The files of the checkout that git knows, relative to ROOT, those still to be committed included."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def described(files: dict[str, bytes]) -> Metadata:
    """The wheel's metadata; it is checked as an index checks it."""
    (name,) = (name for name in files if name.endswith(".dist-info/METADATA"))
    return Metadata.from_email(files[name], validate=True)


def test_the_wheel_holds_every_file_of_the_packages_and_of_the_shipped_folders(
    built_wheels: Distributions,
) -> None:
    packages = tracked("ensemble", "export_scripts", "operations")
    shipped = {f"operations/shipped/{name}" for name in tracked("deploy", "model_repository")}
    held = {name for name in built_wheels.files("cesta") if ".dist-info/" not in name}
    assert held == packages | shipped | {"operations/shipped/commit"}


def test_the_clients_wheel_holds_the_client(built_wheels: Distributions) -> None:
    held = {name for name in built_wheels.files("cesta_client") if ".dist-info/" not in name}
    assert {f"client/src/{name}" for name in held} == tracked("client/src")


def test_shipped_files_are_those_of_the_checkout(built_wheels: Distributions) -> None:
    files = built_wheels.files("cesta")
    for name in tracked("deploy", "model_repository"):
        assert files[f"operations/shipped/{name}"] == (ROOT / name).read_bytes(), name


def test_an_sdist_holds_the_checkout(built_wheels: Distributions) -> None:
    """All that git tracks, tests included; beside it only the commit and the metadata."""
    held = built_wheels.sources("cesta")
    assert held.keys() - tracked() == {"PKG-INFO", "operations/shipped/commit"}
    assert tracked() - held.keys() == set()
    client = built_wheels.sources("cesta_client")
    assert client.keys() - {"PKG-INFO", ".gitignore"} == {
        n.removeprefix("client/") for n in tracked("client")
    }


@pytest.mark.parametrize("name", SOURCES)
def test_a_wheel_from_the_sdist_equals_the_one_from_the_checkout(
    built_wheels: Distributions, tmp_path: Path, name: str
) -> None:
    """Byte by byte, although the sdist lies outside any repository."""
    with tarfile.open(built_wheels.sdist(name)) as sdist:
        sdist.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    build(source, tmp_path / "dist")
    assert Distributions(tmp_path / "dist").wheel(name).read_bytes() == built_wheels.wheel(name).read_bytes()


@pytest.mark.parametrize("name", SOURCES)
def test_a_wheel_s_metadata_is_valid_and_names_the_one_version(
    built_wheels: Distributions, name: str
) -> None:
    metadata = described(built_wheels.files(name))
    assert str(metadata.version) == cesta_client.__version__
    assert metadata.description_content_type == "text/markdown"
    assert metadata.license_expression == "Apache-2.0"


def test_the_wheel_records_its_commit(built_wheels: Distributions) -> None:
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    recorded = built_wheels.files("cesta")["operations/shipped/commit"].decode()
    assert re.fullmatch(rf"{head}(\+changes)?\n", recorded)


def test_a_build_without_git_takes_the_commit_from_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built_wheels: Distributions
) -> None:
    """An image's build has the files without the repository; without the variable it is unknown."""
    with tarfile.open(built_wheels.sdist("cesta")) as sdist:
        sdist.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    (source / "operations" / "shipped" / "commit").unlink()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    for variable, commit in (("", "unknown\n"), ("0123abc", "0123abc\n")):
        monkeypatch.setenv("CESTA_COMMIT", variable)
        build(source, tmp_path / "dist")
        assert Distributions(tmp_path / "dist").files("cesta")["operations/shipped/commit"].decode() == commit


def test_no_file_collides_with_another_distribution_s(built_wheels: Distributions) -> None:
    """Nor does another distribution have one of our packages: pip would mix them without a word."""
    ours = {*built_wheels.files("cesta"), *built_wheels.files("cesta_client")}
    packages = {name.partition("/")[0] for name in ours if ".dist-info/" not in name}
    assert packages == {"cesta_client", "ensemble", "export_scripts", "operations"}
    others = [found for found in distributions() if found.name not in OWN]
    assert len(others) > 50  # with the extras of the tests
    for other in others:
        theirs = {Path(str(path)).parts[0].removesuffix(".py") for path in other.files or ()}
        assert not theirs & packages, other.name
