"""The whole line once: build on real data, start the real server, ask it through the client, stop it."""

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from cesta_client import Recommendations, Recommender
from export_scripts.build import build
from export_scripts.quality.report import print_report
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import Settings
from operations.commands.answers import answer_table, basket_table
from operations.gateway.items import read_items
from operations.outputs import Outputs
from operations.server.process import Server, ServerSettings

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
    items = read_items(out.data) or {}
    console.print(basket_table(items, ids))
    for title, answer in ask_embedded(out.repository, ids, user).items():
        console.print(answer_table(title, answer, items))
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
