"""Refusals before a tritonserver starts, and their sentences; no server runs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from operations.errors import NoRoom
from operations.server.environment import (
    ServerError,
    assemble_runtime,
    check_programs,
    check_serving_environment,
    check_space,
    child_variables,
    find_serving_environment,
)
from operations.server.inherited import inherited_variables
from operations.server.process import Server
from operations.server.repository_url import triton_url
from operations.server.settings import (
    ServerSettings,
    check_repository,
    claim_ports,
    find_own_ip,
    parse_settings,
)

MakeEnvironment = Callable[..., Path]


@pytest.fixture
def make_environment(tmp_path: Path) -> MakeEnvironment:
    """Lay out the files that mark a serving environment."""

    def make(python: str = "3.11", numpy: str = "1.26.4", stubs: tuple[str, ...] = ("3.10", "3.11")) -> Path:
        site_packages = tmp_path / "serving" / "lib" / f"python{python}" / "site-packages"
        triton = site_packages / "pytriton" / "tritonserver"
        for file in [
            "bin/tritonserver",
            *(f"python_backend_stubs/{v}/triton_python_backend_stub" for v in stubs),
        ]:
            (triton / file).parent.mkdir(parents=True, exist_ok=True)
            (triton / file).touch()
        (site_packages / f"numpy-{numpy}.dist-info").mkdir()
        return tmp_path / "serving"

    return make


def test_a_complete_environment_passes(make_environment: MakeEnvironment) -> None:
    """The check reads files on disk: it imports and runs nothing of the environment."""
    environment = find_serving_environment(make_environment())

    check_serving_environment(environment)
    assert environment.python_version == "3.11"


def test_a_missing_environment_names_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`CESTA_SERVING_ENV` decides where to look; the way out is `make install`."""
    monkeypatch.setenv("CESTA_SERVING_ENV", str(tmp_path / "nowhere"))

    with pytest.raises(ServerError, match=r'no tritonserver in .*nowhere; run "make install"'):
        find_serving_environment()


def test_a_python_without_a_stub_is_refused(make_environment: MakeEnvironment) -> None:
    """This tritonserver must have a stub for the Python of the environment."""
    environment = find_serving_environment(make_environment(python="3.14"))

    with pytest.raises(
        ServerError, match=r'has Python 3\.14 and its tritonserver runs 3\.10, 3\.11; run "make'
    ):
        check_serving_environment(environment)


def test_numpy_2_is_refused(make_environment: MakeEnvironment) -> None:
    """With numpy 2 this Triton's tensors arrive corrupt without an error, so it never starts there."""
    environment = find_serving_environment(make_environment(numpy="2.1.0"))

    with pytest.raises(ServerError, match=r"has numpy-2\.1\.0, but its tritonserver needs numpy 1"):
        check_serving_environment(environment)


