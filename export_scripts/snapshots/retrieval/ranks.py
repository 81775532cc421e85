"""Trains a tower in several processes at once, its ranks: each computes a share of every batch.

All ranks hold the whole tower. After each step, gloo sums the gradients of the rows that any rank has read,
so the towers stay equal. A rank's queries have the targets of its own share as negatives, beside as many
uniform ones as in a single process; the correction by log_q knows how many. So the tower is not that of one
process to the last bit: tests/model/tower_ranks.py compares their quality.

The stage gets the tower after every stretch of steps. A training that loses a rank begins again there.
"""

import fcntl
import io
import os
import socket
import struct
from datetime import timedelta
from typing import Any, Final, NamedTuple

import numpy as np
import structlog
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # it is not in its __all__

from export_scripts.durations import step
from export_scripts.engines.interface import Engine, WorkerLost
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import Ranks, Stretch, continue_tower, new_tower
from operations.errors import CestaError

log = structlog.get_logger()

LEAST_BASKETS: Final = 2_000  # per rank: fewer are trained in seconds
STRETCH: Final = 1_000  # steps; to begin one takes seconds, and losing one costs its steps
MEETING_S: Final = 180  # for all ranks to begin, since Ray starts processes first
SILENCE_S: Final = 180  # of a rank in a step, before the others take it for lost
SIOCGIFADDR: Final = 0x8915  # the address of a network interface, from linux/sockios.h


class Training(NamedTuple):
    """What all ranks share."""

    shop: Shop
    end: int
    settings: Settings
    tower: bytes  # before the stretch
    stretch: Stretch


class Place(NamedTuple):
    """One rank, and where it meets the others."""

    rank: int
    size: int
    host: str
    port: int
    silence_s: float


def train_in_parallel(
    shop: Shop, end: int, of_item: NDArray[np.int32], settings: Settings, engine: Engine
) -> TrainedTower:
    """Train a new tower on the baskets before ``end``; as `continue_in_parallel`."""
    return continue_in_parallel(new_tower(shop, of_item, settings), shop, end, settings, engine)


def continue_in_parallel(
    tower: TrainedTower, shop: Shop, end: int, settings: Settings, engine: Engine
) -> TrainedTower:
    """Train a copy of ``tower`` on the baskets before ``end`` by all workers of the ``engine``.

    A small shop is trained here. A lost rank costs the steps of its stretch, which as many ranks as there are
    workers left train again. Raises CestaError after ``engine.retries`` losses of the same stretch, or if the
    ranks do not meet.
    """
    most = min(engine.workers, end // LEAST_BASKETS)
    if most <= 1 or tower.end >= end:
        return continue_tower(tower, shop, end, settings)
    return _train_by_ranks(tower, shop, end, settings, engine, most)


@step("tower")
def _train_by_ranks(
    tower: TrainedTower, shop: Shop, end: int, settings: Settings, engine: Engine, most: int
) -> TrainedTower:
    stretch, losses = Stretch(0, STRETCH), 0
    while tower.end < end:
        try:
            ranks = min(most, engine.available())
            tower = _train_stretch(Training(shop, end, settings, _pack(tower), stretch), ranks, engine)
            stretch, losses = Stretch(stretch.end, stretch.end + STRETCH), 0
        except WorkerLost as error:
            losses += 1
            if losses > settings.engine.retries:
                raise CestaError(
                    f"the training of the retrieval tower lost a worker in each of {losses} tries: {error}; "
                    "run again, with fewer --workers if their memory was too small"
                ) from None
            log.warning("tower_lost_rank", reason=str(error), again_from_step=stretch.first)
    return tower


def _train_stretch(training: Training, size: int, engine: Engine) -> TrainedTower:
    # In this process, which outlives the ranks. Each try has a store, so no rank meets one of an earlier try.
    store = TCPStore(engine.host, 0, is_master=True, wait_for_workers=False)
    places = [Place(rank, size, engine.host, store.port, SILENCE_S) for rank in range(size)]
    trained, *_ = engine.together(train_rank, places, training)
    assert trained is not None  # the first rank's
    return _unpack(trained)


def train_rank(training: Training, place: Place) -> bytes | None:
    """Train a stretch as one of the ranks; the first returns the tower."""
    shop, end, settings, before, stretch = training
    ranks = Ranks(place.rank, place.size)
    _meet(place)
    try:
        trained = continue_tower(_unpack(before), shop, end, settings, ranks, stretch)
    finally:
        dist.destroy_process_group()
    return _pack(trained) if place.rank == 0 else None


def _meet(place: Place) -> None:
    """Join the other ranks once all of them are there."""
    os.environ["GLOO_SOCKET_IFNAME"] = _interface(place.host, place.port)
    try:
        store = TCPStore(place.host, place.port, is_master=False, timeout=timedelta(seconds=MEETING_S))
        if store.add("present", 1) == place.size:
            store.set("complete", "")
        store.wait(["complete"])
        timeout = timedelta(seconds=place.silence_s)
        dist.init_process_group("gloo", store=store, rank=place.rank, world_size=place.size, timeout=timeout)
    except (dist.DistError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise CestaError(
            f"{place.size} workers that train the retrieval tower have not met at {place.host}:{place.port}: "
            f"{reason}; let the nodes reach each other on all ports, or lower --workers if these are busy"
        ) from None


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
