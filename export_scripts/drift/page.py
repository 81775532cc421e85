"""The page of a comparison: drift.html, one file that loads nothing else."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import jinja2

from export_scripts.quality.plots import Axis, Plot, axis, lines, number, percent
from operations.drift.comparison import Finding
from operations.drift.features import BY_NAME, DAY

NAME: Final = "drift.html"
TEMPLATE: Final = Path(__file__).with_name("drift.html.j2")

Daily = Mapping[str, Sequence[tuple[float, float]]]  # feature → (day, distance)


class Bar(NamedTuple):
    """A label's shares, and their lengths in percent of the longest bar."""

    label: str
    before: float
    now: float
    before_length: float
    now_length: float


class Section(NamedTuple):
    """One feature: its findings by window, its shares, its distance day by day."""

    title: str
    findings: list[Finding]
    bars: list[Bar]
    daily: Plot | None


class Summary(NamedTuple):
    """What was compared, in words."""

    release: int | None
    asked: str  # e.g. "receipts from … to …"
    reference: str
    notes: tuple[str, ...] = ()


def html(summary: Summary, findings: Sequence[Finding], daily: Daily | None = None) -> str:
    """Render the page."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(number=number, percent=percent)
    drifted_first = sorted(findings, key=lambda finding: not finding.drifted)
    names = dict.fromkeys(finding.feature for finding in drifted_first)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        summary=summary,
        drifted=[f"{BY_NAME[f.feature].title} ({f.window})" for f in findings if f.drifted],
        sections=[_section(name, findings, (daily or {}).get(name, ())) for name in names],
    )


def _section(name: str, findings: Sequence[Finding], daily: Sequence[tuple[float, float]]) -> Section:
    own = [finding for finding in findings if finding.feature == name]
    return Section(BY_NAME[name].title, own, _bars(own[-1]), _plot(own, daily))


def _bars(finding: Finding) -> list[Bar]:
    most = max((max(c.before, c.now) for c in finding.changes), default=0.0) or 1.0
    return [
        Bar(c.label, c.before, c.now, round(100 * c.before / most, 2), round(100 * c.now / most, 2))
        for c in finding.changes
        if c.before or c.now
    ]


def _plot(findings: Sequence[Finding], daily: Sequence[tuple[float, float]]) -> Plot | None:
    """The distance of each day with the threshold of a day; None for less than two days."""
    threshold = next((finding.threshold for finding in findings if finding.window == DAY), None)
    if len(daily) < 2 or threshold is None:
        return None
    last = daily[-1][0]
    y = axis(max(threshold, *(distance for _, distance in daily)) * 1.1)
    marks = [(f"{day:g}", 100 * day / last) for day in (1.0, last)]
    of = {"distance": list(daily), "threshold": [(0.0, threshold), (last, threshold)]}
    return lines(of, Axis(last, marks), y)
