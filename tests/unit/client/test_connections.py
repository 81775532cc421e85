"""The client on real sockets: refused, silent, slow, broken off, reused, shared by threads, cancelled."""

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cesta_client import AsyncRecommender, InvalidRequest, Recommender, TimedOut, Unavailable
from tests.running.scripted_shops import TRITON_SAID, GrpcShop, ask, every_client, every_protocol, http_answer


@every_client
@every_protocol
def test_a_refused_connection_is_unavailable_and_names_the_address(kind, protocol, refusing):
    with pytest.raises(Unavailable, match=refusing):
        ask(kind, refusing, protocol=protocol)


@every_client
@every_protocol
def test_a_host_without_address_is_unavailable(kind, protocol):
    with pytest.raises(Unavailable, match=r"no-such-host\.invalid"):
        ask(kind, "no-such-host.invalid:8001", protocol=protocol)


@every_client
@every_protocol
def test_a_silent_server_times_out_in_time(kind, protocol, silent):
    started = time.monotonic()
    with pytest.raises(TimedOut, match=f"no answer from {silent} within 0"):
        ask(kind, silent, protocol=protocol, timeout_s=0.2, retries=100)
    assert 0.19 <= time.monotonic() - started < 10  # each of the retries would take as long


@every_client
@every_protocol
def test_a_silent_server_is_not_ready(kind, protocol, silent):
    async def ready():
        async with AsyncRecommender(silent, protocol=protocol, timeout_s=0.1) as shop:
            return await shop.is_ready()

    if kind is Recommender:
        with Recommender(silent, protocol=protocol, timeout_s=0.1) as shop:
            assert not shop.is_ready()
    else:
        assert not asyncio.run(ready())


def test_grpc_finds_a_server_that_has_come_back_without_waiting_a_second(refusing):
    """gRPC itself pauses for a second before it connects again, and every retry would fail in that second. A
    busy machine may take as long once, and hardly five times.
    """

    def is_found() -> bool:
        with Recommender(refusing, retries=20, timeout_s=0.75) as shop:
            with pytest.raises((Unavailable, TimedOut)):
                shop.recommend(timeout_s=0.05)
            back = GrpcShop(address=refusing)
            try:
                return shop.recommend()[0].item_id == "bread"
            except (Unavailable, TimedOut):
                return False
            finally:
                back.server.stop(None).wait()

    assert any(is_found() for _ in range(5))


def break_off(handler):
    """Send half an answer, then close the connection."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    handler.close_connection = True


def say_nothing(handler):
    handler.close_connection = True


def speak_another_protocol(handler):
    handler.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n")
    handler.close_connection = True


@every_client
@pytest.mark.parametrize("ending", [break_off, say_nothing, speak_another_protocol])
def test_a_connection_that_breaks_off_is_unavailable_and_asked_again(kind, ending, http_shop):
    http_shop.script = [ending]
    assert ask(kind, http_shop.address, protocol="http", retries=1)[0].item_id == "bread"
    http_shop.script = [ending]
    with pytest.raises(Unavailable, match=http_shop.address):
        ask(kind, http_shop.address, protocol="http", retries=0)


@every_client
def test_a_server_that_drips_a_byte_at_a_time_does_not_hold_its_caller(kind, http_shop):
    released = threading.Event()

    def drip(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not released.wait(0.02):  # each byte starts an ordinary socket timeout anew
            try:
                handler.wfile.write(b".")
            except OSError:
                break
        handler.close_connection = True

    http_shop.script = [drip]
    started = time.monotonic()
    with pytest.raises(TimedOut):
        ask(kind, http_shop.address, protocol="http", timeout_s=0.2)
    released.set()
    assert time.monotonic() - started < 10


def test_http_keeps_one_connection_for_many_questions(http_shop):
    with Recommender(http_shop.address, protocol="http", timeout_s=10) as shop:
        for _ in range(5):
            shop.recommend()
        http_shop.script = [(400, {}, TRITON_SAID)]
        with pytest.raises(InvalidRequest):
            shop.recommend()
        shop.recommend()
    assert http_shop.connections == 1


def test_http_replaces_a_kept_connection_that_the_server_closed_even_without_retries(http_shop):
    closed = threading.Event()

    def answer_and_close(handler):
        """Close without announcing it, as an idle timeout does."""
        headers, body = http_answer()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        closed.set()

    http_shop.script = [answer_and_close]
    with Recommender(http_shop.address, protocol="http", retries=0, timeout_s=10) as shop:
        assert shop.recommend()[0].item_id == "bread"
        assert closed.wait(10)
        assert shop.recommend()[0].item_id == "bread"
    assert http_shop.connections == 2


def test_a_timed_out_http_connection_is_not_used_again(http_shop):
    """The late answer would be taken for the answer to the next query."""
    released = threading.Event()
    http_shop.script = [lambda handler: released.wait(10)]
    with Recommender(http_shop.address, protocol="http", timeout_s=10) as shop:
        with pytest.raises(TimedOut):
            shop.recommend(timeout_s=0.1)
        assert shop.recommend()[0].item_id == "bread"
    released.set()
    assert http_shop.connections == 2


@every_protocol
def test_one_recommender_serves_many_threads(protocol, http_shop, grpc_shop):
    address = {"grpc": grpc_shop, "http": http_shop}[protocol].address
    with Recommender(address, protocol=protocol, timeout_s=30) as shop, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: shop.recommend(basket=[str(n)]), range(200)))
    assert [len(answer) for answer in answers] == [1] * 200
    assert http_shop.connections <= 8


@every_protocol
def test_cancelling_the_task_cancels_the_question(protocol, silent):
    async def cancel():
        async with AsyncRecommender(silent, protocol=protocol, timeout_s=60) as shop:
            task = asyncio.create_task(shop.recommend())
            await asyncio.sleep(0)  # it starts
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())
