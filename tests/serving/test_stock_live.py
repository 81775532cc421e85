"""The stock of a shop through gateway, supervisor and a real Triton: what is not there is not recommended."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ensemble.candidate_sampler.live.change_log import FOLLOWERS
from operations.gateway.control import announce
from operations.gateway.keys import add_key
from operations.releases import publish
from operations.releases.stores.store import open_repository
from tests.running import needs
from tests.running.door import Door, open_door
from tests.running.stack import eventually
from tests.running.supervised import Supervised

if TYPE_CHECKING:
    from tests.building.slices import Built

pytestmark = [pytest.mark.triton, pytest.mark.timeout(300)]

PATH = "/v1/availability"
WITHIN_S = 1.0  # of an acknowledgement
FOLLOWING = 2  # processes of a release: its sampler and its item lists


class Shop:
    """`cesta serve` on the built release, behind a gateway, with its key of the role stock."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository, self.folder = repository, folder
        folder.mkdir()
        self.supervised = self._serve()
        with needs.debian_packages():
            self.door = self._open()
        self.door.keys["stock"] = add_key(folder, "stock", "stock", 10_000)
        self.door.keys["reader"] = add_key(folder, "reader", "browser", 10, origins=["https://shop.example"])
        announce(folder)

    def _serve(self) -> Supervised:
        return Supervised(self.repository, f"--gateway={self.folder}")

    def _open(self) -> Door:
        addresses = self.supervised.addresses
        return open_door(self.folder, triton_http=addresses["http"], supervisor=addresses["supervisor"])

    def restart(self, how: signal.Signals) -> None:
        """End the supervisor, and start it on the same ports."""
        ports = [
            f"--{name}-port={address.rpartition(':')[2]}"
            for name, address in self.supervised.addresses.items()
        ]
        if how is signal.SIGKILL:
            os.kill(self.supervised.process.pid, how)
        else:
            self.supervised.end(how)
        self.supervised.kill()
        self.supervised = Supervised(self.repository, f"--gateway={self.folder}", *ports)

    def put(self, *entries: tuple[str, bool | None], **fields: Any) -> Any:
        """Change the whole shop's stock; the answer."""
        items = [{"item_id": item, "available": available} for item, available in entries]
        return self.door.ask(PATH, {"items": items} | fields, key="stock", method="PUT")

    def items(self, **query: Any) -> list[str]:
        """The items of an answer to a question that may be in the cache."""
        answer = self.door.ask("/v1/recommend", {"k": 20} | query)
        assert answer.status == 200, answer.body
        return [item["item_id"] for item in answer.body["items"]]

    def version(self) -> int:
        return int(self.door.ask(PATH, key="stock").body["version"])

    def close(self) -> None:
        self.door.gateway.stop()
        self.supervised.kill()


