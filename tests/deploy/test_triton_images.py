"""The images that are named anywhere have a tritonserver that is not older than the stated minimum."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from operations.server.version import MINIMUM, TritonVersion
from tests import ROOT

IMAGES = sorted(
    path
    for pattern in ("docker-compose.yml", ".env.example", "deploy/images/*/Dockerfile")
    for path in ROOT.glob(pattern)
)
TAG = re.compile(r"nvcr\.io/nvidia/tritonserver:(\d\d\.\d\d)")


def minimum_tag() -> str:
    """The image of the minimum, by the table of bulletins."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows: dict[str, str] = dict(re.findall(r"^\|.*\| (\d\d\.\d\d) \| ([\d.]+) \|", text, re.MULTILINE))
    assert [version for version in rows.values() if not TritonVersion(version).is_outdated] == [MINIMUM]
    return next(tag for tag, version in rows.items() if version == MINIMUM)


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_names_an_older_image(path: Path) -> None:
    assert all(tag >= minimum_tag() for tag in TAG.findall(path.read_text(encoding="utf-8")))


def test_an_image_is_named_at_all() -> None:
    assert any(TAG.search(path.read_text(encoding="utf-8")) for path in IMAGES)
