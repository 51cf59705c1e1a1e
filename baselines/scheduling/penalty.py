"""Penalties for knowing the future, with the mean zero for every policy: what makes bounds of single days tighter.

A bound that lets a plan see its whole day also pays it for surprises that no policy can use: set-points are fixed
before the step's load and wind are known, and so is the energy stored before it. A penalty takes that back:

    z = sum over steps t of  level_t + alpha_t (gas_t - gas'_t) + beta_t (Y_t - Y'_t)

with the generator's power gas_t, the energy Y_t that the cars plugged in at the start of the step have gained since
they came, and alpha_t, beta_t, level_t whose mean is zero given everything known when the set-points of step t are
fixed (the whole forecast and all cars of the day included). gas_t and Y_t are known then, so E z = 0 for every policy,
and E return = E (return - z) <= E max (return - z), the maximum over all plans of the known day: weak duality of
information relaxations (Brown, Smith, Sun 2010; nonanticipativity multipliers of Rockafellar and Wets 1976). As z is
linear in what the day's linear program decides anyway, the maximum is the same program with other prices.

alpha and beta are weighted sums of slopes of a value function (gradient penalties: Brown and Smith 2014); the value
function belongs to a reduced day, see penalty_critic. How good it is decides how tight the bound is; that the mean is
exactly zero rests on the lattice of penalty_noise alone. The weights may be anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.penalty_critic import ENERGY_WIDTH, GAS_WIDTH_KW, GRID, surprise
from v2g_env.core.validate import InvalidInputError, array, number, require
from v2g_env.rollout import Episodes
from v2g_env.scheduling.model import FACTS, Model
from v2g_env.scheduling.scenario import Scenario

__all__ = ["Penalty", "Prices", "default", "penalty_of", "prices", "zero"]

Floats = NDArray[np.float64]

_MOST = 100.0  # of a weight
_MOST_PARTS = 1000
_MOST_POINTS = 100  # of a grid
_SHIPPED = Path(__file__).with_name("penalty_default.json")


@dataclass(frozen=True)
class Penalty:
    """Weights of a penalty; the day is divided into parts of equal length.

    Attributes:
        level: weight of the surprise of the value; it changes no plan, only how much bounds scatter.
        gas: (parts, 1) weights of slopes in the generator's power, see penalty_critic.GAS_WIDTH_KW.
        energy: (parts, 2) weights of slopes in the stored energy, see penalty_critic.ENERGY_WIDTH.
        grid: points of the reduced day, see penalty_critic.surprise.
    """

    level: float
    gas: tuple[tuple[float, ...], ...]
    energy: tuple[tuple[float, ...], ...]
    grid: tuple[int, ...] = GRID

    def __post_init__(self) -> None:
        """Check every field; raise InvalidInputError naming the first that is wrong."""
        number("level", self.level, -_MOST, _MOST)
        object.__setattr__(self, "level", float(self.level))
        for name, widths in (("gas", GAS_WIDTH_KW), ("energy", ENERGY_WIDTH)):
            found = array(name, getattr(self, name), (None, len(widths)), -_MOST, _MOST)
            require(1 <= len(found) <= _MOST_PARTS, f"parts of {name}", len(found), f"1 to {_MOST_PARTS}")
            object.__setattr__(self, name, tuple(map(tuple, (found + 0.0).tolist())))
        found = array("grid", self.grid, (len(GRID),), 3, _MOST_POINTS)
        require(bool((found == np.floor(found)).all()), "grid", self.grid, "whole numbers")
        object.__setattr__(self, "grid", tuple(map(int, found)))
        require(len(self.gas) == len(self.energy), "parts of energy", len(self.energy), f"{len(self.gas)}, as of gas")

    @property
    def idle(self) -> bool:
        """Whether all weights are zero."""
        return self.level == 0.0 and not (np.any(self.gas) or np.any(self.energy))

    @property
    def hash(self) -> str:
        """SHA-256 over the canonical JSON of all weights."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """All weights as plain JSON data."""
        return dict(json.loads(json.dumps(asdict(self))))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Penalty:
        """Build from a mapping with exactly the fields; anything else raises InvalidInputError."""
        names = [field.name for field in fields(cls)]
        ok = isinstance(values, Mapping) and set(values) == set(names)
        require(ok, "penalty", values, f"exactly {', '.join(names)}")
        return cls(**values)


class Prices(NamedTuple):
    """The penalty of one day: constant + gas_usd_per_kw @ gas + energy_usd_per_kwh @ Y, see the module.

    Attributes:
        constant_usd: what does not depend on decisions.
        gas_usd_per_kw, energy_usd_per_kwh: (steps,).
    """

    constant_usd: float
    gas_usd_per_kw: Floats
    energy_usd_per_kwh: Floats


def zero() -> Penalty:
    """The penalty that is none: bounds are those of hindsight."""
    return Penalty(0.0, ((0.0,) * len(GAS_WIDTH_KW),), ((0.0,) * len(ENERGY_WIDTH),))


def default() -> Penalty:
    """The penalty fitted to the default instance by ``penalty_fit.write_default``.

    Raises:
        InvalidInputError: if the shipped file is damaged.
    """
    try:
        content = json.loads(_SHIPPED.read_text(encoding="utf-8"))
        found = Penalty.from_dict(content["penalty"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{_SHIPPED.name} = damaged ({error}); allowed: the file as shipped") from None
    require(content["sha256"] == found.hash, f"hash of {_SHIPPED.name}", content["sha256"], found.hash)
    return found


def prices(model: Model, scenario: Scenario, row: int, penalty: Penalty) -> Prices:
    """The penalty's prices on one day.

    Args:
        model: of the environment.
        scenario: the days.
        row: which one.
        penalty: the weights.
    """
    steps = model.steps
    if penalty.idle:
        return Prices(0.0, np.zeros(steps), np.zeros(steps))
    found = surprise(model, scenario, row, penalty.grid)
    part = np.arange(steps) * len(penalty.gas) // steps
    gas = (np.array(penalty.gas)[part] * found.gas_usd_per_kw).sum(axis=1)
    energy = (np.array(penalty.energy)[part] * found.energy_usd_per_kwh).sum(axis=1)
    level = penalty.level * found.level_usd.sum()
    return Prices(float(level - gas @ found.gas_kw - energy @ found.energy_kwh), gas, energy)


def penalty_of(
    model: Model,
    scenario: Scenario,
    recorded: Episodes | NDArray[np.float32],
    penalty: Penalty,
) -> Floats:
    """The penalties (n,) of what a policy did [$]: their mean is zero for every policy, so they are control variates.

    Args:
        model: of the environment.
        scenario: n days.
        recorded: the policy's rollout on them, or its actions (n, steps, 2 + aggregators).
        penalty: the weights.

    Raises:
        InvalidInputError: for actions of another shape or out of range.
    """
    given = recorded.actions if isinstance(recorded, Episodes) else recorded
    n = len(scenario.load_kw)
    actions = array("actions", given, (n, model.steps, model.action_size), -1.0, 1.0)
    state = model.initial(scenario)
    gas, stored = np.empty((n, model.steps)), np.empty((n, model.steps))
    for t in range(model.steps):
        there = (scenario.arrive <= t) & (t < scenario.depart)
        stored[:, t] = np.where(there, state.energy_kwh - scenario.start_kwh, 0.0).sum(axis=1)
        state, _, facts = model.step(scenario, state, actions[:, t])
        gas[:, t] = facts[:, FACTS.index("gas_kw")]
    total = np.empty(n)
    for row in range(n):
        found = prices(model, scenario, row, penalty)
        total[row] = found.constant_usd + found.gas_usd_per_kw @ gas[row] + found.energy_usd_per_kwh @ stored[row]
    return total
