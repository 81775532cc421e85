"""The bucket's small objects that a start reads: configs, history, signatures. A mirror keeps copies."""

import re
from typing import Final

from operations.errors import StoreError
from operations.records.contract import ENSEMBLE, NAMED, PART
from operations.records.parallel import run_all
from operations.releases import history
from operations.releases.models.configs import ALL_FRONTS, BESIDE, CANARY, FRONTS, PLACEHOLDER
from operations.releases.repository import CONFIG
from operations.releases.signatures import signature
from operations.releases.stores.bucket import BucketRepository
from operations.releases.stores.folder import FolderRepository

DEPTHS: Final = ("*", "*/*", "*/*/*")  # of folders, in which a record may lie

_FRONT: Final = "|".join(ALL_FRONTS)
_CANARY: Final = "|".join((CANARY, *BESIDE[CANARY].values()))
_RECORD: Final = re.compile(
    rf"{re.escape(history.NAME)}|{re.escape(signature.NAME)}|(?:{PART}|{_FRONT})/{re.escape(CONFIG)}"
    rf"|(?:{_CANARY})/\d+/{PLACEHOLDER}"
)
_NAMED: Final = re.compile(rf"{PART}/{NAMED}/[0-9A-Za-z_-]+\.pbtxt")


def copy_records(bucket: BucketRepository, folder: FolderRepository, *, named: bool) -> None:
    """Have the records in a folder be those of the bucket; the configs of the fronts change last.

    ``named`` copies the named configs, too. Triton reloads all versions of a part whose named config changes,
    so that is for the time before it starts. Raises StoreError for a bucket that was emptied: it says nothing
    about what is to be served.
    """

    def is_record(name: str) -> bool:
        return bool(_RECORD.fullmatch(name) or (named and _NAMED.fullmatch(name)))

    objects = [path.key for path in (bucket / "").listed()]
    if not objects and (folder / ENSEMBLE / CONFIG).exists():
        raise StoreError(f"{bucket} is empty; restore it, or delete its mirror {folder}")
    found = [name for name in objects if is_record(name)]
    names = sorted(found, key=lambda name: (name.partition("/")[0] in FRONTS, name))
    contents = run_all([(bucket / name).read_bytes for name in names])
    for name, content in zip(names, contents, strict=True):
        path = folder / name
        if not path.exists() or path.read_bytes() != content:
            folder.write(name, content)
    present = [
        path.relative_to(folder.root).as_posix() for depth in DEPTHS for path in folder.root.glob(depth)
    ]
    for name in filter(is_record, present):
        if name not in names:
            folder.delete(name)
