"""The whole line once: build on real data, start the real server, ask it through the client, stop it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from cesta_client import Recommendations, Recommender
from ensemble.server import Server, ServerSettings
from export_scripts.build import Outputs, build
from export_scripts.report import print_report
from export_scripts.settings import Settings
from export_scripts.shop import Shop, load_shop

ENOUGH_HISTORY = 30  # past baskets: a household the model can know
READABLE = (4, 6)  # items of the shown basket


def demo(settings: Settings, root: Path, console: Console) -> None:
    """Print metrics, a real basket, what is recommended to its household and to nobody in particular."""
    out = Outputs(root)
    release = build(settings, root)
    print_report(out.metrics, console)
    shop = load_shop(out.data)
    number = example_basket(shop)
    ids = shop.catalog["item_id"].iloc[shop.basket(number)].tolist()
    user = shop.user_ids[shop.users[number]]
    console.print(f"\nRelease {release} in {out.repository}; starting Triton …")
    console.print(basket_table(shop.catalog, ids))
    for title, answer in ask_embedded(out.repository, ids, user).items():
        console.print(answer_table(title, answer, shop.catalog))
    body = json.dumps({"basket": ids, "user_id": user})
    console.print('\nThe same by hand, once "make serve" runs:')
    console.print(curl(body), soft_wrap=True, markup=False, highlight=False)


def ask_embedded(repository: Path, basket: list[str], user: str) -> dict[str, Recommendations]:
    """Start the embedded Triton, ask for the basket with and without its user, stop it: title → answer."""
    settings = ServerSettings(repository=repository, http_port=0, grpc_port=0, metrics_port=0)
    with Server(settings) as server, Recommender(server.grpc, timeout_s=5) as client:
        server.wait_ready(lambda: client.recommend(basket[:1], k=1))
        return {
            f"For household {user}": client.recommend(basket, user_id=user),
            "For a customer nobody knows": client.recommend(basket),
        }


def curl(body: str, address: str = "127.0.0.1:8000") -> str:
    """The request as a shell line, on Triton's own plain JSON endpoint."""
    return f"curl -s http://{address}/v2/models/recommender/generate -d '{body}'"


def example_basket(shop: Shop) -> int:
    """The latest basket of readable size of a household with enough history."""
    sizes = np.diff(shop.offsets)
    history = np.bincount(shop.users, minlength=shop.n_users)
    history[0] = 0
    fitting = (sizes >= READABLE[0]) & (sizes <= READABLE[1])
    known = history[shop.users] >= min(ENOUGH_HISTORY, history.max())
    candidates = np.flatnonzero(fitting & known)
    return int(candidates[-1]) if len(candidates) else shop.n_baskets - 1


def catalog_of(data: Path) -> pd.DataFrame | None:
    """etl's catalog, for names; None where there is none."""
    path = data / "catalog.parquet"
    return pd.read_parquet(path) if path.exists() else None


def basket_table(catalog: pd.DataFrame, ids: list[str]) -> Table:
    """The basket in the shop's words."""
    words, shelf = catalog.set_index("item_id"), shelf_column(catalog)
    table = Table(title="The basket", title_justify="left")
    for column in ("item", "name", shelf):
        table.add_column(column)
    for item_id in ids:
        table.add_row(item_id, words["name"][item_id], words[shelf][item_id] if shelf in words else "")
    return table


def answer_table(title: str, answer: Recommendations, catalog: pd.DataFrame | None) -> Table:
    """Rank, name, category, score and reasons of an answer."""
    words = {} if catalog is None else catalog.set_index("item_id").to_dict("index")
    shelf = shelf_column(catalog)
    table = Table(title=f"{title} (release {answer.release})", title_justify="left")
    for column in ("rank", "item", "name", shelf, "score", "reasons"):
        table.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for r in answer:
        of_item = words.get(r.item_id, {})
        name, category = of_item.get("name", ""), of_item.get(shelf, "")
        reasons = ", ".join(reason.name.lower() for reason in r.reasons)
        table.add_row(str(r.rank), r.item_id, name, category, f"{r.score:.2f}", reasons)
    return table


def shelf_column(catalog: pd.DataFrame | None) -> str:
    """The category column that says where a product stands: its department, else the broadest."""
    columns = [] if catalog is None else list(catalog.columns[2:])
    return "department" if "department" in columns or not columns else str(columns[0])
