"""The open loop sends requests whether or not the server keeps up, and counts each wait from the due time."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest

from loadtests import open_loop

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
STALL_S = 0.3
ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n[1, 2, 3, 4]",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-queue: 0\r\n\r\n"
    b"c\r\n[1, 2, 3, 4]\r\n0\r\n\r\n",
}
BODY, ANSWER = "[1, 2, 3, 4]", ANSWERS["length"]

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def drive(
    serve: Serve, due: Sequence[float], requests: Sequence[bytes] = (REQUEST,), **how: Any
) -> open_loop.Outcome:
    """Drive a server that treats every connection as `serve` does."""

    async def drive() -> open_loop.Outcome:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await asyncio.to_thread(open_loop.run, f"127.0.0.1:{port}", requests, np.array(due), **how)

    return asyncio.run(drive())


def answering(answer: bytes = ANSWER, stall_s: float = 0.0) -> Serve:
    """A server that answers everything with `answer`, after a silence of `stall_s` at its first."""
    begins = list[float]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(len(REQUEST)):
            begins.append(time.perf_counter() + stall_s)
            await asyncio.sleep(max(begins[0] - time.perf_counter(), 0))
            writer.write(answer)
        writer.close()

    return serve


def failed(outcome: open_loop.Outcome) -> dict[int, bool]:
    """Whether each request failed, by its number."""
    assert len({result.number for result in outcome.results}) == len(outcome.results)
    return {result.number: result.failed for result in sorted(outcome.results)}


def listening(backlog: int) -> tuple[socket.socket, str]:
    """A server's socket for tests that accept by hand, and its address."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
    return listener, f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("form", ANSWERS)
def test_every_due_request_is_sent_and_answered(form: str) -> None:
    outcome = drive(answering(ANSWERS[form]), [0.0, 0.01, 0.01, 0.02])
    assert (len(outcome.latencies), outcome.errors) == (4, 0)
    assert sorted((result.number, result.body) for result in outcome.results) == [(n, BODY) for n in range(4)]


@pytest.mark.parametrize("form", ANSWERS)
def test_an_answer_may_come_in_pieces(form: str) -> None:
    """The bytes come one by one, a millisecond apart; the time of the last one counts."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(len(REQUEST)):
            for byte in ANSWERS[form]:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.001)
        writer.close()

    (result,) = drive(serve, [0.0]).results
    assert (result.received, result.body, result.failed) == (ANSWERS[form], BODY, False)
    assert result.latency_s >= (len(ANSWERS[form]) - 1) * 0.001


def test_a_refusal_is_an_error() -> None:
    outcome = drive(answering(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"), [0.0, 0.01])
    assert outcome.errors == 2


def test_an_answer_that_was_cut_off_has_no_body() -> None:
    assert open_loop.Result(0, 0.1, failed=True).body == ""
    assert open_loop.Result(0, 0.1, True, ANSWERS["chunked"][:-8]).body == ""


def test_requests_take_turns_and_none_comes_before_it_is_due() -> None:
    came: list[tuple[float, bytes]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(len(REQUEST)):
            came.append((time.perf_counter(), request))
            writer.write(ANSWER)
        writer.close()

    due, begun = [0.0, 0.05, 0.1, 0.15], list[float]()
    requests = [REQUEST, REQUEST.replace(b"host: x", b"host: y")]
    outcome = drive(serve, due, requests, on_start=begun.append)
    assert begun == [outcome.started_at]
    assert [request for _, request in came] == requests * 2
    late = np.array([at for at, _ in came]) - outcome.started_at - due
    assert late.min() >= 0
    assert outcome.seconds >= due[-1]


def test_a_wait_can_be_shorter_than_a_millisecond() -> None:
    """The shortest of many waits is compared, so that a busy machine passes. epoll's own timer counts
    milliseconds.
    """
    listener, address = listening(1)
    with listener, closing(open_loop._Connections(address, open_loop.Outcome())) as connections:
        moments = [time.perf_counter()]
        for _ in range(50):
            connections.wait(0.0002)
            moments.append(time.perf_counter())
    assert np.diff(moments).min() < 0.0009


def test_nothing_more_is_sent_once_it_is_over() -> None:
    """One request would be due in an hour. The loop waits for those that were sent."""
    begun = list[float]()
    over = {"on_start": begun.append, "is_over": lambda: time.perf_counter() > begun[0] + 0.5}
    outcome = drive(answering(), [0.0, 0.01, 3600.0], **over)
    assert failed(outcome) == {0: False, 1: False}


def test_requests_due_before_the_end_are_sent_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for the only connection while a stall lasts beyond the end."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    due, begun = [0.0, 0.01, 0.02, 3600.0], list[float]()
    over = {"on_start": begun.append, "is_over": lambda: time.perf_counter() > begun[0] + STALL_S / 2}
    outcome = drive(answering(stall_s=STALL_S), due, **over)
    assert failed(outcome) == {0: False, 1: False, 2: False}


def test_the_end_is_not_asked_for_at_every_turn() -> None:
    looked = list[float]()
    outcome = drive(answering(), [i / 1000 for i in range(100)], is_over=lambda: bool(looked.append(0.0)))
    assert 1 <= len(looked) <= outcome.seconds / open_loop.TURN_S + 1


def test_a_stall_is_counted_for_everyone_who_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """During a stall of 300 ms a request is due every 10 ms: 30 wait, the first for all of it, the middle one
    for half. There is one connection, so 29 of them cannot even be sent before the stall ends.
    """
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    due = [i / 100 for i in range(30)]
    outcome = drive(answering(stall_s=STALL_S), due)
    assert len(outcome.latencies) == 30
    assert max(outcome.latencies) >= STALL_S * 0.9
    assert np.median(outcome.latencies) >= STALL_S * 0.4  # a closed loop would have seen one slow answer


def test_waiting_takes_no_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits 200 ms each for an answer, for the only connection and for the next due time."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    used = list[float]()
    drive(answering(stall_s=0.4), [0.0, 0.2, 0.6], is_over=lambda: bool(used.append(time.thread_time())))
    assert used[-1] - used[0] < 0.06


@pytest.mark.parametrize(("stall_s", "gap_s", "opened"), [(0.0, 1.0, 1), (STALL_S, 0.02, 3)])
def test_another_connection_is_opened_only_when_all_wait(
    stall_s: float, gap_s: float, opened: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers at once needs one connection; one that does not gets at most three."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 3)
    answer, connections = answering(stall_s=stall_s), list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await answer(reader, writer)

    outcome = drive(serve, [i * gap_s for i in range(4)])
    assert (len(connections), outcome.errors) == (opened, 0)


def test_a_closed_connection_fails_its_request_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed connection no longer counts, and another one may be opened."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    came = list[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await reader.read(len(REQUEST)):
            came.append(request)
            if len(came) == 2:
                writer.write(ANSWER[:-5])
                break
            writer.write(ANSWER)
        writer.close()

    outcome = drive(serve, [0.0, 0.05, 0.1, 0.15])
    assert failed(outcome) == {0: False, 1: True, 2: False, 3: False}


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Too late\r\ncontent-length: 0\r\n\r\n"])
def test_a_connection_that_was_closed_between_requests_is_not_used_again(
    last_words: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is a connection over which an unrequested answer arrives."""
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(len(REQUEST))
        writer.write(ANSWER)
        await asyncio.sleep(0.01)
        if last_words:
            writer.write(last_words)
            await reader.read()
        writer.close()

    assert failed(drive(serve, [0.0, 0.4, 0.8])) == {0: False, 1: False, 2: False}


