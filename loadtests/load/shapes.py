"""The number of shoppers at each moment of a load test. --shape selects smoke, ramp, soak or spike."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Shape:
    """Stages in order, each as (share of the length, share of the shoppers)."""

    length_s: float
    shoppers: int
    stages: tuple[tuple[float, float], ...]

    def shoppers_at(self, passed_s: float, length_s: float, shoppers: int) -> int | None:
        """The number of shoppers after `passed_s` of `length_s` seconds, None when the test is over."""
        end = 0.0
        for share, part in self.stages:
            end += share * length_s
            if passed_s < end:
                return max(round(part * shoppers), 1)
        return None


SHAPES: Final = {
    "smoke": Shape(20, 8, ((1.0, 1.0),)),
    "ramp": Shape(120, 64, tuple((0.125, step / 8) for step in range(1, 9))),
    "soak": Shape(1800, 16, ((1.0, 1.0),)),
    "spike": Shape(90, 64, ((0.4, 0.1), (0.2, 1.0), (0.4, 0.1))),
}
