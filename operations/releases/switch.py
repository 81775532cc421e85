"""A change of the served release, made whole or undone: load, ask, switch, ask again, record.

With a running server, the parts load beside the old ones and answer the manifest's golden requests. Only then
are the configs written and the ensemble loaded anew. Without a server, the configs are written for its next
start.

An undo loads no version of a part: Triton 2.51 can abort when it loads one in place of a version that failed.
A failed version stays on Triton's books, where it disturbs nothing, until the server restarts.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Unpack

import structlog

from operations.errors import CestaError, NotPromoted
from operations.records.contract import ENSEMBLE, Config
from operations.records.disk import explain
from operations.records.manifest import ReleaseManifest
from operations.releases import history
from operations.releases.golden import check_canary, check_golden
from operations.releases.history import Action
from operations.releases.mirror.local_files import Files, FromStore, LocalFiles, files_read_by, local_files
from operations.releases.model_control import READY, UNLOADING, ModelControl
from operations.releases.models.configs import (
    ALL_FRONTS,
    BESIDE,
    CANARY,
    PLACEHOLDER,
    Served,
    canary_on_disk,
    configs_of,
    end_canary,
    identity,
    identity_on_disk,
    part_config,
    put_back,
    read_contents,
    write_configs,
    write_new_parts,
)
from operations.releases.models.placing import parts_of
from operations.releases.repository import CONFIG, active_release, part_models, releases
from operations.releases.stores.store import Repository

FAILED: Final = {
    Action.PROMOTE: "was not promoted",
    Action.ROLLBACK: "was not returned to",
    Action.CANARY: "did not become the canary release",
    Action.END_CANARY: "did not cease to be the canary release",
}


@dataclass
class Steps:
    """The steps of a change: the current one, and the seconds that each took."""

    current: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def run(self, name: str) -> Iterator[None]:
        """Time the block as the step ``name``, or as a part of it."""
        self.current, started = name, time.perf_counter()
        yield
        took_s = self.seconds.get(name, 0.0) + time.perf_counter() - started
        self.seconds[name] = round(took_s, 4)


@dataclass
class Change:
    """One change of one repository and the server on it."""

    repository: Repository
    action: Action  # a key of FAILED
    release: int
    control: ModelControl | None = None
    who: str | None = None  # None: the user of this process
    steps: Steps = field(default_factory=Steps)
    before: int | None = None  # the release that answers until then
    local: LocalFiles = field(init=False)
    files: Files = field(init=False)  # those that the server loads

    def __post_init__(self) -> None:
        self.local = local_files(self.repository)
        self.files = FromStore(self.repository)

    def copy_records(self) -> None:
        """Have a mirror's records be as the repository's, if the server reads a mirror."""
        if self.files is self.local:
            self.local.refresh()

    def record(self, **details: Unpack[history.Details]) -> history.Record:
        """Add the change to the history."""
        about: history.Details = {
            "before": self.before,
            "server": self.control.address if self.control else None,
            "seconds": dict(self.steps.seconds),
        }
        about.update(details)
        return history.append(self.repository, self.action, self.release, who=self.who, **about)


def served_release(repository: Repository, control: ModelControl) -> int:
    """The release that the server's ensemble pins. Raises CestaError if it serves another repository."""
    config, ours = control.config(ENSEMBLE), identity_on_disk(repository)
    if identity(config) and not ours and (repository / ENSEMBLE / CONFIG).exists():
        raise CestaError(
            f"the config of {ENSEMBLE} in {repository} is damaged, so nobody can tell whether the server at "
            f"{control.address} serves it; restart the server, which then serves the previous release, or "
            "say --offline to change only what its next start serves"
        )
    if identity(config) != ours:
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
def record_failure(change: Change) -> Iterator[None]:
    """Note the release before the change; record a failure of the block and raise NotPromoted for it."""
    with contextlib.suppress(CestaError):  # of a damaged config, which the change writes anew
        change.before = active_release(change.repository)
    try:
        if change.control is not None:
            with change.steps.run("find the server"):
                change.before = served_release(change.repository, change.control)
                change.files = files_read_by(change.control, change.local)
        yield
    except (CestaError, OSError) as error:
        reason = explain(error) if isinstance(error, OSError) else str(error)
        why = "; ".join([reason, *getattr(error, "__notes__", [])])
        step, before = change.steps.current, change.before
        with contextlib.suppress(OSError, CestaError):  # a full disk or a silent store may be the failure
            if change.release in releases(change.repository):  # else it was mistyped: no alarm
                change.record(failed=step, why=why)
        still = "nothing is active" if before is None else f"release {before} is still the active one"
        raise NotPromoted(
            f'release {change.release} {FAILED[change.action]}, {still}: step "{step}" failed: {why}'
        ) from None


