"""A partition of the result: a parquet file, and the facts in it by which a later run believes it."""

import json
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import JsonValue

from ensemble.candidate_sampler.ids import Ids
from ensemble.candidate_sampler.query import BadRequest, Query
from ensemble.candidate_sampler.sources import SOURCES
from export_scripts.scoring.catalog import CatalogRanker, Ranked, ranker_of
from export_scripts.scoring.questions import Asked
from operations.records.json_record import JsonRecord
from operations.releases.models.files import ReleaseFiles

KEY: Final = b"cesta"  # of the parquet file's metadata: a JSON object with Facts and more
COMPRESSION: Final = "zstd"
UNKNOWN_USER: Final = "the release does not know this user"

LeftOut = tuple[str, str]  # the id of a user or basket, and why it has no rows


class Facts(JsonRecord, frozen=True):
    """What a result is of; equal in all partitions of a run."""

    release: int
    digest: str
    k: int
    kind: str
    questions: str  # the digest of all questions
    partition_size: int


class Scored(NamedTuple):
    """A partition's file, and what the manifest says about it."""

    number: int
    content: bytes
    rows: int
    asked: int
    left_out: list[LeftOut]


class Shared(NamedTuple):
    """What all partitions of a run share."""

    files: ReleaseFiles
    facts: Facts


def score_partition(shared: Shared, asked: Asked) -> Scored:
    """Rank the catalog for each question of a partition."""
    ranker, facts = ranker_of(shared.files), shared.facts
    places, queries, left_out = queries_of(ranker, asked, facts.kind)
    table = _table(ranker, asked, places, ranker.rank(queries, facts.k), facts.kind)
    about = _about(facts, asked.number, len(table)) | {"asked": len(asked.keys), "left_out": left_out}
    table = table.replace_schema_metadata({KEY: json.dumps(about)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=COMPRESSION, write_page_checksum=True)
    return Scored(asked.number, sink.getvalue().to_pybytes(), len(table), len(asked.keys), left_out)


def read_finished(content: bytes, number: int, facts: Facts) -> Scored | None:
    """The partition that an earlier run wrote; None if it is damaged, or of another run."""
    try:
        file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
        about = json.loads((file.metadata.metadata or {})[KEY])
        rows = len(file.read())
        if _about(facts, number, rows).items() - {k: about[k] for k in _about(facts, 0, 0)}.items():
            return None
        return Scored(number, content, rows, about["asked"], [(key, why) for key, why in about["left_out"]])
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None


def _about(facts: Facts, number: int, rows: int) -> dict[str, JsonValue]:
    return facts.json_object() | {"partition": number, "rows": rows}


def queries_of(
    ranker: CatalogRanker, asked: Asked, kind: str
) -> tuple[list[int], list[Query], list[LeftOut]]:
    """Places and queries of the questions that can be asked, and the others with the reason.

    A basket is asked as the server asks it: unknown users and items are legal. A user alone who is unknown
    would get what everybody gets, so he is left out.
    """
    places: list[int] = []
    queries: list[Query] = []
    left_out: list[LeftOut] = []
    for place, (key, user, basket) in enumerate(zip(asked.keys, asked.users, asked.baskets, strict=True)):
        try:
            query = ranker.vocabulary.query([item.encode() for item in basket], user.encode())
        except BadRequest as error:
            left_out.append((key, str(error)))
            continue
        if kind == "users" and not query.user_row:
            left_out.append((key, UNKNOWN_USER))
            continue
        places.append(place)
        queries.append(query)
    return places, queries, left_out


def _table(
    ranker: CatalogRanker, asked: Asked, places: list[int], ranked: list[Ranked], kind: str
) -> pa.Table:
    """A row for each place of each question; without any it has the same columns."""
    nothing = Ranked(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    rows, scores, reasons = map(np.concatenate, zip(nothing, *ranked, strict=True))
    lengths = [len(one.rows) for one in ranked]
    question = pa.array(np.repeat(np.array(places, np.int64), lengths))
    place = np.concatenate([np.zeros(0, np.int16), *(np.arange(1, n + 1, dtype=np.int16) for n in lengths)])
    users = pa.array([user or None for user in asked.users], pa.string())
    columns = {
        "user_id": users.take(question),
        "place": pa.array(place),
        "item_id": _texts(ranker.arrays.item_ids).take(pa.array(rows)).cast(pa.string()),
        "score": pa.array(scores),
        "reasons": _reason_lists().take(pa.array(reasons)),
    }
    if kind == "baskets":
        columns = {"basket_id": pa.array(asked.keys, pa.string()).take(question)} | columns
    return pa.table(columns)


def _texts(ids: Ids) -> pa.LargeStringArray:
    """The ids as Arrow has them, without a copy."""
    buffers = (pa.py_buffer(np.ascontiguousarray(array)) for array in (ids.offsets, ids.blob))
    return pa.LargeStringArray.from_buffers(len(ids.offsets) - 1, *buffers)


def _reason_lists() -> pa.ListArray:
    """(masks,) the names of the sources in each mask, lowest bit first."""
    masks = range(2 * max(SOURCES.values()))
    lists = [[name for name, bit in SOURCES.items() if mask & bit] for mask in masks]
    return pa.array(lists, pa.list_(pa.string()))
