"""An explained answer, as `POST /v1/explain` gives it, as tables for a terminal."""

from collections.abc import Mapping
from typing import Any, Final

from rich.table import Table

from operations.gateway.items import Items

SHOWN: Final = 3  # groups in a line of the answer
JsonObject = Mapping[str, Any]
Names = Mapping[str, str]


def explanation_tables(told: JsonObject, items: Items | None) -> list[Table | str]:
    """Return tables and lines of an explanation, with the names of ``items``."""
    names = {item_id: item.get("name", "") for item_id, item in (items or {}).items()}
    shown: list[Table | str] = [_answer_table(told, names)]
    for other in told["others"]:
        shown.append(f"{_named(other['item_id'], names)}: {other['sentence']}")
        if prior := other["prior"]:
            beside = f"{sum(prior.values()):+.2f} beside the average candidate"
            shown.append(f"  prior: {beside}: {_largest(prior)}")
            shown.append(f"  proposed by {_sources(other['sources'], names)}")
        shown += [f"  {source}: {miss['sentence']}" for source, miss in other["misses"].items()]
        if other["explanation"]:
            shown.append(_detail_table(other["explanation"], told["baseline"], names))
    return shown


def _answer_table(told: JsonObject, names: Names) -> Table:
    mean = told["baseline"]["score"]
    title = (
        f"Why these (release {told['release']}): {told['candidates']} candidates of "
        f"{told['proposed']:,} proposed" + ("" if mean is None else f", whose mean score is {mean:.2f}")
    )
    table = Table(title=title, title_justify="left")
    for column in ("rank", "item", "score", "above or below the average by", "proposed by"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for one in told["items"]:
        adds = _largest({part["group"]: part["total"] for part in one["groups"]})
        named, sources = _named(one["item_id"], names), _sources(one["sources"], names)
        table.add_row(str(one["rank"]), named, f"{one['score']:.2f}", adds, sources)
    return table


def _detail_table(one: JsonObject, baseline: JsonObject, names: Names) -> Table:
    """All groups of a score with their features; the rows of the groups add up to the score."""
    table = Table(title=f"The score of {_named(one['item_id'], names)}", title_justify="left")
    numbers = ("value", "average", "wide", "network", "total")
    for column in ("part", *numbers, "most of it from"):
        table.add_column(column, justify="right" if column in numbers else "left")
    table.add_row(baseline["meaning"], "", "", "", "", f"{baseline['score']:.3f}", "")
    for part in one["groups"]:
        sums = (f"{part[sum_]:+.3f}" for sum_ in ("wide", "network", "total"))
        table.add_row(_words(part["group"]), "", "", *sums, part["meaning"], style="bold")
        for of in part["features"]:
            if of["value"] or of["wide"]:
                figures = (f"{of['value']:.3f}", f"{of['average']:.3f}", f"{of['wide']:+.3f}")
                brought = _contributor(of["contributor"], names)
                table.add_row(f"  {of['feature']}", *figures, "", "", brought)
    table.add_row("score", "", "", "", "", f"{one['score']:.3f}", "", style="bold")
    return table


def _largest(parts: Mapping[str, float]) -> str:
    """The groups that add or cost most."""
    by_size = sorted(parts.items(), key=lambda part: -abs(part[1]))
    return ", ".join(f"{_words(group)} {part:+.2f}" for group, part in by_size[:SHOWN])


def _sources(sources: Mapping[str, JsonObject | None], names: Names) -> str:
    told = ((name, _contributor(who, names)) for name, who in sources.items())
    return ", ".join(f"{name} ({who})" if who else name for name, who in told)


def _contributor(who: JsonObject | None, names: Names) -> str:
    if who is None:
        return ""
    is_item = who["kind"] == "basket_item"
    named = _named(who["name"], names) if is_item else who["name"]
    words = named if is_item else f"{_words(who['kind'])} {named}".strip()
    return words if who["share"] is None else f"{words}, {who['share']:.0%}"


def _named(item_id: str, names: Names) -> str:
    name = names.get(item_id, "")
    return f"{item_id} {name}" if name and name != item_id else item_id


def _words(name: str) -> str:
    return name.replace("_", " ")
