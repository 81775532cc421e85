"""CHANGELOG.md has its form, and a release takes its notes from there."""

from __future__ import annotations

import pytest

import cesta_client
from docs.site.changelog import VERSION, packaged_version, read_changelog, release_notes
from tests import ROOT

TEXT = """# Changelog

About it.

## [Unreleased]

### Added

- d

## [0.2.0] - 2026-12-01

Words to begin with.

### Added

- c

### Fixed

- b

## [0.1.0] - 2026-11-01

### Added

- a
"""


def test_the_changelog_has_its_form() -> None:
    sections = read_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert sections[0].version == "Unreleased"


def test_a_version_has_its_notes() -> None:
    notes = release_notes("v0.2.0", TEXT, "0.2.0")
    assert notes == "Words to begin with.\n\n### Added\n\n- c\n\n### Fixed\n\n- b"


@pytest.mark.parametrize(
    ("version", "packaged", "sentence"),
    [
        ("v0.3.0", "0.3.0", 'CHANGELOG.md has no section "## [0.3.0] - '),
        ("v0.2.0", "0.1.0", "the packages have version 0.1.0, not 0.2.0"),
        ("Unreleased", "Unreleased", "CHANGELOG.md has no section"),
    ],
)
def test_a_version_without_notes_is_refused(version: str, packaged: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        release_notes(version, TEXT, packaged)
    assert sentence in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("# Changelog", "# News", 'the first line is not "# Changelog"'),
        ("## [0.2.0] - 2026-12-01", "## 0.2.0", '"## 0.2.0" is not'),
        ("## [0.2.0] - 2026-12-01", "## [0.0.2] - 2026-12-01", "not in falling order"),
        ("### Fixed", "### Mended", '[0.2.0] has the kind "Mended"'),
        ("### Fixed", "### Added", "[0.2.0] has Added twice"),
        ("- b\n", "", "[0.2.0] has nothing under Fixed"),
        ("Words to begin with.", "- c", "[0.2.0] has changes above its first kind"),
        ("## [Unreleased]\n\n### Added\n\n- d\n\n", "", 'the first section is not "## [Unreleased]"'),
    ],
)
def test_another_form_is_named(old: str, new: str, sentence: str) -> None:
    assert old in TEXT
    with pytest.raises(ValueError, match=r".") as raised:
        read_changelog(TEXT.replace(old, new, 1))
    assert sentence in str(raised.value)


def test_the_packages_version_is_found() -> None:
    """By its text, so that the notes of a release need no environment."""
    assert packaged_version(VERSION.read_text(encoding="utf-8")) == cesta_client.__version__
