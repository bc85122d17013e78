"""samples: numbers of a series that may have no end, such as the times of a camera's frames.

In   one number after another
Out  all of them while there are fewer than 16 384, then evenly spaced ones, at least half as many:
     percentiles are exact, then of a sample whose ranks are off by half a percent or so
"""

from __future__ import annotations

from dataclasses import dataclass, field

MOST = 16384


@dataclass
class Samples:
    """Every first, second, fourth, ... number, as many as fit."""

    values: list[float] = field(default_factory=list)
    count: int = 0  # of the whole series
    step: int = 1

    def add(self, value: float) -> None:
        """Take the next number of the series."""
        if self.count % self.step == 0:
            self.values.append(value)
        self.count += 1
        if len(self.values) == MOST:
            self.values = self.values[::2]
            self.step *= 2
