"""The compiled `onnxruntime` backend: when it is compiled, when it is found, and what a failure prints."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from operations.server import compiled_backend
from operations.server.compiled_backend import compile_library, find_library
from operations.server.environment import ServerError, ServingEnvironment
from tests.running import needs


@pytest.fixture
def environment(tmp_path: Path) -> ServingEnvironment:
    """A serving environment with the one file that is read: the library of ONNX Runtime."""
    site_packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (site_packages / "onnxruntime" / "capi").mkdir(parents=True)
    (site_packages / "onnxruntime" / "capi" / "libonnxruntime.so.1.32.0").touch()
    return ServingEnvironment(tmp_path, site_packages)


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that writes its arguments into its output."""
    path = tmp_path / "c++"
    path.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\nout=$2\nshift 2\necho "$@" > "$out"\n')
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    return path


def test_a_library_is_compiled_once_and_then_found(environment: ServingEnvironment, compiler: Path) -> None:
    """It lies in the serving environment, linked to the ONNX Runtime there."""
    assert find_library(environment) is None

    library = compile_library(environment)

    assert find_library(environment) == library
    assert f"-Xlinker -rpath -Xlinker {library.parent}" in library.read_text()  # a comma would end -Wl
    assert (library.parent / "libonnxruntime.so.1").resolve().name == "libonnxruntime.so.1.32.0"
    compiler.write_text("#!/bin/sh\nexit 1\n")
    assert compile_library(environment) == library


def test_a_library_of_other_sources_is_not_found(
    environment: ServingEnvironment, compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key covers the sources and the ONNX Runtime."""
    old = compile_library(environment)
    changed = tmp_path / "sources"
    shutil.copytree(compiled_backend._SOURCES, changed)
    (changed / "graph.h").write_text("// changed")
    with monkeypatch.context() as patch:
        patch.setattr(compiled_backend, "_SOURCES", changed)
        assert find_library(environment) is None
        assert compile_library(environment) != old
    assert find_library(environment) == old

    runtime = next((environment.site_packages / "onnxruntime" / "capi").iterdir())
    runtime.rename(runtime.with_name("libonnxruntime.so.1.33.0"))
    assert find_library(environment) is None


def test_without_a_compiler_the_way_out_is_named(
    environment: ServingEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(ServerError, match=r"no C\+\+ compiler .*apt-get install g\+\+"):
        compile_library(environment)


def test_a_compiler_s_errors_are_shown_and_nothing_is_left(
    environment: ServingEnvironment, compiler: Path
) -> None:
    compiler.write_text("#!/bin/sh\necho graph.h: no such type >&2\nexit 3\n")

    with pytest.raises(ServerError, match=r"ended with 3:\ngraph\.h: no such type"):
        compile_library(environment)

    assert find_library(environment) is None
    assert [path.name for path in (environment.root / "lib" / "cesta").iterdir()] == ["libonnxruntime.so.1"]


def test_tests_of_the_backend_fail_if_it_does_not_compile_and_skip_without_a_compiler(
    environment: ServingEnvironment, compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Python backend would serve then, so that no other test would fail."""
    monkeypatch.setattr(needs, "find_serving_environment", lambda: environment)
    with pytest.raises(pytest.fail.Exception, match=re.escape(f"though {compiler} is here")):
        needs.the_compiled_backend()

    compile_library(environment)
    needs.the_compiled_backend()

    shutil.rmtree(environment.root / "lib" / "cesta")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX")
    with pytest.raises(pytest.skip.Exception, match="apt-get install g"):
        needs.the_compiled_backend()


def test_an_environment_without_onnxruntime_is_named(environment: ServingEnvironment, compiler: Path) -> None:
    shutil.rmtree(environment.site_packages / "onnxruntime")

    with pytest.raises(ServerError, match=r"there is no libonnxruntime\.so\.\* in .*capi"):
        compile_library(environment)
