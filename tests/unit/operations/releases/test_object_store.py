"""An object store on a bad day, the lock, and their form in the URL."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from operations.address import proxy_and_exceptions
from operations.errors import CestaError, NotPromoted
from operations.records.object_path import ObjectPath
from operations.releases import history, publish
from operations.releases.history import Action
from operations.releases.promote import promote
from operations.releases.repository import active_release, releases
from operations.releases.signatures.verify import verify_release
from operations.releases.stores import bucket, lease
from operations.releases.stores.store import Repository, open_repository
from operations.server.environment import ServerError
from operations.server.repository_url import triton_url
from tests.building import TOY_SAMPLER
from tests.building.runs import toy_run
from tests.running.network import DENY, FAIL, PASS, STALL, TRUNCATE, BadNetwork
from tests.running.proxy import Proxy, proxy
from tests.running.s3 import S3

__all__ = ["proxy"]


@pytest.fixture
def network(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[BadNetwork]:
    """A proxy between the bucket and all clients; silence is tolerated for a second."""
    network = BadNetwork(s3.endpoint)
    for name, value in s3.variables(network.endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CESTA_STORE_TIMEOUT_S", "1")
    yield network
    network.close()


@pytest.fixture
def repository(s3: S3, network: BadNetwork) -> Repository:
    return open_repository(f"s3://{s3.bucket()}/shop")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("operations.records.sampler_code.SAMPLER_CODE", TOY_SAMPLER)
    return toy_run(tmp_path / "run", 1)


def test_a_hiccup_is_not_noticed(run: Path, repository: Repository, network: BadNetwork) -> None:
    """Every request fails once with a 500."""
    before: set[tuple[str, str]] = set()

    def once(method: str, path: str) -> str:
        repeated = (method, path) in before
        before.add((method, path))
        return PASS if repeated else FAIL

    network.plan = once
    assert publish.publish(run, repository) == 1
    assert verify_release(repository, 1).release == 1
    assert publish.next_release(repository) == 2


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        (FAIL, "500 Internal Server Error.*try again, or look at AWS_ACCESS_KEY_ID"),
        (DENY, "the store refuses these credentials; look at AWS_ACCESS_KEY_ID"),
        (STALL, r"the store is silent \(CESTA_STORE_TIMEOUT_S=1\)"),
    ],
)
def test_a_store_that_stays_ill_is_named(
    run: Path, repository: Repository, network: BadNetwork, what: str, sentence: str
) -> None:
    """A failed publish leaves no release, a failed promotion changes nothing; both fail within seconds."""
    publish.publish(run, repository)
    promote(repository, 1)
    started = time.monotonic()
    network.plan = lambda method, path: what if "model.onnx" in path else PASS
    with pytest.raises(CestaError, match=rf"s3://bucket-\d+/shop/ncf_scorer/2/model.onnx: .*{sentence}"):
        publish.publish(run, repository)
    with pytest.raises(NotPromoted, match=rf"release 1 is still .* s3://.*model.onnx: .*{sentence}"):
        promote(repository, 1)
    assert time.monotonic() - started < 90
    network.plan = lambda method, path: PASS
    assert releases(repository) == [1]
    assert active_release(repository) == 1
    assert publish.publish(run, repository) == 3


def test_a_file_that_arrives_cut_off_is_refused(
    run: Path, repository: Repository, network: BadNetwork
) -> None:
    publish.publish(run, repository)
    network.plan = lambda method, path: TRUNCATE if method == "GET" and "model.onnx" in path else PASS
    with pytest.raises(CestaError, match=r"ncf_scorer/1/model\.onnx: "):
        verify_release(repository, 1)


def test_an_upload_that_was_cut_off_unseen_is_no_release(
    run: Path, repository: Repository, s3: S3, network: BadNetwork
) -> None:
    """The store reports success but has fewer bytes."""

    def cut(method: str, path: str) -> str:
        if method == "GET" and "list-type" in path and "ncf_scorer" in path and "delimiter" not in path:
            s3.request("PUT", f"/{repository.root.url.partition('://')[2]}/ncf_scorer/1/model.onnx", b"half")
        return PASS

    network.plan = cut
    with pytest.raises(CestaError, match=r"ncf_scorer/1/model\.onnx has 4 bytes of the \d+ that were sent"):
        publish.publish(run, repository)
    assert releases(repository) == []


def test_a_store_that_cannot_be_reached_is_named(run: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(CestaError, match=r"s3://shop/a/.*: the store cannot be reached; look at AWS_"):
            publish.publish(run, open_repository("s3://shop/a"))


def test_a_missing_bucket_is_named(run: Path, s3: S3) -> None:
    with pytest.raises(CestaError, match=r"s3://nobody-made-it/a.*: no such bucket; create it"):
        publish.publish(run, open_repository("s3://nobody-made-it/a"))


@pytest.mark.parametrize("what", [DENY, FAIL, STALL])
def test_a_store_that_refuses_the_lock_changes_nothing(
    run: Path, repository: Repository, network: BadNetwork, what: str
) -> None:
    """A bucket that may only be read, one that fails, and one that is silent. `.lock` is the first write."""
    publish.publish(run, repository)
    promote(repository, 1)
    before = history.read(repository)
    network.plan = lambda method, path: what if method == "PUT" else PASS
    with pytest.raises(
        CestaError,
        match=r"nothing was changed, since s3://\S+ could not be locked: s3://\S+/\.lock: ",
    ):
        promote(repository, 1)
    network.plan = lambda method, path: PASS
    assert history.read(repository) == before


def test_a_missing_store_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(CestaError, match=r's3://shop/a needs obstore; run pip install "cesta\[stores\]"'):
        open_repository("s3://shop/a")


def test_a_store_without_conditions_is_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two publishers would get the same number there."""
    monkeypatch.setattr(ObjectPath, "create", lambda path, content: path.write_bytes(content) or True)
    with pytest.raises(CestaError, match="this store has no conditional writes"), repository.lock():
        pass


