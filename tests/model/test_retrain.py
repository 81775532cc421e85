"""`cesta retrain` from new receipts to a new release; how it ends otherwise; how it goes on when killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from export_scripts.retrain import stale_stages
from export_scripts.retraining.journal import Journal, Run, read_journal
from export_scripts.retraining.outcome import Outcome, outcome_of
from export_scripts.retraining.plan import plan
from operations.errors import BeingChanged
from operations.releases import history, publish
from operations.releases.canary import start_canary
from operations.releases.models.configs import canary_on_disk
from operations.releases.promote import promote, roll_back
from operations.releases.repository import active_release, releases
from operations.releases.retraining import read_retraining
from tests.building.cheap_loops import CheapLoop, make_loop_with_news, replace_training
from tests.building.runs import make_run


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheapLoop:
    return make_loop_with_news(tmp_path, monkeypatch)


def ends(loop: CheapLoop, outcome: Outcome, **settings: Any) -> str:
    """Run once, which must end so; the sentence. Release 1 is still the active one."""
    with pytest.raises(Exception) as e:  # noqa: PT011 - of any kind
        loop.run(**settings)
    assert outcome_of(e.value) is outcome, e.value
    last = read_journal(loop.out.root).runs[-1]
    assert (last.outcome, last.exit_code) == (outcome.word, outcome.code)
    assert active_release(loop.repository) == 1
    return str(e.value)


def steps(run: Run) -> list[str]:
    return [f"{step.name} {step.outcome}" for step in run.steps]


def test_the_first_release_is_served_by_the_next_start(tmp_path: Path, monkeypatch: Any) -> None:
    """Nobody is served yet, so there is nothing to compare."""
    loop = CheapLoop(tmp_path)
    replace_training(monkeypatch, loop)
    loop.sell(1)
    loop.server.is_there = False
    assert loop.run().outcome == "promoted"
    assert active_release(loop.repository) == 1
    again = loop.run()
    assert (again.outcome, again.exit_code, steps(again)) == ("nothing new", 0, ["etl fresh"])


def test_new_receipts_become_the_active_release(loop: CheapLoop) -> None:
    """Shops try it for a minute; the record tells each step, the server's file how it ended."""
    run = loop.run()
    made = ["etl done", "train done", "evaluate done", "export done", "publish done", "gate done"]
    tried = ["find the server done", "canary done", "watch done", "promote done", "retire done"]
    assert steps(run) == made + tried
    assert (run.outcome, run.exit_code, run.release, run.active_before) == ("promoted", 0, 2, 1)
    assert run.sentence == "release 2 is active, after 1200 requests as the canary release"
    assert run.data_until == "2024-03-02T18:00:00Z"
    assert loop.server.changes == ["canary 2", "promote 2"]
    assert active_release(loop.repository) == 2
    assert loop.run().outcome == "nothing new"
    state = read_retraining(loop.repository)
    assert state is not None
    assert state.last is not None
    assert (state.step, state.every_s, state.last.outcome) == (None, 7 * 86_400, "nothing new")


def test_a_bucket_is_retrained_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = CheapLoop(tmp_path, place=f"memory://{uuid.uuid4().hex}")
    replace_training(monkeypatch, loop)
    for day in (1, 2):
        loop.sell(day, f"item {day}")
        assert loop.run().release == day
    assert loop.server.changes == ["canary 2", "promote 2"]
    assert loop.run().outcome == "nothing new"


def test_a_late_file_is_news_and_a_touched_one_is_none(loop: CheapLoop) -> None:
    """What counts is the data that etl makes of them."""
    loop.run()
    (file, *_) = (loop.root / "receipts").glob("*.csv")
    os.utime(file, (1, 1))
    touched = loop.run()
    assert (steps(touched), touched.outcome) == (["etl done"], "nothing new")
    loop.sell(3, "tea")
    assert loop.run().release == 3


def test_a_worse_release_is_ended_and_not_tried_again(loop: CheapLoop) -> None:
    """Shops are asked about one release once. A later one is a new question."""
    loop.server.failures = 5
    assert "failed requests: 5.00% beside 0.00%" in ends(loop, Outcome.WORSE)
    assert loop.server.changes == ["canary 2", "end 2"]
    assert "nothing is new since" in ends(loop, Outcome.WORSE)
    assert loop.server.changes == ["canary 2", "end 2"]
    loop.sell(3, "tea")
    loop.server.failures = 0
    assert loop.run().release == 3


def test_a_number_in_a_new_repository_is_another_release(loop: CheapLoop) -> None:
    """The record speaks of the old release 2. The new one is tried, and by its own counts."""
    loop.server.failures = 5
    ends(loop, Outcome.WORSE)
    shutil.rmtree(loop.root / "repository")
    assert loop.run().release == 1
    loop.sell(3, "tea")
    loop.server.failures = 0
    run = loop.run()
    assert (run.release, run.outcome) == (2, "promoted")
    assert run.verdict
    assert run.verdict.requests == 1200


