"""A run that does not fit the contract in its own manifest is not published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from operations.errors import CestaError
from operations.records import file_record, manifest
from operations.records.contract import read_contract
from operations.records.manifest import ContractRecord, RunManifest
from operations.releases import publish
from operations.releases.stores.store import Repository, open_repository
from tests.building.runs import make_run


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return open_repository(tmp_path / "repository")


def less_an_input(contract: ContractRecord) -> ContractRecord:
    inputs = {name: tensor for name, tensor in (contract.inputs or {}).items() if name != "exclude"}
    return contract.model_copy(update={"inputs": inputs})


OWN = ContractRecord.of(read_contract())


@pytest.mark.parametrize(
    ("contract", "sentence"),
    [
        (
            ContractRecord(answers=10, features=28),
            r"model.onnx: output item_ids is \('STRING', \[20\]\), .* says \('STRING', \[10\]\)",
        ),
        (ContractRecord(features=25), r"model.onnx: input candidate_features is .*\[128, 28\].*\[128, 25\]"),
        (
            OWN.model_copy(update={"answers": 10}),
            r"manifest.json: the contract's output item_ids is STRING \[20\]; .* need STRING \[10\]",
        ),
        (
            OWN.model_copy(update={"candidates": 100}),
            r"the contract's sampler output rows is INT32 \[457\]; .* need INT32 \[401\]",
        ),
        (less_an_input(OWN), r"the contract's input exclude is missing; .* need STRING \[-1\]"),
        (
            OWN.model_copy(update={"inputs": {**(OWN.inputs or {}), "hint": ("TEXT", (1,))}}),
            r"the contract's input hint is TEXT \[1\], which Triton does not know",
        ),
        (ContractRecord(history_slots=50), 'the contract has the key "history_slots", which this version'),
    ],
)
def test_a_run_that_breaks_its_contract_is_not_published(
    tmp_path: Path, repository: Repository, contract: ContractRecord, sentence: str
) -> None:
    """The contract is that of its own manifest. It is refused, too, if this version cannot serve it."""
    run = make_run(tmp_path / "run", contract=contract)
    with pytest.raises(CestaError, match=sentence):
        publish.publish(run, repository)
    assert not repository.root.exists()


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (
            lambda arrays: (arrays / "limits.json").write_text('{"capacity": 64, "basket_slots": 200}'),
            "limits.json: capacity is 64, the manifest's contract says 128",
        ),
        (
            lambda arrays: np.save(arrays / "prior.weights.npy", np.zeros(25, np.float32)),
            "prior.weights.npy has the weights of 25 features, the manifest's contract has 28",
        ),
    ],
)
def test_arrays_that_break_the_contract_are_not_published(
    tmp_path: Path, repository: Repository, write: Callable[[Path], object], sentence: str
) -> None:
    run = make_run(tmp_path / "run")
    write(run / "arrays")
    described = RunManifest.read(run / manifest.NAME)
    files = file_record.describe((p for p in run.rglob("*") if p.name != manifest.NAME), run)
    manifest.write(described.model_copy(update={"files": files, "digest": file_record.digest(files)}), run)
    with pytest.raises(CestaError, match=sentence):
        publish.publish(run, repository)


def test_a_golden_answer_of_another_length_is_not_published(tmp_path: Path, repository: Repository) -> None:
    answer = {"item_ids": ["a"], "scores": [0.5], "reasons": [1]}
    golden = [{"request": {"basket": []}, "answer": answer}]
    with pytest.raises(CestaError, match="golden answer 0 has 1 items, the contract has 20"):
        publish.publish(make_run(tmp_path / "run", golden=golden), repository)
