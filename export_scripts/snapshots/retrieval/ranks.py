"""Trains a tower in several processes at once, its ranks: each computes a share of every batch.

All ranks hold the whole tower. After each step, gloo sums the gradients of the rows that any rank has read,
so the towers stay equal. A rank's queries have the targets of its own share as negatives, beside as many
uniform ones as in a single process; the correction by log_q knows how many. So the tower is not that of one
process to the last bit: tests/model/tower_ranks.py compares their quality.
"""

import fcntl
import io
import os
import socket
import struct
from datetime import timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is not in its __all__

from export_scripts.engines.interface import Engine
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import Ranks, continue_tower, new_tower, train_tower
from operations.errors import CestaError

LEAST_BASKETS: Final = 2_000  # per rank: fewer are trained in seconds
MEETING: Final = timedelta(minutes=3)  # for all ranks to begin; Ray starts processes first
SIOCGIFADDR: Final = 0x8915  # the address of a network interface, from linux/sockios.h


class Training(NamedTuple):
    """What all ranks share."""

    shop: Shop
    end: int
    settings: Settings
    tower: bytes  # before the training


class Place(NamedTuple):
    """One rank, and where it meets the others."""

    rank: int
    size: int
    host: str
    port: int


def train_in_parallel(
    shop: Shop, end: int, of_item: NDArray[np.int32], settings: Settings, engine: Engine
) -> TrainedTower:
    """Train a new tower on the baskets before ``end`` by all workers of the ``engine``.

    A small shop is trained here. Raises CestaError if the ranks do not meet, or if one of them dies.
    """
    size = min(engine.workers, end // LEAST_BASKETS)
    if size <= 1:
        return train_tower(shop, end, of_item, settings)
    store = TCPStore(engine.host, 0, is_master=True, wait_for_workers=False)
    places = [Place(rank, size, engine.host, store.port) for rank in range(size)]
    training = Training(shop, end, settings, _pack(new_tower(shop, of_item, settings)))
    trained, *_ = engine.map(train_rank, places, training)
    assert trained is not None  # the first rank's
    return _unpack(trained)


def train_rank(training: Training, place: Place) -> bytes | None:
    """Train as one of the ranks; the first returns the tower."""
    os.environ["GLOO_SOCKET_IFNAME"] = _interface(place.host, place.port)
    try:
        store = TCPStore(place.host, place.port, is_master=False, timeout=MEETING)
        dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.size, timeout=MEETING)
        try:
            tower = _unpack(training.tower)
            ranks = Ranks(place.rank, place.size)
            trained = continue_tower(tower, training.shop, training.end, training.settings, ranks)
        finally:
            dist.destroy_process_group()
    except (dist.DistError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CestaError(
            f"the {place.size} processes that train the retrieval tower lost one another: {reason}; run "
            "again, with fewer --workers if fewer processors are free"
        ) from None
    return _pack(trained) if place.rank == 0 else None


def _pack(tower: TrainedTower) -> bytes:
    content = io.BytesIO()
    torch.save(tower.state, content)
    return content.getvalue()


def _unpack(content: bytes) -> TrainedTower:
    state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    return TrainedTower.load(state)


def _interface(host: str, port: int) -> str:
    """The network interface from which ``host`` is reached: gloo would take that of the machine's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        asked.connect((host, port))
        own = socket.inet_aton(asked.getsockname()[0])
        for _, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if found[20:24] == own:
                return name
    raise CestaError(f"no network interface of this machine reaches {host}")