def test_the_gate_s_objections_keep_a_release_out(loop: CheapLoop) -> None:
    """The alert fires: the history has a failed promotion."""
    sentence = ends(loop, Outcome.REFUSED, **{"release.hr_at_10": 0.3})
    assert "its hr_at_10 0.2000 is below the bar of 0.3000" in sentence
    assert read_journal(loop.out.root).runs[-1].objections
    assert history.read(loop.repository)[-1]["failed"] == "gate"
    assert loop.server.changes == []


def test_a_release_that_was_rolled_back_stays_away(loop: CheapLoop) -> None:
    loop.run()
    roll_back(loop.repository)
    assert "was rolled back" in ends(loop, Outcome.REFUSED)


@pytest.mark.parametrize("few", ["promote", "end", "wait"])
def test_too_few_requests_decide_as_the_setting_says(loop: CheapLoop, few: str) -> None:
    """12 looks find one request each. What waits goes on with its counts until there are enough."""
    loop.server.requests = 1
    chosen = {"retrain.undecided": few, "retrain.least_requests": 20}
    if few == "promote":
        said = loop.run(**chosen).sentence or ""
        assert "undecided as the canary release: it answered 12 requests" in said
        assert active_release(loop.repository) == 2
        return
    assert "it answered 12 requests, and 20 are needed" in ends(loop, Outcome.UNDECIDED, **chosen)
    assert (canary_on_disk(loop.repository) is None) == (few == "end")
    if few == "wait":
        again = loop.run(**chosen)
        assert again.verdict is not None
        assert (again.outcome, again.verdict.requests) == ("promoted", 25)
        assert loop.server.changes == ["canary 2", "promote 2"]


def stranger(loop: CheapLoop) -> int:
    """The number of a release that somebody else has published."""
    return publish.publish(make_run(loop.root / "stranger", 99), loop.repository)


def test_a_promotion_by_somebody_else_wins(loop: CheapLoop) -> None:
    """It ends the canary, and the run does not undo it."""
    other = stranger(loop)

    def promote_other(look: int) -> None:
        if look == 3:
            promote(loop.repository, other)

    loop.server.at_look = promote_other
    with pytest.raises(Exception, match=f"release {other} became the active one") as e:
        loop.run()
    assert outcome_of(e.value) is Outcome.OVERTAKEN
    assert active_release(loop.repository) == other
    assert canary_on_disk(loop.repository) is None


def test_somebody_else_s_canary_is_left_alone(loop: CheapLoop) -> None:
    other = stranger(loop)
    start_canary(loop.repository, other, 5)
    assert f"release {other} is the canary release" in ends(loop, Outcome.OVERTAKEN)
    running = canary_on_disk(loop.repository)
    assert running is not None
    assert running.release == other


def test_without_a_server_or_a_gateway_nothing_changes(loop: CheapLoop) -> None:
    """The release is published meanwhile. Once they are there, nothing is trained again."""
    loop.server.is_there = False
    ends(loop, Outcome.NO_SERVER)
    loop.server.is_there, loop.server.has_gateway = True, False
    assert "no gateway answers the supervisor" in ends(loop, Outcome.NO_GATEWAY)
    assert loop.server.changes == []
    trained = loop.trained
    without = loop.run(**{"retrain.percent": 0})
    assert (without.outcome, loop.server.changes) == ("promoted", ["promote 2"])
    assert loop.trained == trained


