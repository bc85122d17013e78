"""statistics: rates, ages, stage times and drops of the last seconds, without ROS."""

from __future__ import annotations

import threading
from collections import Counter, deque

import numpy as np

WINDOW_S = 10.0


class Series:
    """Numbers with the times at which they came, those of the last `WINDOW_S`."""

    def __init__(self) -> None:
        self._rows: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float = 0.0) -> None:
        """Append a number; forget old ones."""
        self._rows.append((now, value))
        self._forget(now)

    def rate(self, now: float) -> float:
        """Numbers a second [Hz]."""
        self._forget(now)
        if len(self._rows) < 2:
            return 0.0
        return (len(self._rows) - 1) / max(now - self._rows[0][0], 1e-9)

    def quantiles(self, now: float, *shares: float) -> list[float]:
        """These quantiles; NaN where there is nothing."""
        self._forget(now)
        values = [value for _, value in self._rows]
        return np.quantile(values, shares).tolist() if values else [float("nan")] * len(shares)

    def _forget(self, now: float) -> None:
        while self._rows and now - self._rows[0][0] > WINDOW_S:
            self._rows.popleft()


class Statistics:
    """What the node did, for its diagnostics; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received, self._published = Series(), Series()
        self._stages: dict[str, Series] = {}
        self.drops: Counter[str] = Counter()
        self.frames = 0
        self.people = 0  # in the last frame

    def received(self, now: float) -> None:
        """A picture came."""
        with self._lock:
            self._received.add(now)

    def dropped(self, reason: str) -> None:
        """A picture was not worked on: `newer`, `old` or `unusable`."""
        with self._lock:
            self.drops[reason] += 1

    def published(self, now: float, age: float, people: int, timings: dict[str, float]) -> None:
        """Results of a picture went out.

        Args:
            now: time [s].
            age: of the picture by then [s].
            people: how many.
            timings: stage -> [ms].
        """
        with self._lock:
            self.frames, self.people = self.frames + 1, people
            self._published.add(now, age)
            for stage, milliseconds in timings.items():
                self._stages.setdefault(stage, Series()).add(now, milliseconds)

    def values(self, now: float) -> dict[str, str]:
        """Everything as diagnostics show it."""
        with self._lock:
            age50, age95 = self._published.quantiles(now, 0.5, 0.95)
            rows = {
                "camera rate [Hz]": f"{self._received.rate(now):.1f}",
                "result rate [Hz]": f"{self._published.rate(now):.1f}",
                "age of results p50 [ms]": f"{1e3 * age50:.0f}",
                "age of results p95 [ms]": f"{1e3 * age95:.0f}",
                "frames": str(self.frames),
                "people": str(self.people),
                "dropped for a newer one": str(self.drops["newer"]),
                "dropped as too old": str(self.drops["old"]),
                "unusable": str(self.drops["unusable"]),
            }
            for stage, series in self._stages.items():
                p50, p95 = series.quantiles(now, 0.5, 0.95)
                rows[f"{stage} p50, p95 [ms]"] = f"{p50:.1f}, {p95:.1f}"
        return rows

    def silent(self, now: float) -> bool:
        """Whether no picture came of late."""
        with self._lock:
            return self._received.rate(now) == 0.0