def test_only_one_of_many_gets_the_lock(repository: Repository) -> None:
    """Another one gets it after them."""
    held: list[int] = []
    refused: list[str] = []
    start, done = threading.Barrier(4), threading.Barrier(4)

    def take(number: int) -> None:
        start.wait()
        try:
            with repository.lock():
                held.append(number)
                done.wait()
        except CestaError as error:
            refused.append(str(error))
            done.wait()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert len(held) == 1
    assert len([why for why in refused if "is being changed by another cesta (process " in why]) == 3
    with repository.lock():
        pass


def test_the_lock_of_a_killed_operator_is_taken_over(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens once it is older than a lock may become without renewal."""
    holder = {"who": "one who is dead", "machine": "another", "process": 1}
    (repository / bucket.LOCK).write_bytes(json.dumps(holder).encode())
    with pytest.raises(CestaError, match=r"\(one who is dead\); wait until it is done"), repository.lock():
        pass
    let_time_pass(monkeypatch)
    with repository.lock():
        assert "one who is dead" not in (repository / bucket.LOCK).read_text()
    assert [path.name for path in (repository / "").listed() if path.name.startswith(".")] == []


def let_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock becomes older than it may, by the store's clock."""
    modified, older = ObjectPath.modified, timedelta(seconds=2 * lease.LEASE_S)
    changed = {bucket.LOCK: older}
    monkeypatch.setattr(
        ObjectPath, "modified", lambda path: modified(path) - changed.get(path.name, timedelta())
    )


def test_a_clock_that_is_ahead_takes_no_lock_from_a_living_operator(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one writes at the same time, and their releases would mix."""
    holder = {"who": "one who lives", "machine": "another", "process": 1}
    (repository / bucket.LOCK).write_bytes(json.dumps(holder).encode())
    clock = type("Clock", (), {"now": lambda zone: datetime.now(zone) + timedelta(hours=2)})
    monkeypatch.setattr(lease, "datetime", clock)
    with pytest.raises(CestaError, match=r"\(one who lives\)"), repository.lock():
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_a_lock_that_nobody_can_read_ends_by_its_age(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (repository / bucket.LOCK).write_bytes(content)
    with pytest.raises(CestaError, match=r"\(unknown\); wait"), repository.lock():
        pass
    let_time_pass(monkeypatch)
    with repository.lock():
        pass


def test_the_lock_of_one_who_died_on_this_machine_is_taken_over_at_once(repository: Repository) -> None:
    """The process of the lock is gone, so nobody waits for it."""
    code = "import sys; from operations.releases.stores.lease import sign; print(sign().decode())"
    signed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    (repository / bucket.LOCK).write_bytes(signed)
    with repository.lock():
        pass


def test_nothing_is_written_once_the_lock_is_lost(
    run: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store could not be reached for as long as the lock holds without renewal."""
    publish.publish(run, repository)
    monkeypatch.setattr(lease, "LEASE_S", -1)
    with pytest.raises(NotPromoted, match=r"\.lock could not be renewed"):
        promote(repository, 1)
    assert active_release(repository) is None


def test_records_of_many_writers_are_all_kept(repository: Repository) -> None:
    """Each replaces what it read, or reads again."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda release: history.append(repository, Action.RETIRE, release), range(1, 9)))
    assert sorted(record["release"] for record in history.read(repository)) == list(range(1, 9))


def test_a_publisher_that_retire_gave_up_leaves_nothing(
    run: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was silent for an hour, and then continued."""
    publish.publish(run, repository)
    upload = ObjectPath.upload

    def slow(path: ObjectPath, local: Path) -> None:
        upload(path, local)
        if path.name == "manifest.json":
            monkeypatch.setattr(bucket, "PUBLISHING_S", -1)
            assert repository.stop_publisher(2)

    monkeypatch.setattr(ObjectPath, "upload", slow)
    with pytest.raises(CestaError, match="was given up by retire"):
        publish.publish(run, repository)
    assert releases(repository) == [1]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, "s3://bucket/shops/one"),
        ("http://127.0.0.1:9000", "s3://http://127.0.0.1:9000/bucket/shops/one"),
        ("https://minio.shop.example/", "s3://https://minio.shop.example:443/bucket/shops/one"),
    ],
)
def test_tritonserver_reads_the_endpoint_in_the_url(endpoint: str | None, expected: str) -> None:
    variables = {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
    assert triton_url("s3://bucket/shops/one", variables) == expected
    assert triton_url(expected, variables) == expected
    assert triton_url("/a/folder", variables) == "/a/folder"


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "http://[::1", "http://minio:port", "http://", "ftp://minio"]
)
def test_a_malformed_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ServerError, match=f"AWS_ENDPOINT_URL={re.escape(endpoint)}: write it as"):
        triton_url("s3://bucket/x", {"AWS_ENDPOINT_URL": endpoint})


