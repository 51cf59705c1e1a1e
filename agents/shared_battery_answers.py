"""Sizes of the shared battery's studies, and fleets of any size under one law of needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from baselines.shared_battery.duals import largest_use
from baselines.shared_battery.reliability import days_needed
from v2g_env.core.validate import number, require
from v2g_env.shared_battery.instance import Instance
from v2g_env.shared_battery.kernels import TOLERANCE_KWH
from v2g_env.shared_battery.needs import Needs
from v2g_env.shared_battery.scenario import Law, law, law_of

__all__ = [
    "CLOSE",
    "EVALUATION",
    "LOG_KINDS",
    "RULE",
    "SEARCH_ROUNDS",
    "StudyConfig",
    "World",
    "grid_up_to",
    "uncovered",
]

Floats = NDArray[np.float64]
LOG_KINDS = ("trips", "charging", "norwegian")
RULE = "utilitarian"  # of Algorithm 1 here; the published study does not say which it took
CLOSE = 0.2  # how close to its target Algorithm 1 has to come, as a share of eps (and 0.01)
EVALUATION = 5  # stream of evaluation days
SEARCH_ROUNDS = 4  # of golden section in a search under a rule
_EVALUATION_BETA = 1e-3  # of the number of evaluation days


@dataclass(frozen=True)
class StudyConfig:
    """Sizes of the studies; the defaults take five to eight minutes on two cores.

    Attributes:
        fleets: numbers of drivers whose reliability is drawn against capacity and whose sizes are certified.
        growth: numbers of drivers over which the reduction is followed.
        lists: independent lists of samples from which candidates are made.
        counts: numbers of samples of the candidates, increasing.
        trials: independent runs of Algorithm 1 for each number of drivers and target.
        start_samples: Algorithm 1 starts with the textbook's number of samples, but not with more than this.
        tau: error of empirical reliabilities that the number of evaluation days allows (with confidence .999).
        search_days: sampled days in a search under a rule.
        test_days: fresh days that certify its answer.
        price_drivers, price_samples: drivers and sampled days in the section on prices.
        repetitions: independent certificates that are checked, for each correlation.
        hold_out_trials: runs of Algorithm 1 and of the certified grid whose answers are checked on fresh days.
        fresh: days on which probabilities are observed.
        beta: confidence parameter of single certificates.
        seed: of all draws.
        log: file with recorded trips or charging sessions; None: no such section.
        log_kind: one of LOG_KINDS: trips or charging sessions with the loaders' column names, or the Norwegian log.
        log_min_days: drivers of the log with energy on fewer days are left out.
    """

    fleets: tuple[int, ...] = (25, 50, 100)
    growth: tuple[int, ...] = (5, 10, 25, 50, 100)
    lists: int = 8
    counts: tuple[int, ...] = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
    trials: int = 20
    start_samples: int = 2000
    tau: float = 0.02
    search_days: int = 6000
    test_days: int = 60_000
    price_drivers: int = 100
    price_samples: int = 2000
    repetitions: int = 200
    hold_out_trials: int = 50
    fresh: int = 100_000
    beta: float = 1e-5
    seed: int = 30
    log: str | Path | None = None
    log_kind: str = "charging"
    log_min_days: int = 30

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("fleets", "growth", "counts"):
            values = getattr(self, name)
            require(len(values) > 0, name, values, "at least one number")
            for value in values:
                number(name, value, 1 if name == "counts" else 2, 10**5, integer=True)
            require(list(values) == sorted(set(values)), name, values, "increasing numbers")
        for field in fields(self):
            if field.type == "int" and field.name != "seed":
                number(field.name, getattr(self, field.name), 1, 10**7, integer=True)
        number("start_samples", self.start_samples, 10, 10**6, integer=True)
        number("price_samples", self.price_samples, self.price_drivers + 1, 10**6, integer=True)
        number("tau", self.tau, 0.001, 0.5)
        number("beta", self.beta, 0.0, 1.0, open_low=True, open_high=True)
        number("seed", self.seed, 0, 2**63, integer=True)
        require(self.log_kind in LOG_KINDS, "log_kind", self.log_kind, f"one of {', '.join(LOG_KINDS)}")

    @classmethod
    def quick(cls) -> StudyConfig:
        """Small sizes, well under a minute."""
        return cls(
            fleets=(10, 25),
            growth=(5, 25),
            lists=3,
            counts=(1, 3, 10, 30, 100, 300, 1000),
            trials=5,
            start_samples=1000,
            tau=0.04,
            search_days=2000,
            test_days=12_000,
            price_drivers=25,
            price_samples=500,
            repetitions=25,
            hold_out_trials=6,
            fresh=20_000,
        )

    def evaluation_days(self, drivers: int) -> int:
        """Days on which empirical reliabilities are read."""
        return days_needed(drivers, self.tau, _EVALUATION_BETA)

    def seed_of(self, *place: int) -> int:
        """Seed of one draw, different for every place in the study."""
        return int(np.random.SeedSequence([self.seed, *place]).generate_state(1)[0])


@dataclass(frozen=True)
class World:
    """Fleets of any size: parameters of the generator, or the drivers of a log.

    Attributes:
        base: every other field of the instances.
        log: histograms of recorded drivers; None: generated ones.
    """

    base: Instance
    log: Needs | None = None

    def fleet(self, drivers: int, eps: float, ratio: float | None = None) -> Instance:
        """The fleet of the first ``drivers`` drivers.

        Args:
            drivers: n.
            eps: tolerated probability of everybody.
            ratio: price of own over that of shared capacity; None: the prices of the base.
        """
        found = self.base.replace(drivers=drivers, eps=(eps,))
        if ratio is not None:
            found = found.replace(own_usd_per_kwh=ratio * found.shared_usd_per_kwh)
        if self.log is not None:
            require(drivers <= self.log.drivers, "drivers", drivers, f"at most the log's {self.log.drivers}")
            found = found.replace(own_max_kwh=max(found.own_max_kwh, self.log.largest_kwh))
        return found

    def law(self, instance: Instance) -> Law:
        """Law of the needs of such a fleet."""
        if self.log is None:
            return law(instance)
        n = instance.drivers
        return law_of(Needs(self.log.name, self.log.bin_kwh, self.log.idle[:n].copy(), self.log.share[:n].copy()))


def uncovered(need_kwh: Floats, own_kwh: Floats, shared_kwh: float) -> float:
    """Share of days (m, n) on which the shortfalls together exceed the shared battery: the event of (P-SI)."""
    return float((largest_use(need_kwh, own_kwh, 0.0) > shared_kwh + TOLERANCE_KWH).mean())


def grid_up_to(most: int) -> tuple[int, ...]:
    """Numbers of samples 5, 10, 20, ... up to ``most``."""
    return tuple(5 * 2**j for j in range(40) if 5 * 2**j <= most)
