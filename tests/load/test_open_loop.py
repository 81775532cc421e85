"""Requests come whether or not the server keeps up, and who waits for it is counted from when it was due."""

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest

from loadtests import open_loop

REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
STALL_S = 0.3


async def asked(
    answer: bytes, due: list[float], stall_s: float = 0.0, over: Callable[[], bool] = lambda: False
) -> open_loop.Outcome:
    """Drive a server that gives `answer` to everything, but nothing to anybody in its first `stall_s`."""
    begins = time.perf_counter() + stall_s

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(len(REQUEST)):
            await asyncio.sleep(max(begins - time.perf_counter(), 0))
            writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await open_loop.drive(f"127.0.0.1:{port}", [REQUEST], np.array(due), over)


ANSWERS = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("form", ANSWERS)
def test_every_due_request_is_sent_and_answered(form: str) -> None:
    outcome = asyncio.run(asked(ANSWERS[form], [0.0, 0.01, 0.01, 0.02]))
    assert (len(outcome.latencies), outcome.errors) == (4, 0)
    assert sorted((one.number, one.body) for one in outcome.asked) == [(n, "{}") for n in range(4)]


def test_a_refusal_is_an_error() -> None:
    outcome = asyncio.run(asked(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", [0.0, 0.01]))
    assert outcome.errors == 2


def test_an_answer_that_was_cut_off_has_no_body() -> None:
    assert open_loop.Asked(0, 0.1, failed=True).body == ""
    assert open_loop.Asked(0, 0.1, True, ANSWERS["chunked"][:-8]).body == ""


def test_nothing_more_is_sent_once_it_is_over() -> None:
    """Due in an hour, too; those that were sent are waited for."""
    begun = time.perf_counter()
    outcome = asyncio.run(
        asked(ANSWERS["length"], [0.0, 0.01, 3600.0], over=lambda: time.perf_counter() > begun + 0.2)
    )
    assert sorted(one.number for one in outcome.asked) == [0, 1]


def test_a_stall_is_counted_for_everyone_who_came_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Due every 10 ms of a stall of 300: 30 waiters, the first for all of it, the middle one for half.

    Over one connection, so that 29 of them cannot even be sent before it ends.
    """
    monkeypatch.setattr(open_loop, "CONNECTIONS", 1)
    due = [i / 100 for i in range(30)]
    outcome = asyncio.run(asked(ANSWERS["length"], due, STALL_S))
    assert len(outcome.latencies) == 30
    assert max(outcome.latencies) >= STALL_S * 0.9
    assert np.median(outcome.latencies) >= STALL_S * 0.4  # a closed loop would have seen one slow answer


def test_a_constant_rate_is_even() -> None:
    assert open_loop.constant(rate=4, seconds=1).tolist() == [0, 0.25, 0.5, 0.75]
