"""What the attacks did: findings, and the honest caller's latencies beside each one."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from loadtests.attack.honest import Asked
from loadtests.attack.place import Attack, Outcome

HEALTH: Final = "health"
KEEPS: Final = 0.9  # of the throughput before, within 5 s after the attacks
MOST: Final = 3  # sentences about the honest caller in one row


@dataclass
class Attacked:
    """One attack, and what it left behind. Times are of time.monotonic."""

    theme: str
    attack: Attack
    begun: float
    ended: float
    outcome: Outcome
    restarts: int
    deaths: list[int]  # signals that ended workers, without the kills of the attack
    failures: Counter[str]  # 5xx in the gateway's log
    healed: bool
    faults: list[str] = field(default_factory=list)  # lines of the gateway's error log
    honest: list[Asked] = field(default_factory=list)

    def find(self, standing: set[str]) -> list[str]:
        """A sentence for each thing that must not happen, without problems that exist without an attack."""
        found = list(self.outcome.problems)
        if self.restarts:
            found.append(f"Triton was started again {self.restarts} times")
        if self.deaths:
            found.append(
                f"{len(self.deaths)} workers of the gateway died, signals {sorted(set(self.deaths))}"
            )
        if self.faults:
            found.append(f"the gateway's error log has {len(self.faults)} faults: {self.faults[0]}")
        if not self.healed:
            found.append(
                "the attacker's key cannot use its slots again within 5 s; the gateway was restarted"
            )
        for failure, count in self.failures.most_common():
            if not (self.attack.overloads and failure.startswith("503")):
                found.append(f"the gateway's log has {count} times {failure}")
        return found + self._find_honest(standing)

    def _find_honest(self, standing: set[str]) -> list[str]:
        wrong = Counter(asked.problem for asked in self.honest if asked.problem not in {"", *standing})
        found = [f"honest caller: {count} times {problem}" for problem, count in wrong.most_common(MOST)]
        broke = sum(asked.broke for asked in self.honest)
        if broke and not self.attack.kills:
            found.append(f"honest caller: {broke} connections ended without an answer; it asked again")
        return found


@dataclass
class Report:
    """All attacks, and what belongs to none of them."""

    attacked: list[Attacked]
    calm: list[Asked]  # by the honest caller, while no attack ran
    throughput: tuple[float, float] = (0.0, 0.0)  # before and after, as a share of asking Triton directly

    @property
    def standing(self) -> set[str]:
        """The honest caller's problems without an attack."""
        return {asked.problem for asked in self.calm if asked.problem}

    @property
    def findings(self) -> list[str]:
        standing = self.standing
        found = [f"without an attack, honest caller: {problem}" for problem in sorted(standing)[:MOST]]
        for one in self.attacked:
            found += [f"{one.theme}, {one.attack.name}: {text}" for text in one.find(standing)]
        before, after = self.throughput
        if after < KEEPS * before:
            found.append(
                f"throughput was {before:.2f} of Triton's before and is {after:.2f} after the attacks"
            )
        return found

    def check_throughput(self, before: Sequence[float], after: Sequence[float]) -> None:
        """Compare the median before with the best measurement after."""
        self.throughput = statistics.median(before), max(after)

    @property
    def honest(self) -> list[Asked]:
        """All requests of the honest caller."""
        return [asked for one in self.attacked for asked in one.honest] + self.calm

    def describe(self) -> dict[str, Any]:
        """The report as JSON."""
        rows = [
            {
                "theme": one.theme,
                "attack": one.attack.name,
                "seconds": round(one.ended - one.begun, 1),
                "sent": one.outcome.sent,
                "answers": dict(one.outcome.answers.most_common()),
                "killed": len(one.outcome.killed),
                "honest": summarise(one.honest),
                "findings": one.find(self.standing),
            }
            for one in self.attacked
        ]
        before, after = (round(value, 3) for value in self.throughput)
        return {
            "attacks": rows,
            "honest": summarise(self.honest),
            "throughput_of_direct": {"before": before, "after": after},
            "findings": self.findings,
        }


def judge(
    attacked: Sequence[Attacked], asked: Sequence[Asked], pauses: Sequence[tuple[float, float]]
) -> Report:
    """Give each attack the honest requests beside it. None counts while the gateway is being restarted."""
    counted = [
        one
        for one in asked
        if not any(start <= one.due + one.seconds and one.due < end for start, end in pauses)
    ]
    calm = list[Asked]()
    for one in counted:
        beside = [each for each in attacked if each.begun <= one.due < each.ended]
        (beside[0].honest if beside else calm).append(one)
    return Report(list(attacked), calm)


def summarise(asked: Sequence[Asked]) -> dict[str, float]:
    """Number, failures and latencies of honest requests, without the probes of health."""
    requests = [one for one in asked if one.wire != HEALTH]
    summary = {"requests": len(requests), "failed": sum(bool(one.problem) for one in requests)}
    summary |= {"asked_again": sum(one.broke for one in requests)}
    summary |= {"probes": len(asked) - len(requests)}
    summary |= {"probes_failed": sum(bool(one.problem) for one in asked if one.wire == HEALTH)}
    p50, p99 = (
        np.percentile([one.seconds * 1000 for one in requests], [50, 99]).tolist() if requests else (0, 0)
    )
    return {**summary, "p50_ms": round(p50, 1), "p99_ms": round(p99, 1)}
