"""What the dynamic loader misses, asked before a program starts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from operations.server.libraries import libpython_folders, missing_in, missing_libraries

TRUE = Path(shutil.which("true") or "/bin/true")


def test_a_program_whose_libraries_are_there_lacks_none() -> None:
    assert missing_libraries(Path(sys.executable), "") == []


def test_a_library_that_the_loader_does_not_find_is_named(tmp_path: Path) -> None:
    """The same program with another library's name in it, of the same length."""
    program = tmp_path / "program"
    program.write_bytes(TRUE.read_bytes().replace(b"libc.so.6", b"libx.so.6"))
    program.chmod(0o755)
    assert missing_libraries(program, "") == ["libx.so.6"]


def test_a_version_that_is_too_new_is_named(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(TRUE.read_bytes().replace(b"GLIBC_2.34", b"GLIBC_2.94"))
    program.chmod(0o755)
    assert missing_libraries(program, "") == ["GLIBC_2.94"]


def test_wanted_libraries_are_looked_for_as_a_new_program_would() -> None:
    wanted = ("libc.so.6", "libnobodyhasit.so.1")
    assert missing_libraries(TRUE, "", wanted) == ["libnobodyhasit.so.1"]


def test_the_loaders_line_in_a_log_names_the_library() -> None:
    line = (
        "/tmp/stub: error while loading shared libraries: libpython3.11.so.1.0: "
        "cannot open shared object file: No such file or directory"
    )
    assert missing_in(f"I1130 loading\n{line}\n{line}\n") == ["libpython3.11.so.1.0"]


def test_the_library_of_an_interpreter_lies_in_its_own_prefix(tmp_path: Path) -> None:
    """uv and pyenv keep it in lib, some builds in lib64; that of a distribution is the loader's business."""
    for folder in ("lib", "lib64"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lib64" / "libpython3.12.so.1.0").touch()
    assert libpython_folders(tmp_path, "3.12") == [tmp_path / "lib64"]
    assert libpython_folders(tmp_path, "3.11") == []
    assert libpython_folders(Path("/usr"), "3.11") == []