def test_another_architecture_is_refused(
    make_environment: MakeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel's programs are for one; an installation may be for another."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")

    with pytest.raises(ServerError, match=r"this machine is aarch64 and .* runs on x86_64; set CESTA_TRITON"):
        check_serving_environment(find_serving_environment(make_environment()))


def test_the_interpreter_is_the_one_that_the_environment_was_made_from(
    make_environment: MakeEnvironment, tmp_path: Path
) -> None:
    """With `venv --copies` the environment's own is a copy, beside which there is no libpython."""
    root, base = make_environment(), tmp_path / "base"
    for path in (root / "bin" / "python3", base / "bin" / "python3.11", base / "lib64/libpython3.11.so.1.0"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "pyvenv.cfg").write_text(f"home = {base / 'bin'}\nversion = 3.11.7\n")
    environment = find_serving_environment(root)

    assert environment.interpreter == base / "bin" / "python3.11"
    assert environment.library_path[0] == base / "lib64"


def test_an_environment_whose_python_is_gone_is_refused(
    make_environment: MakeEnvironment, tmp_path: Path
) -> None:
    """A newer patch release has replaced it."""
    root = make_environment()
    (root / "pyvenv.cfg").write_text(f"home = {tmp_path / 'pyenv' / '3.11.6' / 'bin'}\n")

    with pytest.raises(
        ServerError, match=r"was made from .*3\.11\.6/bin/python3, which is gone; remove .*serving"
    ):
        check_programs(find_serving_environment(root))


def test_an_old_glibc_is_refused(make_environment: MakeEnvironment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ubuntu 20.04 has 2.31; the sentence names both versions."""
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.31")

    with pytest.raises(ServerError, match=r"has glibc 2\.31 and tritonserver needs 2\.35 or newer"):
        check_serving_environment(find_serving_environment(make_environment()))


@pytest.mark.parametrize(
    ("shared_mib", "disk_mib", "reason"),
    [
        (63, 1000, r"/dev/shm has 63 MiB free of the 64 needed; .*--shm-size"),
        (1000, 10, r"/spool has 10 MiB free of the 64 needed; .*TMPDIR"),
    ],
)
def test_too_little_space_is_refused(
    monkeypatch: pytest.MonkeyPatch, shared_mib: int, disk_mib: int, reason: str
) -> None:
    """Shared memory carries the tensors, the temporary folder the backends."""
    free = {Path("/dev/shm"): shared_mib, Path("/spool"): disk_mib}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder] * 2**20))

    with pytest.raises(NoRoom, match=reason):
        check_space(temporary=Path("/spool"))


def test_missing_shared_memory_is_refused(tmp_path: Path) -> None:
    """A container or chroot without it; Triton's stubs would end without a word."""
    with pytest.raises(ServerError, match=r"/shm cannot be used \(No such file or directory\); .*--shm-size"):
        check_space(tmp_path / "shm")


def test_a_temporary_folder_that_runs_nothing_is_refused(
    make_environment: MakeEnvironment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker mounts a tmpfs so. Triton would only say "failed to map segment"."""
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC | os.ST_NOSUID))

    with pytest.raises(ServerError, match=rf"{tmp_path} is mounted noexec, .*--tmpfs /tmp:exec.*TMPDIR"):
        assemble_runtime(tmp_path / "runtime", find_serving_environment(make_environment()))


def test_a_repository_without_a_release_is_refused(tmp_path: Path) -> None:
    """A model folder alone is no release: a numbered version is."""
    (tmp_path / "recommender" / "staging").mkdir(parents=True)
    settings = ServerSettings(repository=tmp_path)

    with pytest.raises(ServerError, match=r'no release of recommender in .*; run "make demo" first'):
        check_repository(settings)
    (tmp_path / "recommender" / "3").mkdir()
    with pytest.raises(
        ServerError, match=r'no release of recommender in .* was promoted; .*release promote"'
    ):
        check_repository(settings)
    (tmp_path / "recommender" / "config.pbtxt").touch()
    check_repository(settings)


def test_a_named_config_that_no_model_has_is_refused(tmp_path: Path) -> None:
    """Triton would silently continue with config.pbtxt."""
    (tmp_path / "recommender" / "3").mkdir(parents=True)
    (tmp_path / "recommender" / "config.pbtxt").touch()
    settings = ServerSettings(repository=tmp_path, config="tensorrt")

    with pytest.raises(ServerError, match=r"no model in .* has a configs/tensorrt\.pbtxt.*release promote"):
        check_repository(settings)
    (tmp_path / "ncf_scorer" / "configs").mkdir(parents=True)
    (tmp_path / "ncf_scorer" / "configs" / "tensorrt.pbtxt").touch()
    check_repository(settings)


def test_a_repository_elsewhere_is_left_to_triton() -> None:
    """This machine cannot look into a URL."""
    check_repository(ServerSettings(repository="s3://http://127.0.0.1:5005/bucket/repository"))


def test_a_port_in_use_is_named_with_its_way_out() -> None:
    """The name is that of the setting and of the flag."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = ServerSettings(repository="", http_port=0, grpc_port=0, metrics_port=port)

        with pytest.raises(
            ServerError, match=rf"metrics_port {port} on 127\.0\.0\.1 cannot be used .*--metrics-port"
        ):
            claim_ports(settings)


def test_ports_of_zero_become_three_different_ones() -> None:
    """The system's ports are free at that moment and differ between the services."""
    settings = claim_ports(ServerSettings(repository="", http_port=0, grpc_port=0, metrics_port=0))

    assert len({settings.http_port, settings.grpc_port, settings.metrics_port} - {0}) == 3


def test_the_command_line_has_the_settings_defaults() -> None:
    """Flags that are not given leave the settings' defaults; repeated models become a tuple."""
    assert parse_settings(None, ["--repository=r"]) == ServerSettings(repository="r")
    assert parse_settings(None, ["--model=a", "--model=b", "--", "--rate-limit=off"]) == ServerSettings(
        repository="artifacts/repository", models=("a", "b"), extra_args=("--rate-limit=off",)
    )


def test_a_stub_gets_as_many_threads_as_asked(make_environment: MakeEnvironment, tmp_path: Path) -> None:
    """Without a limit every model process would take every core for its BLAS."""
    variables = child_variables(tmp_path, find_serving_environment(make_environment()), threads=2)

    assert [variables[f"{library}_NUM_THREADS"] for library in ("OMP", "OPENBLAS", "NUMBA")] == [
        "2",
        "2",
        "2",
    ]


def test_importing_the_server_takes_the_standard_library_alone() -> None:
    """It runs in the application environment and must not import the serving environment's packages."""
    script = (
        "import sys, operations.server.process; sys.exit(not {'numpy', 'pytriton'}.isdisjoint(sys.modules))"
    )

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


QUIET = {"ORT_DISABLE_TELEMETRY": "1"}  # ONNX Runtime sends nothing home, unless the user sets another value


def test_an_embedded_server_inherits_nothing_that_leads_its_libraries_elsewhere() -> None:
    shell = {"LD_PRELOAD": "x", "LD_LIBRARY_PATH": "y", "PYTHONHOME": "z", "PYTHONPATH": "z", "LANG": "C"}
    assert inherited_variables("/x", is_embedded=True, environment=shell) == QUIET | {"LANG": "C"}
    kept = inherited_variables("/x", is_embedded=False, environment=shell)
    assert kept == QUIET | shell  # an image sets them for its own libraries


def test_models_see_a_store_s_credentials_only_if_they_come_from_one() -> None:
    shell = {"AWS_SECRET_ACCESS_KEY": "x", "GOOGLE_APPLICATION_CREDENTIALS": "y", "CESTA_CONTROL_SECRET": "z"}
    assert inherited_variables("/x", is_embedded=True, environment=shell) == QUIET
    kept = inherited_variables("s3://b/x", is_embedded=True, environment=shell)
    assert kept == QUIET | {name: shell[name] for name in shell if name != "CESTA_CONTROL_SECRET"}


def test_tritonserver_asks_no_proxy_for_this_machine() -> None:
    shell = {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": ".example"}
    kept = inherited_variables("s3://b/x", is_embedded=True, environment=shell)
    assert kept["HTTPS_PROXY"] == "http://proxy:3128"
    assert kept["no_proxy"] == kept["NO_PROXY"] == f".example,localhost,127.0.0.1,::1,{socket.gethostname()}"
    shell["AWS_ENDPOINT_URL"] = "http://registry:9000"
    assert inherited_variables("s3://b/x", is_embedded=True, environment=shell)["no_proxy"].endswith(
        ",registry"
    )
    without = {"no_proxy": "a"}
    assert inherited_variables("/x", is_embedded=True, environment=without) == QUIET | without


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::"),
        ("0.0.0.0", "0.0.0.0"),
        ("localhost", "127.0.0.1"),
    ],
)
def test_a_host_becomes_its_ip_address(host: str, ip: str) -> None:
    assert find_own_ip(host) == ip
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    server = Server(claim_ports(ServerSettings(repository="r", host=host, **ports)))
    shown = f"[{ip}]" if ":" in ip else ip
    assert server.http == f"{shown}:{server.settings.http_port}"


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("no-such-host.invalid", "neither an IP address nor a known name"),
        ("", "neither an IP address nor a known name"),
        ("256.0.0.1", "neither an IP address nor a known name"),
        ("192.0.2.1", "no address of this machine"),
        ("2001:db8::1", "no address of this machine"),
    ],
)
def test_a_host_that_is_not_this_machine_is_refused(host: str, problem: str) -> None:
    with pytest.raises(ServerError, match=f'--host "{host}" is {problem}.*; use 127.0.0.1, ::1'):
        claim_ports(ServerSettings(repository="r", host=host))


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ServerError, match=f"--grpc-port {port} is not a port"):
        claim_ports(ServerSettings(repository="r", http_port=0, grpc_port=port))


