"""Reads CHANGELOG.md, which has the form of keepachangelog.com, and prints the notes of one version.

python -m docs.site.changelog v0.2.0
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CHANGELOG: Final = ROOT / "CHANGELOG.md"
VERSION: Final = ROOT / "client" / "src" / "cesta_client" / "_version.py"
UNRELEASED: Final = "Unreleased"
KINDS: Final = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
HEADING: Final = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})")


@dataclass(frozen=True)
class Section:
    """The changes of one version; `date` is "" for those that are not released."""

    version: str
    date: str
    text: str  # of the section, without its heading

    @property
    def kinds(self) -> list[str]:
        return re.findall(r"^### (.+)$", self.text, re.MULTILINE)


def read_changelog(text: str) -> list[Section]:
    """All sections, the newest first. Raises ValueError with a sentence for each departure from the form."""
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    problems = [] if head.startswith("# Changelog\n") else ['the first line is not "# Changelog"']
    sections = []
    for part in parts:
        heading, _, body = part.partition("\n")
        match = HEADING.fullmatch(heading)
        if not match and heading != f"[{UNRELEASED}]":
            problems.append(f'"## {heading}" is not "## [{UNRELEASED}]" or "## [1.2.3] - 2026-01-31"')
        version, date = match.groups() if match else (heading.strip("[]"), "")
        sections.append(Section(version, date, body.strip()))
    problems += [problem for section in sections for problem in _problems(section)]
    if [section.version for section in sections[:1]] != [UNRELEASED]:
        problems.append(f'the first section is not "## [{UNRELEASED}]"')
    order = [tuple(map(int, s.version.split("."))) for s in sections if s.date]
    if order != sorted(set(order), reverse=True):
        problems.append("the versions are not in falling order")
    if problems:
        raise ValueError("CHANGELOG.md: " + "; ".join(problems))
    return sections


def _problems(section: Section) -> list[str]:
    name, kinds = section.version, section.kinds
    before, *bodies = re.split(r"^### .+$", section.text, flags=re.MULTILINE)
    found = [
        f'[{name}] has the kind "{kind}", not one of {", ".join(KINDS)}'
        for kind in kinds
        if kind not in KINDS
    ]
    found += [f"[{name}] has {kind} twice" for kind in KINDS if kinds.count(kind) > 1]
    found += [
        f"[{name}] has nothing under {kind}"
        for kind, body in zip(kinds, bodies, strict=True)
        if not body.strip()
    ]
    if re.search(r"^- ", before, re.MULTILINE):
        found.append(f"[{name}] has changes above its first kind")
    return found


def release_notes(version: str, changelog: str, packaged: str) -> str:
    """The section of a version, which must be that of the packages. Raises ValueError."""
    number = version.removeprefix("v")
    if packaged != number:
        raise ValueError(
            f"the packages have version {packaged}, not {number}: change it before the tag {version}"
        )
    sections = {section.version: section for section in read_changelog(changelog)}
    if number not in sections or number == UNRELEASED:
        raise ValueError(
            f'CHANGELOG.md has no section "## [{number}] - 2026-01-31"; rename [{UNRELEASED}] to it'
        )
    return sections[number].text


def packaged_version(text: str) -> str:
    """The version in the module that both distributions take theirs from."""
    (version,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    return str(version)


def main(version: str) -> int:
    try:
        changelog, packaged = CHANGELOG.read_text("utf-8"), packaged_version(VERSION.read_text("utf-8"))
        print(release_notes(version, changelog, packaged))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
