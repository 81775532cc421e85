"""The manifest's list of files, and the check of files against it."""

import importlib.metadata
import json
import re
from pathlib import Path

import pytest

from export_scripts import provenance
from operations.errors import CestaError
from operations.records import manifest


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "arrays").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    (folder / "arrays" / "a.npy").write_bytes(b"abc")
    files = manifest.describe(folder.rglob("*"), folder)
    manifest.write({"files": files, "name": "café"}, folder)
    return folder


def test_files_are_listed_by_relative_path(run: Path) -> None:
    """SHA-256 of "abc" is a test vector of FIPS 180."""
    listed = manifest.read(run / "manifest.json")["files"]
    assert list(listed) == ["arrays/a.npy", "model.onnx"]
    assert listed["arrays/a.npy"] == {
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "bytes": 3,
    }


def test_a_whole_run_is_verified(run: Path) -> None:
    assert manifest.verify_run(run)["name"] == "café"


def test_a_flipped_byte_is_found(run: Path) -> None:
    """The length is the same, so only the digest differs. The sentence names the file and the way out."""
    (run / "arrays" / "a.npy").write_bytes(b"abd")
    with pytest.raises(CestaError, match=r'a\.npy is not what the manifest lists .*run "cesta export" again'):
        manifest.verify_run(run)


def test_a_missing_file_is_found(run: Path) -> None:
    (run / "model.onnx").unlink()
    with pytest.raises(CestaError, match=r"model\.onnx is missing"):
        manifest.verify_run(run)


@pytest.mark.parametrize("name", ["notes.txt", "arrays/manifest.json"])
def test_a_stranger_is_found(run: Path, name: str) -> None:
    """A server might load a file that is not listed; a manifest in another folder is one, too."""
    (run / name).write_text("{}")
    with pytest.raises(CestaError, match=re.escape(f"{name} is not in the manifest; remove it")):
        manifest.verify_run(run)


def test_no_run_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(CestaError, match=r'no run in .*run "cesta export" first'):
        manifest.verify_run(tmp_path)


def test_a_damaged_manifest_is_one_sentence(run: Path) -> None:
    (run / "manifest.json").write_text('{"files": {')
    with pytest.raises(CestaError, match=r"manifest\.json is damaged"):
        manifest.verify_run(run)


def test_digest_is_of_names_and_contents_only() -> None:
    """The order does not matter; a name or a content does."""
    one = {"a": {"sha256": "1", "bytes": 1}, "b": {"sha256": "2", "bytes": 1}}
    assert manifest.digest(one) == manifest.digest(dict(reversed(one.items())))
    assert manifest.digest(one) != manifest.digest({"a": one["b"], "b": one["a"]})


def test_versions_are_recorded() -> None:
    made_with = provenance.made_with()
    assert made_with.keys() == {"python", *provenance.LIBRARIES}
    json.dumps(made_with)


def test_another_build_of_a_library_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """`cesta export --tensorrt` takes its onnxruntime from the distribution onnxruntime-gpu."""
    installed = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name in {"onnxruntime", "faiss-cpu"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    made_with = provenance.made_with()
    assert made_with["onnxruntime"][:2] == "1."
    assert made_with["faiss"][:2] == "1."


def test_outside_a_checkout_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is installed, or the machine has no git."""
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None
