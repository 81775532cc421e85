"""Releases of the same code import it from one folder, releases of other code from another."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ensemble.candidate_sampler.shared_code import digest_of, import_adapter, shared


@pytest.fixture(autouse=True)
def _modules() -> Iterator[None]:
    """Forget the modules that a test imports."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def release(folder: Path, answer: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "adapter.py").write_text("from .kernels import ANSWER\n")
    (folder / "kernels.py").write_text(f"ANSWER = {answer}\n")
    (folder / "arrays").mkdir()
    return folder


def test_the_same_code_is_one_package(tmp_path: Path) -> None:
    first, second, other = (
        shared(release(tmp_path / name, answer), tmp_path / "code")
        for name, answer in (("1", 1), ("2", 1), ("3", 3))
    )
    assert first == second != other
    assert digest_of(first) == digest_of(tmp_path / "2") != digest_of(other)
    assert sorted(file.name for file in first.iterdir()) == ["__init__.py", "adapter.py", "kernels.py"]
    assert len(list((tmp_path / "code").iterdir())) == 2


def test_a_name_is_part_of_the_code(tmp_path: Path) -> None:
    one, two = release(tmp_path / "1"), release(tmp_path / "2")
    (two / "kernels.py").rename(two / "other.py")
    assert digest_of(one) != digest_of(two)


@pytest.mark.parametrize("spoil", ["changed", "removed", "added"])
def test_a_copy_that_somebody_changed_is_made_again(spoil: str, tmp_path: Path) -> None:
    first = shared(release(tmp_path / "1"), tmp_path / "code")
    if spoil == "changed":
        (first / "kernels.py").write_text("ANSWER = 666\n")
    elif spoil == "removed":
        (first / "kernels.py").unlink()
    else:
        (first / "more.py").write_text("")
    assert shared(tmp_path / "1", tmp_path / "code") == first
    assert digest_of(first) == digest_of(tmp_path / "1")


def test_another_process_may_be_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the check and the rename. Its package is as good."""
    theirs: list[Path] = []
    move = Path.rename

    def late(self: Path, target: Path) -> Path:
        if not theirs:
            theirs.append(target)
            shared(tmp_path / "1", tmp_path / "code")
        return move(self, target)

    release(tmp_path / "1")
    monkeypatch.setattr(Path, "rename", late)
    package = shared(tmp_path / "1", tmp_path / "code")
    assert theirs == [package.parent]
    assert digest_of(package) == digest_of(tmp_path / "1")
    assert [folder.name for folder in (tmp_path / "code").iterdir()] == [package.parent.name]


def test_the_adapter_comes_from_the_shared_folder(tmp_path: Path) -> None:
    adapter = import_adapter(release(tmp_path / "1", 5), str(tmp_path / "cache"))
    assert adapter.ANSWER == 5
    assert adapter.__name__ == "candidate_sampler.adapter"
    assert str(adapter.__file__).startswith(str(tmp_path / "cache" / "code"))


def test_the_folder_may_be_named_from_where_the_server_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert import_adapter(release(Path("1"), 7), "a/../cache").ANSWER == 7
    assert (tmp_path / "cache" / "code").is_dir()


@pytest.mark.parametrize("cache", [None, "file"])
def test_without_a_folder_to_write_to_it_comes_from_the_release(cache: str | None, tmp_path: Path) -> None:
    """A release folder is named by its number, and Triton imports it by that name."""
    number = "70" if cache else "71"
    release(tmp_path / number, 6)
    (tmp_path / "file").write_text("no folder")
    adapter = import_adapter(tmp_path / number, cache and str(tmp_path / cache))
    assert (adapter.ANSWER, adapter.__name__) == (6, f"{number}.adapter")


def test_other_code_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """Python knows the package only by its name, and would answer with the first one."""
    import_adapter(release(tmp_path / "1", 1), str(tmp_path / "cache"))
    with pytest.raises(
        ImportError, match=r"adapter\.py was imported before; a process serves the code of one"
    ):
        import_adapter(release(tmp_path / "2", 2), str(tmp_path / "cache"))
