"""One day's game between a platform and its drivers, as plain data: what an optimum is an optimum of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.network import Network

__all__ = ["OWNERS", "VARIANTS", "DriverClass", "Game", "Requirement"]

VARIANTS = ("rigorous", "published")
OWNERS = ("platform", "drivers")


@dataclass(frozen=True)
class DriverClass:
    """Drivers alike: their share of the fleet and the network in which each of them chooses a day."""

    name: str
    share: float
    network: Network

    def __post_init__(self) -> None:
        """Check every field."""
        require(isinstance(self.name, str) and self.name != "", "name of a driver class", self.name, "a text")
        number("share", self.share, 0.0, 1.0, open_low=True)
        require(isinstance(self.network, Network), "network", type(self.network).__name__, "a Network")
        object.__setattr__(self, "share", float(self.share))


@dataclass(frozen=True)
class Requirement:
    """A chance constraint on the bid C: P(power_kw K - r C >= 0) >= 1 - eta, K the number of plugged cars.

    Attributes:
        power_kw: what a plugged car contributes [kW].
        eta: tolerated probability of failure, in (0, 1/2).
        mean: mean of the ratio r.
        forward, backward: forward and backward deviation of r (Chen, Sim, Sun 2007).
    """

    power_kw: float
    eta: float
    mean: float
    forward: float
    backward: float

    def __post_init__(self) -> None:
        """Check every field."""
        number("power_kw", self.power_kw, 0.0, 1e6, open_low=True)
        number("eta", self.eta, 0.0, 0.5, open_low=True, open_high=True)
        number("mean", self.mean, 0.0, 1e6, open_low=True)
        number("backward", self.backward, 0.0, 1e6)
        number("forward", self.forward, 0.0, 1e6)
        for field in fields(self):
            object.__setattr__(self, field.name, float(getattr(self, field.name)))


@dataclass(frozen=True)
class Game:
    """A day: driver classes, prices, rebate levels, chance constraints, and whose interest counts.

    The platform picks a rebate s_t per period (one for all places and classes) from the levels up to the period's cap,
    and the largest bid C_t that a sufficient condition allows; it earns step_h sum_t (p_t C_t - s_t x plugged drivers).

    Attributes:
        classes: driver classes; shares sum up to 1.
        drivers: number M of drivers.
        price_usd_per_kw: payment per kW of bid and hour, (T,) [$/kW].
        levels_usd_per_h: rebate levels, increasing [$ per plugged hour].
        requirements: chance constraints, all of which hold for the bid of every period.
        cap_usd_per_h: highest rebate allowed in each period, (T,); None allows all levels everywhere.
        step_h: length of a period [h].
        variant: "rigorous" uses proven deviations of the number of plugged cars, "published" y(1-y) in both conditions.
        owner: "platform" maximises its profit; "drivers" their expected utility plus profit / (kappa M), with a profit
            of at least 0.
        kappa: weight in the drivers' objective.
    """

    classes: tuple[DriverClass, ...]
    drivers: int
    price_usd_per_kw: tuple[float, ...]
    levels_usd_per_h: tuple[float, ...]
    requirements: tuple[Requirement, ...]
    cap_usd_per_h: tuple[float, ...] | None = None
    step_h: float = 1.0
    variant: str = "rigorous"
    owner: str = "platform"
    kappa: float = 1.0

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is wrong."""
        for name, kind in (("classes", DriverClass), ("requirements", Requirement)):
            given = getattr(self, name)
            ok = isinstance(given, (tuple, list)) and all(isinstance(each, kind) for each in given)
            require(ok, name, given, f"a sequence of {kind.__name__}")
            object.__setattr__(self, name, tuple(given))
        require(len(self.classes) > 0, "classes", self.classes, "at least one driver class")
        total = sum(each.share for each in self.classes)
        require(abs(total - 1.0) <= 1e-9, "sum of the classes' shares", total, "1")
        number("drivers", self.drivers, 1, 10**7, integer=True)
        object.__setattr__(self, "drivers", int(self.drivers))
        prices = array("price_usd_per_kw", self.price_usd_per_kw, (None,), 0.0, 1e6)
        require(len(prices) > 0, "price_usd_per_kw", self.price_usd_per_kw, "at least one period")
        object.__setattr__(self, "price_usd_per_kw", tuple((prices + 0.0).tolist()))
        levels = array("levels_usd_per_h", self.levels_usd_per_h, (None,), 0.0, 1e6)
        require(len(levels) > 0, "levels_usd_per_h", self.levels_usd_per_h, "at least one level")
        rising = bool((np.diff(levels) > 0.0).all())
        require(rising, "levels_usd_per_h", self.levels_usd_per_h, "increasing, each level once")
        object.__setattr__(self, "levels_usd_per_h", tuple((levels + 0.0).tolist()))
        if self.cap_usd_per_h is not None:
            caps = array("cap_usd_per_h", self.cap_usd_per_h, (len(prices),), float(levels[0]), 1e6)
            object.__setattr__(self, "cap_usd_per_h", tuple((caps + 0.0).tolist()))
        require(len(self.requirements) in (1, 2), "requirements", self.requirements, "one or two")
        number("step_h", self.step_h, 0.0, 24.0, open_low=True)
        require(self.variant in VARIANTS, "variant", self.variant, " or ".join(VARIANTS))
        require(self.owner in OWNERS, "owner", self.owner, " or ".join(OWNERS))
        number("kappa", self.kappa, 0.0, 1e6, open_low=True)
        for name in ("step_h", "kappa"):
            object.__setattr__(self, name, float(getattr(self, name)))
        for each in self.classes:
            each.network.check_periods()
            last = max(each.network.period)
            require(last < len(prices), f"period of class {each.name}", last, f"-1 to {len(prices) - 1}, as the prices")

    @property
    def periods(self) -> int:
        """Number T of rebate periods."""
        return len(self.price_usd_per_kw)

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """Rebate levels, (L,) [$/h]."""
        return np.array(self.levels_usd_per_h)

    @cached_property
    def choices(self) -> NDArray[np.int64]:
        """Number of levels allowed in each period, (T,); the allowed ones are the first."""
        if self.cap_usd_per_h is None:
            return np.full(self.periods, len(self.levels), np.int64)
        caps = np.array(self.cap_usd_per_h)
        return np.searchsorted(self.levels, caps, side="right").astype(np.int64)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of all fields."""
        text = json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def replace(self, **changes: Any) -> Game:
        """Return a copy with some fields changed; unknown names raise InvalidInputError."""
        names = [field.name for field in fields(self)]
        for key in changes:
            require(key in names, "field of the game", key, ", ".join(names))
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON data."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        values["classes"] = [
            {"name": each.name, "share": each.share, "network": each.network.to_dict()} for each in self.classes
        ]
        values["requirements"] = [
            {field.name: getattr(each, field.name) for field in fields(Requirement)} for each in self.requirements
        ]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Game:
        """Build from a mapping; unknown and missing keys raise InvalidInputError."""
        given = _table("game", values, [field.name for field in fields(cls)])
        for name in ("classes", "requirements"):
            require(isinstance(given.get(name), list), f"{name} of the game", given.get(name), "a list of tables")
        given["classes"] = tuple(
            DriverClass(row["name"], row["share"], Network.from_dict(row["network"]))
            for row in (_table("class", each, ["name", "share", "network"], True) for each in given["classes"])
        )
        names = [field.name for field in fields(Requirement)]
        given["requirements"] = tuple(
            Requirement(**_table("requirement", each, names, True)) for each in given["requirements"]
        )
        for name in ("drivers", "price_usd_per_kw", "levels_usd_per_h"):
            require(name in given, f"field {name} of the game", "missing", "every field without a default")
        fixed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
        }
        return cls(**fixed)


def _table(what: str, values: Any, names: list[str], every: bool = False) -> dict[str, Any]:
    require(isinstance(values, Mapping), what, type(values).__name__, "a table of fields")
    for key in values:
        require(key in names, f"field of the {what}", key, ", ".join(names))
    for name in names if every else []:
        require(name in values, f"field {name} of the {what}", "missing", ", ".join(names))
    return dict(values)
