"""Where the retrieval tower of a training starts: at the tower of the last training, if that one fits.

The last checkpoint lies where the new one will be written. It is kept beside the new one as
``checkpoint.earlier.pt``, so a training that is repeated, or that died after its last step, starts from
where it started before and ends with the same bytes.
"""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from export_scripts.receipts.shop import DAY_S, Shop
from export_scripts.scorer.checkpoint import EarlierTower, load_earlier_tower, settings_of_tower
from export_scripts.settings import Settings
from export_scripts.snapshots.retrieval.renumbering import Numbering, Rows, renumber
from export_scripts.snapshots.retrieval.tower import TrainedTower
from operations.errors import CestaError
from operations.records.file_record import sha256

log = structlog.get_logger()

EARLIER: Final = ".earlier"  # before the suffix of the checkpoint's name
LEAST_IN_COMMON: Final = 0.5  # of the tower's items; with fewer, the receipts are another shop's


class Start(NamedTuple):
    """A tower in the numbering of the new training's shop, and where it comes from."""

    tower: TrainedTower
    path: Path
    digest: str  # SHA-256 of the checkpoint
    warm: int  # trainings in a row that went on with a tower, this one included


class SameMomentError(CestaError):
    """The tower ends where the training's own tower will end: it is an earlier result of this training."""


def find_start(
    shop: Shop, end: int, settings: Settings, checkpoint: Path, warm_from: Path | None = None
) -> Start | None:
    """Return the tower to go on with to basket number ``end``, or None for a new one.

    It is that of the checkpoint ``warm_from``. By default it is that of ``checkpoint``, if it fits and if
    retrieval.warm_starts allows it. Raises CestaError if ``warm_from`` does not fit.
    """
    if warm_from is None and not (settings.retrieval.warm_starts and checkpoint.exists()):
        return None
    try:
        if warm_from and not (checkpoint.exists() and warm_from.samefile(checkpoint)):
            return _read_start(warm_from, shop, end, settings)
        return _read_last(checkpoint, shop, end, settings)
    except CestaError as error:
        if warm_from:
            raise
        log.info("new tower", why=str(error))
        return None


def keep_earlier(start: Start | None, checkpoint: Path) -> None:
    """Keep the checkpoint that the training started from, if the new one is about to replace it."""
    if start and start.path == checkpoint:
        link = checkpoint.with_name(f".{_earlier(checkpoint).name}")
        link.unlink(missing_ok=True)
        os.link(checkpoint, link)
        link.replace(_earlier(checkpoint))


def _earlier(checkpoint: Path) -> Path:
    return checkpoint.with_stem(checkpoint.stem + EARLIER)


def _read_last(checkpoint: Path, shop: Shop, end: int, settings: Settings) -> Start:
    try:
        return _read_start(checkpoint, shop, end, settings)
    except SameMomentError:
        if not _earlier(checkpoint).exists():
            raise
        return _read_start(_earlier(checkpoint), shop, end, settings)


def _read_start(path: Path, shop: Shop, end: int, settings: Settings) -> Start:
    """Raises CestaError with the reason if the tower of the checkpoint may not be trained on to ``end``."""
    earlier = load_earlier_tower(path)
    _check_moment(path, earlier, shop, end)
    _check_settings(path, earlier, settings)
    rows = Numbering.of(shop).rows_in(earlier.numbering)
    _check_items(path, earlier, rows)
    seen = shop.first_basket_at(earlier.last_time + 1)
    log.info("warm start", checkpoint=str(path), steps=earlier.tower.steps, in_a_row=earlier.warm + 1)
    return Start(renumber(earlier.tower, rows, shop, seen, settings), path, sha256(path), earlier.warm + 1)


def _check_settings(path: Path, earlier: EarlierTower, settings: Settings) -> None:
    if earlier.warm >= settings.retrieval.warm_starts > 0:
        raise CestaError(
            f"{path} has gone on with an earlier tower {earlier.warm} times in a row, and "
            f"retrieval.warm_starts is {settings.retrieval.warm_starts}: train a new one, or raise it"
        )
    chosen = settings_of_tower(settings)
    if changed := [key for key in chosen if earlier.settings.get(key) != chosen[key]]:
        listed = ", ".join(f"{key} = {earlier.settings.get(key)} (now {chosen[key]})" for key in changed)
        raise CestaError(
            f"{path} cannot be trained on, its tower was trained with {listed}: use the same settings, or "
            "train a new one"
        )


def _check_moment(path: Path, earlier: EarlierTower, shop: Shop, end: int) -> None:
    is_timed = shop.day == DAY_S
    if earlier.is_timed != is_timed:
        raise CestaError(
            f"{path} cannot be trained on, only one of its receipts and these have time stamps: train a new "
            "tower"
        )
    first_unseen = int(shop.times[end]) if end < shop.n_baskets else int(shop.times[-1]) + 1
    if earlier.last_time >= first_unseen:
        raise CestaError(
            f"leak: {path} has seen receipts up to {_moment(earlier.last_time, is_timed)}, and this training "
            f"asks about those from {_moment(first_unseen, is_timed)} on: give an earlier checkpoint, or "
            "train a new tower"
        )
    if shop.first_basket_at(earlier.last_time + 1) == end:
        raise SameMomentError(
            f"{path} cannot be trained on, no receipts lie between its end and this training's: train a new "
            "tower"
        )


def _check_items(path: Path, earlier: EarlierTower, rows: Rows) -> None:
    common, least = int((rows.items > 0).sum()), LEAST_IN_COMMON * (len(earlier.numbering.items) - 1)
    if common < least:
        raise CestaError(
            f"{path} cannot be trained on, these receipts list {common:,} of its "
            f"{len(earlier.numbering.items) - 1:,} items: it is another shop's, or the ids have changed; "
            "train a new tower"
        )


def _moment(time: int, is_timed: bool) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S}" if is_timed else f"number {time:,}"
