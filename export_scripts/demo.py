"""``cesta demo``: build a release on real data, start the server, ask it, and stop the server."""

import json
from pathlib import Path

import numpy as np
from rich.console import Console

from cesta_client import Recommendations, Recommender
from export_scripts.build import Promotion, build
from export_scripts.quality.report import print_report
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import Settings
from operations.commands.answers import answer_table, basket_table
from operations.commands.options import ADDRESS
from operations.errors import NotActive
from operations.gateway.items import read_items
from operations.outputs import Outputs
from operations.releases.repository import require_active
from operations.releases.signatures.verify import verify_release
from operations.releases.stores.store import open_repository
from operations.server.process import Server, ServerSettings
from operations.shipped import command

ENOUGH_HISTORY = 30  # baskets of the household
READABLE_SIZES = (4, 6)  # fewest and most items of the printed basket


def demo(settings: Settings, root: Path, console: Console) -> None:
    """Print the metrics, a basket, and what is recommended with and without its household.

    The active release answers. It is an older one if the gate refuses the new one, which is printed.
    """
    out = Outputs(root)
    try:
        build(settings, root, Promotion(ADDRESS))
    except NotActive as refusal:
        console.print(str(refusal), soft_wrap=True, markup=False, highlight=False)
    release = require_active(open_repository(out.repository))
    print_report(out.metrics, console)
    shop = load_shop(out.data)
    number = example_basket(shop)
    ids = shop.catalog["item_id"].iloc[shop.basket(number)].tolist()
    user = shop.user_ids[shop.users[number]]
    console.print(f"\nRelease {release} in {out.repository}; starting Triton …")
    items = read_items(out.data) or {}
    console.print(basket_table(items, ids))
    store = shop.stores.ids[shop.stores.rows[number]] if shop.stores else ""
    for title, answer in ask_embedded(out.repository, ids, user, store).items():
        console.print(answer_table(title, answer, items))
    body = json.dumps({"basket": ids, "user_id": user})
    console.print(f'\nThe same by hand, once "{command("serve")}" runs:')
    console.print(curl(body), soft_wrap=True, markup=False, highlight=False)


def ask_embedded(
    repository: Path, basket: list[str], user: str, store: str = ""
) -> dict[str, Recommendations]:
    """Start the embedded Triton and ask with the user, in the ``store``, and without: title → answer."""
    verify_release(open_repository(repository))  # Triton itself loads whatever lies there
    settings = ServerSettings(repository=repository, http_port=0, grpc_port=0, metrics_port=0)
    with Server(settings) as server, Recommender(server.grpc, timeout_s=5) as client:
        server.wait_ready(lambda: client.recommend(basket[:1], k=1))
        answers = {f"For household {user}": client.recommend(basket, user_id=user)}
        if store:
            title = f"For household {user} in store {store}"
            answers[title] = client.recommend(basket, user_id=user, store_id=store)
        return answers | {"For a customer nobody knows": client.recommend(basket)}


def curl(body: str, address: str = "127.0.0.1:8000") -> str:
    """Format the request as a shell command for Triton's own JSON endpoint."""
    return f"curl -s http://{address}/v2/models/recommender/generate -d '{body}'"


def example_basket(shop: Shop) -> int:
    """Find the latest basket of readable size from a household with enough history."""
    sizes = np.diff(shop.offsets)
    history = np.bincount(shop.users, minlength=shop.n_users)
    history[0] = 0
    readable = (sizes >= READABLE_SIZES[0]) & (sizes <= READABLE_SIZES[1])
    has_history = history[shop.users] >= min(ENOUGH_HISTORY, history.max())
    baskets = np.flatnonzero(readable & has_history)
    return int(baskets[-1]) if len(baskets) else shop.n_baskets - 1
