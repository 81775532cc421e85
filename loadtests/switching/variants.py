"""Makes another release of the same shop, as a new training would, but without training.

The variant's sampler proposes other candidates and its scorer gives other scores. So each answer shows which
release gave it, and an answer sampled by one release and scored by the other matches neither.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ensemble.candidate_sampler.arrays import load_arrays
from ensemble.reference import Reference
from export_scripts.export import answers
from export_scripts.scorer.graph import FoldedNCF, write_graph
from loadtests.questions import Question
from operations.records import file_record, manifest
from operations.records.atomic import staged_folder
from operations.records.contract import GRAPH, read_contract
from operations.records.golden_answers import Answer, Request
from operations.records.manifest import RunManifest

SEED: Final = 7
NOISE: Final = 0.5  # added to each item's bias, in units of the score


def write_variant(run: Path, variant: Path) -> None:
    """Write a run of the same size as ``run`` that gives other answers, with its own golden answers."""
    rng = np.random.default_rng(SEED)
    described = RunManifest.read(run / manifest.NAME)
    with staged_folder(variant, marker=manifest.NAME) as folder:
        shutil.copytree(run / "arrays", folder / "arrays")
        arrays = load_arrays(run / "arrays")
        np.save(folder / "arrays" / "prior.weights.npy", rng.permutation(arrays.prior.weights))
        tables = FoldedNCF.read(run / GRAPH)
        noise = NOISE * rng.standard_normal(tables.item_bias.shape, np.float32)
        tables = replace(tables, item_bias=tables.item_bias + noise)
        ids = [item_id.decode() for item_id in arrays.item_ids.unpack()]
        write_graph(tables, ids, read_contract(), folder)
        files = file_record.describe(folder.rglob("*"), folder)
        golden = answers(Reference.load(folder), [pair.request for pair in described.golden])
        made = {"golden": tuple(golden), "files": files, "digest": file_record.digest(files)}
        manifest.write(described.model_copy(update=made), folder)


def compute_answers(sampler: Path, scorer: Path, questions: Sequence[Question]) -> list[Answer]:
    """The answer to each question, with the sampler of one run and the scorer of the same or another run."""
    reference = Reference(Reference.load(sampler).sampler, scorer / GRAPH)
    requests = [Request(basket=question.basket, user_id=question.user_id) for question in questions]
    return [golden.answer for golden in answers(reference, requests)]
