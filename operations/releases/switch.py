"""A change of what is served, whole or undone: load, ask, switch, ask again, record.

With a running server: load the parts beside the old ones, ask them the manifest's golden requests, only
then write the configs and load the ensemble anew. Without one: write the configs for its next start.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from operations.errors import CestaError, NotPromoted
from operations.records.contract import ENSEMBLE
from operations.releases import history
from operations.releases.configs import (
    CANARY,
    FRONTS,
    PARTS,
    PLACEHOLDER,
    Config,
    Served,
    canary_on_disk,
    configs_of,
    end_canary,
    identity,
    identity_on_disk,
    put_back,
    read_texts,
    write_configs,
)
from operations.releases.golden import check_canary, check_golden
from operations.releases.model_control import ModelControl
from operations.releases.repository import active_release
from operations.releases.stand_in import unload
from operations.releases.store import Repository, delete_folder

Golden = list[dict[str, Any]]

FAILED = {
    "promote": "was not promoted",
    "rollback": "was not returned to",
    "canary": "did not become the canary release",
    "end canary": "did not cease to be the canary release",
}


@dataclass
class Steps:
    """What is being done, and how many seconds each step took."""

    now: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.now, started = name, time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 4)


@dataclass
class Change:
    """One change of one repository and the server on it: its steps, and its record."""

    repository: Repository
    what: str  # of FAILED
    release: int
    control: ModelControl | None = None
    who: str | None = None  # None: the user of this process
    steps: Steps = field(default_factory=Steps)
    before: int | None = None  # the release that answers until then

    def record(self, **more: Any) -> history.Record:
        """Add it to the history."""
        server = self.control.address if self.control else None
        seconds = dict(self.steps.seconds)
        about = {"before": self.before, "server": server, "seconds": seconds, **more}
        return history.append(self.repository, self.what, self.release, who=self.who, **about)


def served_release(repository: Repository, control: ModelControl) -> int:
    """The release that the server's ensemble is pinned to. Raises CestaError if it serves something else."""
    config = control.config(ENSEMBLE)
    if identity(config) != identity_on_disk(repository):
        raise CestaError(
            f"the server at {control.address} does not serve {repository}; give --address of the one "
            "that does, or --offline to change only what its next start serves"
        )
    return int(config.ensemble_scheduling.step[0].model_version)


def agreed_release(repository: Repository, control: ModelControl | None) -> int:
    """The active release. Raises CestaError if there is none, or if the server serves another."""
    active = active_release(repository)
    if active is None:
        raise CestaError(f'no release is active in {repository}; run "cesta release promote" first')
    if control is not None and (served := served_release(repository, control)) != active:
        raise CestaError(
            f"the server at {control.address} serves release {served}, its next start would serve {active}; "
            f'run "cesta release promote {active}" or restart it first'
        )
    return active


@contextlib.contextmanager
def told(change: Change) -> Iterator[Steps]:
    """Find out the release before; a failure in the block is recorded and becomes NotPromoted."""
    change.before = active_release(change.repository)
    try:
        if change.control is not None:
            with change.steps("find the server"):
                change.before = served_release(change.repository, change.control)
        yield change.steps
    except (CestaError, OSError) as error:
        why = "; ".join([str(error), *getattr(error, "__notes__", [])])
        step, before = change.steps.now, change.before
        with contextlib.suppress(OSError, CestaError):  # a full disk or a silent store may be what failed
            change.record(failed=step, why=why)
        still = "nothing is active" if before is None else f"release {before} is still the active one"
        raise NotPromoted(
            f'release {change.release} {FAILED[change.what]}, {still}: step "{step}" failed: {why}'
        ) from None


@contextlib.contextmanager
def switched(change: Change, served: Served, golden: Golden, front: str = ENSEMBLE) -> Iterator[None]:
    """Have one of FRONTS answer with its release of ``served`` within the block, and after it, unless
    something in it fails. Who switches the ensemble ends the canary.
    """
    repository, control, steps = change.repository, change.control, change.steps
    texts, configs = read_texts(repository), configs_of(repository, served, front)
    before = _Loaded.of(control) if control else None
    try:
        if control:
            _load(change, before.parts)
            if golden:
                with steps("golden requests"):
                    check_golden(control, change.release, golden)
        with steps("switch" if control else "write"):
            if front == ENSEMBLE:
                end_canary(repository)
            write_configs(repository, configs)
            if control:
                control.load(configs[front])
        if control:
            with steps("canary"):
                check_canary(control, change.release, front)
        with steps("record"):
            yield
    except BaseException as error:
        failed = steps.now
        _undo(change, texts, before, error)
        steps.now = failed
        raise
    tidy(change, configs)


@dataclass(frozen=True)
class _Loaded:
    """What a server had loaded before a change."""

    parts: dict[str, set[int]]
    fronts: dict[str, Config]

    @classmethod
    def of(cls, control: ModelControl) -> "_Loaded":
        fronts = {front: control.config(front) for front in FRONTS if control.ready(front)}
        return cls({model: control.ready(model) for model in PARTS}, fronts)


def _load(change: Change, loaded: dict[str, set[int]]) -> None:
    """Scorer, then sampler, beside what is loaded; nothing where the release is loaded already."""
    for model in PARTS:
        if change.release not in loaded[model]:
            with change.steps(f"load {model}"):
                change.control.load_part(model, loaded[model] | {change.release})


def _undo(change: Change, texts: dict[str, str], before: _Loaded | None, error: BaseException) -> None:
    """Disk and server as they were: first what is served, then what is loaded."""
    control, release = change.control, change.release
    try:
        put_back(change.repository, texts)
        if control and before:
            for front in FRONTS:
                _put_front_back(control, front, before.fronts.get(front))
            for model in PARTS:
                if release not in before.parts[model] and release in control.states(model):
                    unload(control, change.repository, model, release, before.parts[model])
        canary = canary_on_disk(change.repository)
        _remove_canaries(change, {canary.release} if canary else set())
    except (CestaError, OSError) as trouble:
        error.add_note(f"and undoing that failed: {trouble}; restart the server")


def _put_front_back(control: ModelControl, front: str, before: Config | None) -> None:
    ready = control.ready(front)
    if before is None:
        if ready:
            control.unload(front)
    elif ready != _versions(before):
        control.load(before)


def tidy(change: Change, configs: dict[str, Config]) -> None:
    """Keep what the configs name, and the way back. The change is done: trouble here is only logged."""
    control = change.control
    try:
        _remove_canaries(change, _versions(configs[CANARY]) if CANARY in configs else set())
        for model in PARTS if control else ():
            if control.ready(model) != _versions(configs[model]):
                control.load_part(model, _versions(configs[model]))
    except (CestaError, OSError) as error:
        structlog.get_logger().warning("not_tidied", release=change.release, why=str(error))


def _remove_canaries(change: Change, kept: set[int]) -> None:
    """What is left of canary releases but those ``kept``: in the server, and their placeholders."""
    if change.control and not kept and change.control.ready(CANARY):
        change.control.unload(CANARY)
    for placeholder in (change.repository / CANARY).glob(f"*/{PLACEHOLDER}"):
        if int(placeholder.parent.name) not in kept:
            delete_folder(placeholder.parent)


def _versions(config: Config) -> set[int]:
    return set(config.version_policy.specific.versions)