@pytest.mark.parametrize("name", ["a b", "a;touch x", "$HOME", "shöp"])
def test_tritonserver_gets_plain_paths(
    tmp_path: Path, make_environment: MakeEnvironment, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It writes them into shell lines, unquoted."""
    odd = tmp_path / name
    make_environment().rename(odd)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(odd / "numba"))
    environment = find_serving_environment(odd)
    (odd / "bin").mkdir()
    (odd / "bin" / "python3").symlink_to(sys.executable)
    variables = child_variables(tmp_path, environment, threads=1)
    for path in (triton_url(odd), environment.root, environment.triton, variables["NUMBA_CACHE_DIR"]):
        assert re.fullmatch(r"[\w/.-]+", str(path), re.ASCII)
        assert Path(path).exists()
        assert Path(path).resolve().is_relative_to(odd)
    assert name not in variables["LD_LIBRARY_PATH"]


def test_a_user_without_a_home_folder_compiles_the_kernels_for_one_start(
    tmp_path: Path, make_environment: MakeEnvironment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a container's random user."""
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(_no_home))
    variables = child_variables(tmp_path, find_serving_environment(make_environment()), threads=1)
    assert variables["NUMBA_CACHE_DIR"] == str(tmp_path / "cache" / "cesta" / "numba")


def _no_home(cls: type[Path]) -> Path:
    raise RuntimeError("Could not determine home directory.")