@contextlib.contextmanager
def switch_front(
    change: Change,
    served: Served,
    release: ReleaseManifest,
    front: str = ENSEMBLE,
    *,
    ask_golden: bool = True,
) -> Iterator[None]:
    """Let one of FRONTS answer with its release of ``served``, from the block on; undo it if the block fails.

    Switching the ensemble ends the canary.
    """
    repository, control, steps = change.repository, change.control, change.steps
    contents, configs = read_contents(repository), configs_of(repository, served, front)
    server = _Server.of(control) if control else None
    try:
        if server:
            write_new_parts(repository, configs)
            server.load(release, steps)
            if ask_golden and release.golden:
                with steps.run("golden requests"):
                    check_golden(server.control, release)
        with steps.run("write"):
            if front == ENSEMBLE:
                end_canary(repository)
            write_configs(repository, configs)
            change.copy_records()
        if server:
            with steps.run("switch"):
                server.switch(configs, front)
            with steps.run("canary"):
                check_canary(server.control, change.release, front)
        with steps.run("record"):
            yield
            _copy_history(change)
    except BaseException as error:
        failed = steps.current
        _undo(change, contents, server, error)
        steps.current = failed
        raise
    tidy(change, configs, server.parts if server else {})


@dataclass(frozen=True)
class _Server:
    """A server, and what it had loaded before a change."""

    control: ModelControl
    parts: dict[str, set[int]]  # model → versions
    fronts: dict[str, Config]

    @classmethod
    def of(cls, control: ModelControl) -> "_Server":
        fronts = {front: control.config(front) for front in ALL_FRONTS if control.ready(front)}
        return cls(control, control.ready_parts(), fronts)

    def load(self, release: ReleaseManifest, steps: Steps) -> None:
        """Load scorer, sampler and further parts beside the loaded versions, unless they are loaded."""
        for part, model in parts_of(release).items():
            loaded = self.parts.get(model, set())
            if release.release not in loaded:
                with steps.run(f"load {part}"):
                    versions, name = loaded | {release.release}, self.control.config_name()
                    self.control.load(part_config(model, release.contract, versions, name))

    def switch(self, configs: Mapping[str, Config], front: str) -> None:
        """Load one of FRONTS, then the ensembles beside it; unload those that its release does not have."""
        self.control.load(configs[front])
        for model in BESIDE[front].values():
            if model in configs:
                self.control.load(configs[model])
            elif model in self.fronts:
                self.control.unload(model)

    def put_back(self, repository: Repository, release: int) -> None:
        """Restore first what is served, then what is loaded."""
        for front in ALL_FRONTS:
            self._put_front_back(front)
        for model in part_models(repository):
            state = self.control.states(model).get(release)
            if release in self.parts.get(model, ()) or state not in (READY, UNLOADING):
                continue
            if state == READY:
                self.control.set_versions(model, self.control.ready(model) - {release})
            self.control.wait_unloaded(model, release)

    def _put_front_back(self, front: str) -> None:
        before, ready = self.fronts.get(front), self.control.ready(front)
        if before is None:
            if ready:
                self.control.unload(front)
        elif ready != _versions(before):
            self.control.load(before)


def _undo(change: Change, contents: dict[str, bytes], server: _Server | None, error: BaseException) -> None:
    """Restore disk and server. A failure to do so becomes a note of ``error``."""
    repository = change.repository
    try:
        put_back(repository, contents)
        _copy_history(change)
        if server:
            server.put_back(repository, change.release)
        canary = canary_on_disk(repository)
        _remove_canaries(change, {canary.release} if canary else set())
    except (CestaError, OSError) as trouble:
        error.add_note(f"and undoing that failed: {trouble}; restart the server")


def _copy_history(change: Change) -> None:
    """Copy the records once more. They are read only where the store is gone, so trouble is only logged."""
    try:
        change.copy_records()
    except (CestaError, OSError) as error:
        structlog.get_logger().warning("records not mirrored", release=change.release, why=str(error))


def tidy(
    change: Change, configs: dict[str, Config], loaded_before: Mapping[str, set[int]] = MappingProxyType({})
) -> None:
    """Unload and delete what the configs do not name. The change is done, so trouble is only logged.

    A server with a named config of its own unloads versions when its ensemble is loaded anew: they come back.
    """
    try:
        _remove_canaries(change, _versions(configs[CANARY]) if CANARY in configs else set())
        if change.control:
            for model, ready in change.control.ready_parts().items():
                tried = ready | loaded_before.get(model, set())  # no other one is loaded here
                staying = tried & (_versions(configs[model]) if model in configs else set())
                if staying != ready:
                    change.control.set_versions(model, staying)
    except (CestaError, OSError) as error:
        structlog.get_logger().warning("not_tidied", release=change.release, why=str(error))


def _remove_canaries(change: Change, staying: set[int]) -> None:
    """Remove canary releases other than ``staying`` from the server, and their placeholders from disk."""
    for model in (CANARY, *BESIDE[CANARY].values()):
        if change.control and not staying and change.control.ready(model):
            change.control.unload(model)
        for placeholder in (change.repository / model).glob(f"*/{PLACEHOLDER}"):
            release = placeholder.parent.name
            if int(release) not in staying:
                change.repository.delete_folder(f"{model}/{release}")


def _versions(config: Config) -> set[int]:
    return set(config.version_policy.specific.versions)