@pytest.fixture(scope="module")
def shop(
    built: Built, compiled: Path, start_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("stock")
    shop = Shop(Path(shutil.copytree(built.repository, root / "repository")), root / "gateway")
    yield shop
    shop.close()


def test_what_is_not_available_is_gone_within_a_second_also_from_the_cache(shop: Shop) -> None:
    """The list is filled up again, in the same order; what comes back is recommended again."""
    before = shop.items()
    assert shop.items() == before  # from the cache
    gone = before[:3]
    done = shop.put(*((item, False) for item in gone))
    acknowledged_s = time.monotonic()
    assert done.status == 200, done.body
    assert done.body["applied"] == done.body["samplers"] == FOLLOWING
    after = shop.items()
    assert time.monotonic() - acknowledged_s < WITHIN_S
    assert not set(after) & set(gone)
    assert len(after) == len(before)
    assert after[: len(before) - 3] == before[3:]
    shop.put(*((item, True) for item in gone))
    assert shop.items() == before


def test_an_item_of_the_basket_still_counts(shop: Shop) -> None:
    """It says what the customer wants, whether or not there is more of it."""
    basket = shop.items()[:2]
    before = shop.items(basket=basket)
    shop.put(*((item, False) for item in basket))
    assert shop.items(basket=basket) == before
    shop.put(*((item, True) for item in basket))


def test_versions_are_taken_in_order_and_twice(shop: Shop) -> None:
    """The same again is acknowledged again; an older one, or another content, is refused."""
    (item,) = shop.items()[:1]
    number = shop.version() + 10
    assert shop.put((item, False), version=number).body["changed"] == 1
    assert shop.put((item, False), version=number).body["changed"] == 0
    other = shop.put((item, True), version=number)
    assert (other.status, other.body["code"]) == (409, "older_version")
    older = shop.put((item, True), version=number - 1)
    assert f"version {number - 1} is older than version {number}" in older.error
    told = shop.door.ask(f"{PATH}?item_id={item}", key="stock").body
    assert (told["version"], told["available"]) == (number, False)
    assert shop.put((item, True)).body["version"] == number + 1


def test_parts_count_once_all_of_them_have_come(shop: Shop) -> None:
    """In any order, and repeated."""
    first, second, *_ = shop.items()
    number = shop.version() + 1
    came = shop.put((second, False), version=number, part=2, parts=2)
    assert (came.status, came.body["received"]) == (202, 1)
    assert shop.put((second, False), version=number, part=2, parts=2).status == 202
    assert second in shop.items()
    assert shop.put((first, False), version=number, part=1, parts=2).status == 200
    assert not {first, second} & set(shop.items())
    assert shop.put((first, False), version=number, part=1, parts=2).status == 200
    shop.put(replace=True)


def test_roles(shop: Shop) -> None:
    """A key of the role stock reaches nothing else; browsers' keys do not reach the stock."""
    (item,) = shop.items()[:1]
    for key, status in (("stock", 200), ("shop", 200), ("admin", 200), ("reader", 403)):
        body = {"items": [{"item_id": item, "available": True}]}
        assert shop.door.ask(PATH, body, key=key, method="PUT").status == status
    assert shop.door.ask("/v1/recommend", {}, key="stock").status == 403
    assert shop.door.ask(PATH, key=None).status == 401


def test_the_stock_survives_promotion_and_rollback(shop: Shop, built: Built) -> None:
    """A release's golden requests are asked as it was recorded, whatever is out of stock."""
    before = shop.items()
    shop.put(*((item, False) for item in before[:5]))
    release = publish.publish(built.run, open_repository(shop.repository))
    for path, body in ((f"/admin/releases/{release}/promote", {"force": True}), ("/admin/rollback", None)):
        _change(shop, path, body)
        assert not set(before[:5]) & set(shop.items())
        shop.put((before[5], False))
        assert before[5] not in shop.items()
        shop.put((before[5], True))
    shop.put(replace=True)


def _change(shop: Shop, path: str, body: object) -> None:
    """Have an admin's change done."""
    operation = shop.door.ask(path, body, key="admin", method="POST").body
    until_s = time.monotonic() + 120
    while operation["state"] == "running":
        assert time.monotonic() < until_s
        time.sleep(0.1)
        operation = shop.door.ask(f"/admin/operations/{operation['id']}", key="admin").body
    assert operation["state"] == "succeeded", operation


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_the_stock_survives_restarts(shop: Shop, how: signal.Signals) -> None:
    """Before the first question after the start."""
    before = shop.items()
    shop.put(*((item, False) for item in before[:4]))
    version = shop.version()
    shop.restart(how)
    eventually(lambda: shop.door.ask("/v1/recommend", {}).status == 200, 60)
    assert not set(before[:4]) & set(shop.items())
    assert shop.version() == version
    status = shop.door.ask("/v1/status").body["stock"]
    assert status == {"version": version, "applied": True, "reason": None}
    shop.put(replace=True)


def test_a_sampler_that_ended_is_not_waited_for(shop: Shop) -> None:
    """The file of the dead process lost its lock, and is removed."""
    left = shop.folder / "live" / FOLLOWERS / "left.json"
    left.write_text('{"release": "1", "model_instance": "x", "version": 0}')
    (item,) = shop.items()[:1]
    done = shop.put((item, False)).body
    assert done["applied"] == done["samplers"] == FOLLOWING
    assert not left.exists()
    shop.put((item, True))
