"""The tasks of the flows: each runs one verb of `cesta`, with retries and a time limit.

A build's ledger, `stages.json`, tells which stages are fresh: by digests of receipts, code and settings. A
fresh stage is the state "Cached". Prefect's own cache would not see changed code, nor a deleted result.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger
from prefect.states import Completed
from verbs import Done, Refused, run

RETRY_S: Final = [60.0, 600.0]  # a bucket that is silent for a moment, then one that is for longer
HOUR_S: Final = 3600.0
# Ten times what a shop of ten million lines takes on two cores.
LIMITS_S: Final = {"etl": HOUR_S, "train": 2 * HOUR_S, "evaluate": HOUR_S, "export": HOUR_S}
FRESH: Final = "is fresh"  # how the command says that a stage need not run


@dataclass(frozen=True)
class Build:
    """The folder of a build, a toml of settings, and other options that each stage gets as they are."""

    out: str = "artifacts"
    settings: str | None = None
    options: list[str] = field(default_factory=list)

    def words(self) -> list[str]:
        """The options of every verb."""
        chosen = ["--settings", self.settings] if self.settings else []
        return ["--out", self.out, *chosen, *self.options]


async def is_worth_a_retry(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell failures from refusals, which a second try only repeats."""
    return not isinstance(await state.aresult(raise_on_failure=False), Refused)


@task(
    retries=len(RETRY_S),
    retry_delay_seconds=RETRY_S,
    retry_condition_fn=is_worth_a_retry,
    cache_policy=NO_CACHE,
)
async def run_stage(stage: str, build: Build) -> State[None]:
    """Run a stage unless it is fresh; the stages before it were run."""
    done = await run("build", "--until", stage, *build.words(), log=get_run_logger().info)
    is_fresh = done.lines[-1].endswith(FRESH)
    return Completed(message=done.lines[-1], name="Cached" if is_fresh else "Completed")


@task(
    retries=len(RETRY_S),
    retry_delay_seconds=RETRY_S,
    retry_condition_fn=is_worth_a_retry,
    cache_policy=NO_CACHE,
)
async def run_verb(
    words: list[str],
    answers: tuple[int, ...] = (0,),
    refusals: tuple[int, ...] = (),
    for_programs: bool = False,
) -> Done:
    """Run a verb whose exit codes mean more than success; ``answers`` and ``refusals`` as in ``run``.

    What it prints ``for_programs``, such as long JSON, stays out of the run's log.
    """
    log = get_run_logger().info
    return await run(
        *words, log=log, answers=answers, refusals=refusals, log_answer=_drop if for_programs else log
    )


def _drop(line: str) -> None:
    """Log nothing."""
