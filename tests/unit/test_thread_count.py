"""A training uses all of torch's threads while they help, and one while other processes take their cores."""

from collections.abc import Iterator

import pytest
import torch

from export_scripts.thread_count import ThreadCount


@pytest.fixture(autouse=True)
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


class Machine:
    """A machine on which a step takes ``seconds[threads]``."""

    def __init__(self) -> None:
        self.now, self.seconds = 0.0, {1: 0.02, 2: 0.014}
        self.steps = {1: 0, 2: 0}

    def train(self, threads: ThreadCount, steps: int) -> None:
        for _ in range(steps):
            count = torch.get_num_threads()
            self.steps[count] += 1
            self.now += self.seconds[count]
            threads.step()


def test_a_quiet_machine_gives_all_threads() -> None:
    """One thread is tried once, for half a second."""
    machine = Machine()
    with ThreadCount(2, lambda: machine.now) as threads:
        machine.train(threads, 1000)
    assert machine.steps == {1: 25, 2: 975}


def test_a_busy_machine_is_left_to_others_until_it_is_quiet() -> None:
    """Threads that spin in vain take ten times as long as one. Little is spent on trying them."""
    machine = Machine()
    machine.seconds = {1: 0.06, 2: 0.6}
    with ThreadCount(2, lambda: machine.now) as threads:
        machine.train(threads, 1000)
        assert machine.steps[2] < 20
        machine.seconds, machine.steps = {1: 0.02, 2: 0.014}, {1: 0, 2: 0}
        machine.train(threads, 2000)
        assert machine.steps[2] > 1000


def test_a_machine_that_becomes_busy_is_noticed_within_a_few_steps() -> None:
    machine = Machine()
    with ThreadCount(2, lambda: machine.now) as threads:
        machine.train(threads, 100)
        machine.seconds, machine.steps = {1: 0.06, 2: 0.6}, {1: 0, 2: 0}
        machine.train(threads, 100)
    assert machine.steps[2] < 12


def test_the_number_is_restored() -> None:
    """Where there is one thread, there is nothing to choose."""
    machine = Machine()
    with ThreadCount(1, lambda: machine.now) as threads:
        machine.train(threads, 100)
    assert machine.steps == {1: 100, 2: 0}
    assert torch.get_num_threads() == 2
