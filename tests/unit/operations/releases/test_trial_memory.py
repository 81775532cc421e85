"""The memory that a trial asks for."""

from pathlib import Path

import pytest

from operations.errors import CestaError
from operations.records.contract import read_contract
from operations.records.file_record import FileRecord
from operations.records.manifest import ContractRecord, ReleaseManifest
from operations.releases import trial
from operations.releases.stores.store import open_repository
from operations.server.memory import Memory

MIB = 2**20


def test_mapped_files_need_a_part_of_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """420 MiB for the server, 16 times the graph, an eighth of ten million users: 420 + 320 + 2,500."""
    sizes = {"ncf_scorer/1/model.onnx": 20 * MIB, "ncf_scorer/1/model.data": 8_000 * MIB}
    sizes["candidate_sampler/1/arrays/histories.items.npy"] = 12_000 * MIB
    release = ReleaseManifest(
        release=1,
        contract=ContractRecord.of(read_contract()),
        golden=(),
        digest="",
        files={name: FileRecord(sha256="", bytes=size) for name, size in sizes.items()},
    )
    monkeypatch.setattr(trial, "_reason_for_none", lambda: "")
    monkeypatch.setattr(trial, "available_memory", lambda: Memory(3_000 * MIB, "the machine"))
    with (
        pytest.raises(CestaError, match=r"takes about 3,240 MiB, and the machine leaves 3,000 MiB"),
        trial.open_trial(open_repository(tmp_path), release),
    ):
        pass
