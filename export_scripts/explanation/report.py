"""An explained answer as JSON, and as tables for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.table import Table

from export_scripts.explanation.evidence import Contributor
from export_scripts.explanation.explainer import Explanation, GroupPart, Loss
from export_scripts.explanation.groups import MEANINGS
from operations.gateway.items import Items

SHOWN: Final = 3  # groups in a line of the answer
BASELINE: Final = "mean score of the candidates of this question"
Sources = Mapping[str, Contributor | None]


@dataclass(frozen=True)
class Report:
    """An answer of a release with its explanations, and the items that were asked about."""

    release: int
    question: Mapping[str, Any]  # as it was asked
    candidates: int
    proposed: int
    answer: Sequence[Explanation]
    losses: Sequence[Loss]
    milliseconds: float  # of CPU, for sampling, scoring and explaining

    def as_object(self) -> dict[str, Any]:
        """The report for JSON."""
        first = next(iter(self.answer), None)
        return {
            "release": self.release,
            "question": self.question,
            "proposed": self.proposed,
            "candidates": self.candidates,
            "baseline": {"score": first.baseline if first else None, "meaning": BASELINE},
            "items": [_explanation(one) for one in self.answer],
            "others": [_loss(one) for one in self.losses],
            "milliseconds": round(self.milliseconds, 1),
        }

    def tables(self, items: Items | None) -> list[Table | str]:
        """The report for a terminal, with the names of ``items``."""
        names = {item_id: item.get("name", "") for item_id, item in (items or {}).items()}
        shown: list[Table | str] = [self._answer_table(names)]
        for loss in self.losses:
            shown.append(f"{_named(loss.fate.item_id, names)}: {loss.fate.sentence}")
            if loss.prior:
                beside = f"{sum(loss.prior.values()):+.2f} beside the average candidate"
                shown.append(f"  prior: {beside}: {_largest(loss.prior)}")
                shown.append(f"  proposed by {_sources(loss.sources, names)}")
            shown += [f"  {source}: {miss.sentence}" for source, miss in loss.misses.items()]
            if loss.explanation:
                shown.append(_detail_table(loss.explanation, names))
        return shown

    def _answer_table(self, names: Mapping[str, str]) -> Table:
        mean = f", whose mean score is {self.answer[0].baseline:.2f}" if self.answer else ""
        title = (
            f"Why these (release {self.release}): {self.candidates} candidates of {self.proposed:,} proposed"
        )
        table = Table(title=title + mean, title_justify="left")
        for column in ("rank", "item", "score", "above or below the average by", "proposed by"):
            table.add_column(column, justify="right" if column in ("rank", "score") else "left")
        for one in self.answer:
            adds = _largest({part.group: part.total for part in one.groups})
            named = _named(one.item_id, names)
            table.add_row(str(one.rank), named, f"{one.score:.2f}", adds, _sources(one.sources, names))
        return table


def _detail_table(one: Explanation, names: Mapping[str, str]) -> Table:
    """All groups of a score with their features; the rows of the groups add up to the score."""
    table = Table(title=f"The score of {_named(one.item_id, names)}", title_justify="left")
    numbers = ("value", "average", "wide", "network", "total")
    for column in ("part", *numbers, "most of it from"):
        table.add_column(column, justify="right" if column in numbers else "left")
    table.add_row(BASELINE, "", "", "", "", f"{one.baseline:.3f}", "")
    for part in one.groups:
        sums = (f"{part.wide:+.3f}", f"{part.network:+.3f}", f"{part.total:+.3f}")
        table.add_row(_words(part.group), "", "", *sums, MEANINGS[part.group], style="bold")
        for of in part.features:
            if of.value or of.wide:
                figures = (f"{of.value:.3f}", f"{of.average:.3f}", f"{of.wide:+.3f}")
                table.add_row(f"  {of.feature}", *figures, "", "", _contributor(of.contributor, names))
    table.add_row("score", "", "", "", "", f"{one.score:.3f}", "", style="bold")
    return table


def _largest(parts: Mapping[str, float]) -> str:
    """The groups that add or cost most."""
    by_size = sorted(parts.items(), key=lambda part: -abs(part[1]))
    return ", ".join(f"{_words(group)} {part:+.2f}" for group, part in by_size[:SHOWN])


def _sources(sources: Sources, names: Mapping[str, str]) -> str:
    told = ((name, _contributor(who, names)) for name, who in sources.items())
    return ", ".join(f"{name} ({who})" if who else name for name, who in told)


def _contributor(who: Contributor | None, names: Mapping[str, str]) -> str:
    if who is None:
        return ""
    named = _named(who.name, names) if who.kind == "basket_item" else who.name
    words = f"{_words(who.kind)} {named}".strip() if who.kind != "basket_item" else named
    return words if who.share is None else f"{words}, {who.share:.0%}"


def _named(item_id: str, names: Mapping[str, str]) -> str:
    name = names.get(item_id, "")
    return f"{item_id} {name}" if name and name != item_id else item_id


def _words(name: str) -> str:
    return name.replace("_", " ")


def _explanation(one: Explanation) -> dict[str, Any]:
    return {
        "item_id": one.item_id,
        "rank": one.rank,
        "score": one.score,
        "sources": {name: asdict(who) if who else None for name, who in one.sources.items()},
        "groups": [_group(part) for part in one.groups],
    }


def _group(part: GroupPart) -> dict[str, Any]:
    return {
        "group": part.group,
        "meaning": MEANINGS[part.group],
        "wide": part.wide,
        "network": part.network,
        "total": part.total,
        "features": [asdict(of) for of in part.features],
    }


def _loss(loss: Loss) -> dict[str, Any]:
    fate = loss.fate
    return {
        "item_id": fate.item_id,
        "stage": str(fate.stage),
        "place": fate.place,
        "of": fate.of,
        "sentence": fate.sentence,
        "sources": {name: asdict(who) if who else None for name, who in loss.sources.items()},
        "prior": loss.prior or None,
        "misses": {name: asdict(miss) for name, miss in loss.misses.items()},
        "explanation": _explanation(loss.explanation) if loss.explanation else None,
    }
