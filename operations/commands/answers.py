"""Baskets and answers as tables for a terminal, with the shop's names where etl wrote a catalog."""

from rich.table import Table

from cesta_client import Recommendations
from operations.gateway.items import Items


def basket_table(items: Items, ids: list[str]) -> Table:
    """Return the basket's items with their names."""
    shelf = shelf_column(items)
    table = Table(title="The basket", title_justify="left")
    for column in ("item", "name", shelf):
        table.add_column(column)
    for item_id in ids:
        item = items.get(item_id, {})
        table.add_row(item_id, item.get("name", ""), item.get(shelf, ""))
    return table


def answer_table(title: str, answer: Recommendations, items: Items | None) -> Table:
    """Return rank, name, category, score and reasons of each recommendation."""
    catalog, shelf = items or {}, shelf_column(items)
    table = Table(title=f"{title} (release {answer.release})", title_justify="left")
    for column in ("rank", "item", "name", shelf, "score", "reasons"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for recommended in answer:
        item = catalog.get(recommended.item_id, {})
        name, category = item.get("name", ""), item.get(shelf, "")
        score, reasons = f"{recommended.score:.2f}", ", ".join(r.name.lower() for r in recommended.reasons)
        table.add_row(str(recommended.rank), recommended.item_id, name, category, score, reasons)
    return table


def shelf_column(items: Items | None) -> str:
    """Return the category that tells where a product is sold: the department, else the broadest one."""
    columns = [name for name in next(iter(items.values()), {}) if name != "name"] if items else []
    return "department" if "department" in columns or not columns else columns[0]
