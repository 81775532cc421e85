"""A published release of a small shop that the real sampler and graph answer, made without training."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays, save_arrays
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.nearest import Nearest
from ensemble.candidate_sampler.sampler import with_users_by_bytes
from ensemble.explanation.explainer import Explainer
from ensemble.reference import Reference
from export_scripts.receipts.shop import Shop
from export_scripts.scorer.graph import FoldedNCF, write_graph
from export_scripts.scoring.release import ask
from operations.explaining.cut_graph import scored_graph
from operations.records import file_record, manifest
from operations.records.contract import Contract
from operations.records.golden_answers import GoldenAnswer, Request
from operations.records.manifest import ContractRecord, RunManifest
from operations.records.sampler_code import sampler_code
from operations.releases.models.files import ReleaseFiles
from operations.releases.promote import promote
from operations.releases.publish import publish
from operations.releases.stores.store import Repository, open_repository
from tests.building.world import LIMITS


def random_scorer(users: int, items: int, seed: int = 0) -> FoldedNCF:
    """Random tables: each item has another score for each user and basket."""
    rng = np.random.default_rng(seed)

    def table(*shape: int) -> NDArray[np.float32]:
        return rng.standard_normal(shape, dtype=np.float32)

    basket_gmf, basket_mlp = table(items, 2), table(items, 4)
    basket_gmf[0] = basket_mlp[0] = 0
    return FoldedNCF(
        user_gmf=table(users, 2),
        user_mlp=table(users, 4),
        basket_gmf=basket_gmf,
        basket_mlp=basket_mlp,
        item_gmf=table(items, 2),
        item_mlp=table(items, 4),
        item_bias=table(items, 1),
        features=table(len(FEATURES), 4),
        wide=table(len(FEATURES), 1),
        hidden=[],
        out=table(4, 1),
    )


def scorer_of_items(users: int, scores: NDArray[np.float32]) -> FoldedNCF:
    """Each item has the same score for everybody."""
    nothing = {
        name: np.zeros_like(table) if isinstance(table, np.ndarray) else table
        for name, table in vars(random_scorer(users, len(scores))).items()
    }
    return replace(FoldedNCF(**nothing), item_bias=scores.reshape(-1, 1))


def publish_release(
    folder: Path,
    shop: Shop,
    arrays: SamplerArrays,
    scorer: FoldedNCF,
    repository: Repository | None = None,
    answers_per_list: int = 5,
    **limits: int,
) -> Repository:
    """Export a run into ``folder``, publish it and make it active; by default in its "repository"."""
    sizes = LIMITS | limits
    contract = Contract(sizes["basket_slots"], sizes["capacity"], len(FEATURES), answers_per_list)
    run = folder / "run"
    (run / "arrays").mkdir(parents=True)
    arrays = with_users_by_bytes(arrays)
    save_arrays(arrays, run / "arrays")
    (run / "arrays" / "limits.json").write_text(json.dumps(sizes))
    Nearest.build(arrays, sizes)[0].save(run / "arrays")
    write_graph(scorer, shop.catalog["item_id"].tolist(), contract, run)
    files = file_record.describe(run.rglob("*"), run)
    requests = [Request(basket=(), user_id=""), Request(basket=("i0001",), user_id="u1")]
    chain = Reference.load(run)
    described = RunManifest(
        contract=ContractRecord(**vars(contract)),
        golden=tuple(GoldenAnswer(request=request, answer=ask(chain, request)) for request in requests),
        sampler_code=file_record.digest(sampler_code()),
        digest=file_record.digest(files),
        files=files,
    )
    manifest.write(described, run)
    repository = repository or open_repository(folder / "repository")
    promote(repository, publish(run, repository), force=True)
    return repository


def explainer_of_files(files: ReleaseFiles) -> Explainer:
    """Explains the answers of a release in this process."""
    return Explainer(files.arrays, scored_graph(files.graph, files.contract))
