"""Baskets and answers as tables for a terminal, in the shop's words where etl left them."""

from rich.table import Table

from cesta_client import Recommendations
from operations.gateway.items import Items


def basket_table(items: Items, ids: list[str]) -> Table:
    """The basket in the shop's words."""
    shelf = shelf_column(items)
    table = Table(title="The basket", title_justify="left")
    for column in ("item", "name", shelf):
        table.add_column(column)
    for item_id in ids:
        words = items.get(item_id, {})
        table.add_row(item_id, words.get("name", ""), words.get(shelf, ""))
    return table


def answer_table(title: str, answer: Recommendations, items: Items | None) -> Table:
    """Rank, name, category, score and reasons of an answer."""
    words, shelf = items or {}, shelf_column(items)
    table = Table(title=f"{title} (release {answer.release})", title_justify="left")
    for column in ("rank", "item", "name", shelf, "score", "reasons"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for r in answer:
        item = words.get(r.item_id, {})
        reasons = ", ".join(reason.name.lower() for reason in r.reasons)
        name, category = item.get("name", ""), item.get(shelf, "")
        table.add_row(str(r.rank), r.item_id, name, category, f"{r.score:.2f}", reasons)
    return table


def shelf_column(items: Items | None) -> str:
    """The category that says where a product stands: its department, else the broadest."""
    columns = [name for name in next(iter(items.values()), {}) if name != "name"] if items else []
    return "department" if "department" in columns or not columns else columns[0]
