"""The pinned packages install on the oldest Python that a named distribution has."""

from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from tests import ROOT

OLDEST = "3.11.2"  # Debian 12's


def pins() -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return [Requirement(line) for line in lines if line]


def test_no_pinned_package_needs_a_newer_patch_release_of_python() -> None:
    """pip would call it a conflict of dependencies."""
    refused = []
    for pin in pins():
        try:
            metadata = distribution(pin.name).metadata
        except PackageNotFoundError:  # an extra that is not installed
            continue
        needed = Requirement(f"python{metadata.get('Requires-Python', '')}").specifier
        if metadata["Version"] in pin.specifier and OLDEST not in needed:
            refused.append(f"{pin} needs Python {needed}")
    assert refused == []