def test_an_endpoint_that_tritonserver_cannot_read_is_refused() -> None:
    with pytest.raises(ServerError, match="reads no IPv6 address there; write a name"):
        triton_url("s3://bucket/x", {"AWS_ENDPOINT_URL": "http://[::1]:9000"})


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Compose gives containers empty variables. Amazon is asked then, through a proxy that does not exist."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("CESTA_STORE_TIMEOUT_S", "1")
    with pytest.raises(CestaError, match="the store cannot be reached"):
        (ObjectPath.at("s3://shop/releases") / "nothing").exists()


def test_a_container_s_credentials_come_in_a_file(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file has the form of AWS's tools. The environment takes precedence, and an unreadable file is
    named.
    """
    file = tmp_path / "credentials"
    file.write_text("[shop]\naws_access_key_id = of-the-file\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "shop")
    shop = f"s3://{s3.bucket()}/shop"
    assert "access_key_id" not in ObjectPath.at(shop).store.config
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert ObjectPath.at(shop).store.config["access_key_id"] == "of-the-file"
    assert not (ObjectPath.at(shop) / "nothing").exists()
    file.write_text("no section\n")
    with pytest.raises(CestaError, match="credentials"):
        ObjectPath.at(shop)


def test_a_store_on_this_machine_is_never_asked_through_a_proxy(s3: S3, proxy: Proxy) -> None:
    place = ObjectPath.at(f"s3://{s3.bucket()}/shop") / "file"
    place.write_bytes(b"content")
    assert place.read_bytes() == b"content"
    assert not proxy.asked


def test_a_store_elsewhere_is_asked_through_the_environment_s_proxy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert proxy_and_exceptions("http://127.0.0.1:9000") == (proxy.address, "127.0.0.1")
    assert proxy_and_exceptions("http://registry:9000") == (proxy.address, "registry")
    assert proxy_and_exceptions("https://s3.shop.example") is None
    monkeypatch.setenv("no_proxy", ".example")
    assert proxy_and_exceptions("http://localhost:9000") == (proxy.address, "localhost,.example")
