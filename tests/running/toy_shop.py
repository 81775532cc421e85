"""A served repository of toy releases: releases to promote, and the answers that each must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import tritonclient.grpc as triton

from operations.records.contract import ENSEMBLE
from operations.records.golden_answers import Answer, Request, answer_of, difference
from operations.releases import publish
from operations.releases.golden import check_canary, request_tensors
from operations.releases.model_control import ModelControl
from operations.releases.models.configs import CANARY, canary_on_disk
from operations.releases.promote import promote
from operations.releases.stores.store import Repository, open_repository
from operations.server.process import Server
from tests.building.runs import toy_answer, toy_run
from tests.running.processes import READY_S

BASKETS = tuple((f"i{n}", f"i{n + 1}") for n in range(1, 41))


@dataclass
class ToyShop:
    """`repository`, the server on it, and its runs by the number of their release."""

    root: Path
    start: Callable[..., Server]

    @property
    def repository(self) -> Repository:
        return open_repository(self.root / "repository")

    @cached_property
    def server(self) -> Server:
        return self.start(str(self.repository))

    @cached_property
    def control(self) -> ModelControl:
        return ModelControl(self.server.grpc)

    def add(self, seed: int, **changes: object) -> int:
        """Publish a release."""
        run = toy_run(self.root / f"run-{seed}", seed, **changes)
        release = publish.publish(run, self.repository)
        run.rename(self.run_of(release))
        return release

    def first(self, seed: int) -> int:
        """Publish the first release and start the server on it."""
        release = self.add(seed)
        promote(self.repository, release)
        self.server.wait_ready(self.active, timeout_s=READY_S)
        return release

    def restart(self) -> None:
        """Start another server on the repository, with everything that its next start serves."""
        self.close()
        del self.server, self.control
        models = [ENSEMBLE, *([CANARY] if canary_on_disk(self.repository) else [])]
        self.server = self.start(str(self.repository), models=tuple(models))
        self.server.wait_ready(self.active, timeout_s=READY_S)

    def is_ready(self) -> bool:
        """Triton's own ready flag, which load balancers read."""
        with triton.InferenceServerClient(self.server.grpc) as client:
            return bool(client.is_server_ready())

    def close(self) -> None:
        self.control.close()
        self.server.stop(grace_s=0)

    def run_of(self, release: int) -> Path:
        return self.root / f"release-{release}"

    def expected(self, release: int) -> list[Answer]:
        """One answer per basket of BASKETS."""
        return [toy_answer(self.run_of(release), basket) for basket in BASKETS]

    def active(self) -> int:
        """The release that answers a query past the cache."""
        (version,) = self.control.ready(ENSEMBLE)
        check_canary(self.control, version)
        return version

    def mistakes(self, release: int, front: str = ENSEMBLE) -> list[str]:
        """Differences between an ensemble's answers and those of this release."""
        problems = []
        for basket, want in zip(BASKETS, self.expected(release), strict=True):
            version, tensors = self.control.ask(front, request_tensors(Request(basket=basket)))
            problem = difference(answer_of(tensors), want)
            if version != release or problem:
                problems.append(f"{basket}: release {version}, {problem}")
        return problems
