"""A tritonserver that is installed elsewhere, as in NVIDIA's image: `CESTA_TRITON`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from operations.server.process import Server, ServerError, ServerSettings
from operations.server.response_cache import PASSWORD_FILE
from tests.building.installed_triton import lay_out_triton
from tests.running.processes import command
from tests.running.toy_shop import ToyShop

pytestmark = [pytest.mark.triton, pytest.mark.timeout(60)]


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel's files laid out as in /opt/tritonserver."""
    folder = lay_out_triton(tmp_path / "opt" / "tritonserver")
    monkeypatch.setenv("CESTA_TRITON", str(folder))
    return folder


def test_a_release_is_served_by_an_installation_and_its_backends(shop: ToyShop, installation: Path) -> None:
    """Sampler, scorer and cache answer correctly; the program and the backends are the installation's."""
    one = shop.first(1)
    assert shop.mistakes(one) == []
    assert shop.mistakes(one) == []  # from the cache

    program, *options = command(shop.server.pid)
    assert program == str(installation / "bin" / "tritonserver")
    assert f"--backend-directory={installation / 'backends'}" in options
    assert "--allow-gpu-metrics=true" in options


def test_the_embedded_server_has_no_redis(shop: ToyShop, start_server: Callable[..., Server]) -> None:
    """The start is refused and leaves nothing behind."""
    shop.first(1)
    with pytest.raises(
        ServerError, match=r"no Redis cache: there is no .*/caches/redis/libtritoncache_redis\.so"
    ):
        start_server(str(shop.repository), response_cache="redis://127.0.0.1")


def test_a_redis_s_password_reaches_the_server_by_its_environment(
    installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program in tritonserver's place prints its arguments and environment: the password is no argument."""
    (tmp_path / "recommender" / "1").mkdir(parents=True)
    (tmp_path / "recommender" / "config.pbtxt").touch()
    for name in ("bin", "caches"):
        (installation / name).unlink()
    (installation / "caches" / "redis").mkdir(parents=True)
    (installation / "caches" / "redis" / "libtritoncache_redis.so").touch()
    program = installation / "bin" / "tritonserver"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "password $TRITONCACHE_REDIS_PASSWORD"\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "password"))
    lines: list[str] = []
    ports = {"http_port": 0, "grpc_port": 0, "metrics_port": 0}
    settings = ServerSettings(repository=tmp_path, response_cache="redis://cache:7000", **ports)

    with Server(settings, on_log=lines.append) as server:
        assert server.wait(10) == 0

    assert [line for line in lines if "s3cret" in line] == ["password s3cret"]
    assert {"--cache-config=redis,host=cache", "--cache-config=redis,port=7000"} < {*lines}


@pytest.mark.parametrize(
    "gone", ["bin", "backends/onnxruntime", "backends/python/triton_python_backend_stub"]
)
def test_what_an_installation_lacks_is_named(
    installation: Path, start_server: Callable[..., Server], gone: str
) -> None:
    """The error comes before anything is started, with the way out."""
    path = installation / gone
    path.rename(installation / "elsewhere")
    with pytest.raises(
        ServerError, match=rf"CESTA_TRITON is .* there is no {path}.*; set it to .*, or unset it"
    ):
        start_server("artifacts/repository")


def test_an_installation_for_another_python_is_refused(
    installation: Path, start_server: Callable[..., Server]
) -> None:
    """The stub of the installation would not find the packages of this Python."""
    (installation / "backends" / "python" / "triton_python_backend_stub").write_bytes(
        b"\0libpython3.9.so.1.0\0"
    )
    with pytest.raises(
        ServerError, match=r"runs Python 3\.9 and .* has Python 3\.1\d; make one with the former"
    ):
        start_server("artifacts/repository")