def test_a_refused_connection_fails_its_request_and_no_other() -> None:
    """The server stops listening before the second request connects; the first connection stays usable."""
    listener, address = listening(1)

    def serve() -> None:
        with listener.accept()[0] as connection:
            listener.close()
            while connection.recv(len(REQUEST)):
                time.sleep(0.5)
                connection.sendall(ANSWER)

    server = threading.Thread(target=serve)
    server.start()
    outcome = open_loop.run(address, [REQUEST], np.array([0.0, 0.05, 1.2]))
    server.join()
    assert failed(outcome) == {0: False, 1: True, 2: False}


def test_nobody_waits_while_another_s_connection_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server accepts only the first connection. The third one does not even find room in its queue."""
    monkeypatch.setattr(open_loop, "TIMEOUT_S", 1.5)
    listener, address = listening(0)

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            while connection.recv(len(REQUEST)):
                time.sleep(0.5)
                connection.sendall(ANSWER)

    server = threading.Thread(target=serve)
    server.start()
    outcome = open_loop.run(address, [REQUEST], np.array([0.0, 0.03, 0.06, 1.2]))
    server.join()
    assert failed(outcome) == {0: False, 1: True, 2: True, 3: False}
    assert max(result.latency_s for result in outcome.results if not result.failed) < 1.4


def test_requests_without_an_answer_in_time_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a request waits for an answer, or for the only connection."""
    monkeypatch.setattr(open_loop, "TIMEOUT_S", 1.0)
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(len(REQUEST))
        writer.write(ANSWER)
        await reader.read()
        writer.close()

    outcome = drive(serve, [0.0, 0.05, 0.1])
    assert failed(outcome) == {0: False, 1: True, 2: True}
    assert [result.latency_s for result in outcome.results[1:]] == [1.0, 1.0]
    assert outcome.seconds >= 1.1


def test_a_request_may_be_longer_than_what_can_be_sent_at_once() -> None:
    """32 MB go to a server that does not read for a while; the next request is answered meanwhile."""
    long = REQUEST.replace(b"content-length: 0", b"content-length: 32000000") + bytes(32_000_000)
    received = list[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b": 0" not in head:
                await asyncio.sleep(1.0)
                received.append(len(await reader.readexactly(32_000_000)))
            writer.write(ANSWER)

    outcome = drive(serve, [0.0, 0.05], [long, REQUEST])
    assert received == [32_000_000]
    assert [(result.number, result.failed) for result in outcome.results] == [(1, False), (0, False)]


def test_garbage_is_collected_again_afterwards() -> None:
    """The collector is off during the loop, which it would stop for milliseconds, and on again even after an
    interrupt.
    """
    meanwhile = list[bool]()

    def interrupt() -> bool:
        meanwhile.append(gc.isenabled())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(answering(), [0.0, 1.0], is_over=interrupt)
    assert (meanwhile, gc.isenabled()) == ([False], True)


def test_a_constant_rate_is_even() -> None:
    assert open_loop.constant_schedule(rate=4, seconds=1).tolist() == [0, 0.25, 0.5, 0.75]
