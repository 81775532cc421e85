"""The options of a response cache, refused ones, and passwords that stay secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from operations.server.environment import ServerError
from operations.server.response_cache import PASSWORD_FILE, cache_options, cache_secret, parse_cache
from operations.server.settings import ServerSettings, parse_settings


@pytest.fixture
def caches(tmp_path: Path) -> Path:
    """The cache libraries of NVIDIA's image."""
    (tmp_path / "redis").mkdir()
    (tmp_path / "redis" / "libtritoncache_redis.so").touch()
    return tmp_path


def test_bytes_are_the_server_s_own_memory(tmp_path: Path) -> None:
    assert cache_options(1000, tmp_path) == ["--cache-config=local,size=1000"]
    assert cache_options(0, tmp_path) == []


def test_a_redis_is_given_by_its_url(caches: Path) -> None:
    """The default port is 6379; nothing waits forever for it."""
    options = cache_options("redis://shop@cache:7000", caches)
    assert options[:3] == [
        "--cache-config=redis,host=cache",
        "--cache-config=redis,port=7000",
        "--cache-config=redis,user=shop",
    ]
    assert {"--cache-config=redis,connect_timeout=500", "--cache-config=redis,socket_timeout=100"} < {
        *options
    }
    assert "--cache-config=redis,port=6379" in cache_options("redis://cache", caches)


def test_a_server_without_the_library_says_what_it_looked_for(tmp_path: Path) -> None:
    """The embedded server comes from the wheel, which has only the local cache."""
    with pytest.raises(
        ServerError, match=r"there is no .*/redis/libtritoncache_redis\.so; .*CESTA_TRITON.*bytes"
    ):
        cache_options("redis://cache", tmp_path)


@pytest.mark.parametrize(
    "url", ["memcached://cache", "64MiB", "redis://", "redis://cache/3", "redis://cache:x"]
)
def test_an_invalid_cache_is_refused(caches: Path, url: str) -> None:
    with pytest.raises(ServerError, match=f"--response-cache {url}: "):
        cache_options(url, caches)


def test_a_password_stays_out_of_command_lines_and_errors(
    caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lies in a file, and in tritonserver's environment, where its Redis cache reads it."""
    with pytest.raises(ServerError, match=PASSWORD_FILE) as refused:
        cache_options("redis://:s3cret@cache", caches)
    assert "s3cret" not in str(refused.value)

    (tmp_path / "password").write_text("s3cret\n")
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "password"))
    assert cache_secret("redis://cache") == {"TRITONCACHE_REDIS_PASSWORD": "s3cret"}
    assert cache_secret(1000) == {}
    assert not any("s3cret" in option for option in cache_options("redis://cache", caches))
    monkeypatch.setenv(PASSWORD_FILE, str(tmp_path / "gone"))
    with pytest.raises(ServerError, match="cannot be read"):
        cache_secret("redis://cache")


def test_a_command_line_takes_a_size_or_a_url() -> None:
    assert parse_cache("0") == 0
    assert parse_settings(None, ["--response-cache=redis://cache"]) == ServerSettings(
        repository="artifacts/repository", response_cache="redis://cache"
    )
    assert parse_settings(None, ["--response-cache=10"]).response_cache == 10