def test_another_change_is_waited_for(loop: CheapLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, start = [BeingChanged("busy")], loop.server.start_canary

    def start_later(release: int, percent: float) -> None:
        if busy:
            raise busy.pop()
        start(release, percent)

    monkeypatch.setattr(loop.server, "start_canary", start_later)
    assert loop.run().outcome == "promoted"


def test_broken_receipts_change_nothing(loop: CheapLoop) -> None:
    (loop.root / "receipts" / "2024-03-03.csv").write_text("basket_id,item_id\n1\n")
    ends(loop, Outcome.BAD_INPUT)
    assert releases(loop.repository) == [1]


def test_a_full_disk_is_told_in_its_own_words(loop: CheapLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*_: object) -> int:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr("export_scripts.retrain.publish", fill)
    ends(loop, Outcome.DISK_FULL)
    assert releases(loop.repository) == [1]


def test_a_second_run_ends_at_once(loop: CheapLoop) -> None:
    """It names the process that works there, and writes nothing."""
    held = "import sys, pathlib; from export_scripts.retraining.lock import locked\n"
    held += "with locked(pathlib.Path(sys.argv[1])): print(1, flush=True); input()"
    command = [sys.executable, "-c", held, str(loop.out.root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline()
        before = read_journal(loop.out.root)
        with pytest.raises(Exception, match=f"process {other.pid}") as e:
            loop.run()
        other.communicate(b"\n")
    assert outcome_of(e.value) is Outcome.LOCKED
    assert read_journal(loop.out.root) == before


KILLS = ("train", "publish", "canary", "watch", "promote", "retire")


@pytest.mark.parametrize("step", KILLS)
def test_a_killed_run_goes_on(loop: CheapLoop, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Killed at the beginning of a step, or while a canary is watched, it repeats nothing that is done."""

    def die() -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")

    def die_at_look(look: int) -> None:
        if look > 5:
            die()

    tell = Journal._tell

    def die_there(self: Journal, name: str | None) -> None:
        tell(self, name)
        if name == step and step != "watch":
            die()

    def killed() -> None:
        monkeypatch.setattr(Journal, "_tell", die_there)
        if step == "watch":
            loop.server.at_look = die_at_look
        loop.run()

    assert end_of_child(killed) == signal.SIGKILL
    assert active_release(loop.repository) == (2 if step == "retire" else 1)
    run = loop.run()
    assert (run.outcome, active_release(loop.repository)) == ("promoted", 2)
    assert releases(loop.repository) == [1, 2]
    assert loop.trained.count("train") == 2  # of both releases
    assert [record["what"] for record in history.read(loop.repository)].count("canary") == 1
    killed_run = read_journal(loop.out.root).runs[-2]
    assert (killed_run.outcome, killed_run.steps[-1].name) == (None, step)
    if step == "watch":
        assert run.verdict is not None
        assert killed_run.canary is not None
        assert run.verdict.requests > killed_run.canary.sums["answered"]["recommender_canary"] > 300


def end_of_child(work: Callable[[], None]) -> int:
    """Run in a copy of this process; the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


def test_a_promotion_that_is_killed_before_its_record_is_made_again(
    loop: CheapLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configs name the new release, and the server may still answer with the old one."""

    def die(repository: object, what: history.Action, release: int, **details: Any) -> NoReturn:
        assert what is history.Action.PROMOTE, what
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")

    def killed() -> None:
        monkeypatch.setattr(history, "append", die)
        loop.run(**{"retrain.percent": 0})

    assert end_of_child(killed) == signal.SIGKILL
    assert (active_release(loop.repository), history.line_of_succession(loop.repository)) == (2, [1, 2])
    run = loop.run()
    assert (steps(run), loop.server.changes) == (["promote done", "etl fresh", "retire done"], ["promote 2"])
    assert history.read(loop.repository)[-1]["release"] == 2
    assert loop.run().outcome == "nothing new"


def test_the_next_run_finishes_one_that_was_interrupted_after_its_promotion(
    loop: CheapLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(keep: int) -> NoReturn:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.server, "retire", interrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run()
    last = read_journal(loop.out.root).runs[-1]
    assert (last.outcome, last.exit_code, active_release(loop.repository)) == ("interrupted", 130, 2)
    assert steps(loop.run()) == ["etl fresh", "retire done"]


def test_a_dry_run_tells_what_would_happen_and_changes_nothing(loop: CheapLoop) -> None:
    before = {path: path.stat().st_mtime_ns for path in loop.root.rglob("*")}
    stale = stale_stages(loop.settings, loop.out.root, loop.repository)
    chosen = loop.settings.retrain
    told = "\n".join(plan(loop.out.root, loop.repository, loop.server, chosen, stale))
    assert "The receipts or their settings are new" in told
    assert "hold it against release 1 at the gate" in told
    assert "10 % of the requests for 1 minutes" in told
    assert {path: path.stat().st_mtime_ns for path in loop.root.rglob("*")} == before


def test_a_dry_run_tells_that_nothing_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run would end after etl: no sentence speaks of a release that it would publish."""
    loop = CheapLoop(tmp_path)
    replace_training(monkeypatch, loop)
    loop.sell(1)
    loop.run()
    stale = stale_stages(loop.settings, loop.out.root, loop.repository)
    told = list(plan(loop.out.root, loop.repository, loop.server, loop.settings.retrain, stale))
    assert told[-1] == "Release 1 is made from them, so it would end there: nothing is new."
    assert not any("publish" in sentence for sentence in told)


def test_the_record_keeps_the_last_hundred_runs(loop: CheapLoop) -> None:
    path = loop.out.root / "retraining.json"
    runs = json.loads(path.read_text())["runs"]
    path.write_text(json.dumps({"runs": runs * 150}))
    loop.run()
    assert len(read_journal(loop.out.root).runs) == 100
