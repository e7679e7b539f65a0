"""What a benchmark reports, and how it takes samples."""

import gc
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from statistics import median


class Verdict(Enum):
    """A value against its bounds."""

    INFORMATION = "-"
    """It has none."""
    GOAL = "goal"
    REQUIRED = "required"
    """It holds what is required, but not the goal."""
    MISSED_GOAL = "below goal"
    FAILED = "failed"
    """It misses what is required."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its unit, and the bounds that it is held against: smaller is better unless ``higher`` says so."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    required: float | None = None
    higher: bool = False
    note: str = ""

    def _holds(self, bound: float) -> bool:
        return self.value >= bound if self.higher else self.value <= bound

    @property
    def verdict(self) -> Verdict:
        """How the value stands to its bounds. A value that is not a number fails a bound."""
        if self.goal is None and self.required is None:
            return Verdict.INFORMATION
        if math.isnan(self.value) or (self.required is not None and not self._holds(self.required)):
            return Verdict.FAILED
        if self.goal is None or self._holds(self.goal):
            return Verdict.GOAL
        return Verdict.MISSED_GOAL if self.required is None else Verdict.REQUIRED


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line asks for. ``quick``: fewer and shorter samples. ``guest``: a folder with a Linux guest."""

    quick: bool = False
    guest: Path | None = None

    @property
    def rounds(self) -> int:
        """Samples of everything, after the warm-up."""
        return 3 if self.quick else 7

    def count(self, full: int, quick: int) -> int:
        """How often to do something within a sample."""
        return quick if self.quick else full


class Unavailable(Exception):
    """This benchmark cannot run here; the message says what is missing."""


Benchmark = Callable[[Settings], list[Measurement]]
Sample = Callable[[], float]
"""Does the work once and returns its CPU time in seconds: what has to be set up for it does not count."""


def timed(work: Callable[[], object]) -> float:
    """CPU time of one call, in seconds; garbage of earlier samples is collected first, its own within."""
    gc.collect()
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(rounds: int, *samples: Sample) -> list[list[float]]:
    """``rounds`` samples of each, in turns, after one of each that does not count."""
    for sample in samples:
        sample()
    results: list[list[float]] = [[] for _ in samples]
    for _ in range(rounds):
        for sample, result in zip(samples, results, strict=True):
            result.append(sample())
    return results


def seconds(rounds: int, sample: Sample) -> float:
    """Median of ``rounds`` samples."""
    return median(interleaved(rounds, sample)[0])


def ratio(numerators: list[float], denominators: list[float]) -> float:
    """Median of the ratios of samples that were taken next to each other."""
    return median(a / b for a, b in zip(numerators, denominators, strict=True))
