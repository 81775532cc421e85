"""How many shoppers there are at each moment: smoke, ramp, soak, spike. Chosen by --shape."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Shape:
    """Stages as (share of the length, share of the shoppers), one after the other."""

    length_s: float
    shoppers: int
    stages: tuple[tuple[float, float], ...]

    def shoppers_at(self, passed_s: float, length_s: float, shoppers: int) -> int | None:
        """How many there are after `passed_s` of `length_s`, None when it is over."""
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
