"""Certificates of plans in the storage game: what everybody pays, and what nobody can save by deviating alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.certificate import FORMAT, CertificateError, Report, pack
from baselines.checking import expect, near, numbers, whole_number
from baselines.parking_lot.prosumers import Prosumers
from baselines.parking_lot.storage_bounds import StorageGame, response_bounds, total_bound
from baselines.parking_lot.storage_game import Equilibrium, Optimum, checked_plan, storage_game
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance

__all__ = ["FIELDS", "KIND", "PARTS", "certificate_of", "check_equilibrium"]

Floats = NDArray[np.float64]

KIND = "storage equilibrium"
FIELDS = {
    KIND: {
        *("crowd", "slope", "kind_of_plan", "charge_kw", "discharge_kw"),
        *("multipliers", "costs_usd", "epsilon_usd", "optimum", "optimum_usd"),
    }
}
PARTS = {
    KIND: {
        "sample": {"law", "seed", "n_samples"},
        "crowd": {"pv", "load", "storage"},
        "optimum": {"taken", "stored", "limit"},
    }
}
PLANS = ("equilibrium", "social optimum")  # what the epsilon and the bound then say is up to the reader
_MOST = 1000  # prosumers of a certificate


def certificate_of(
    instance: Instance,
    crowd: Prosumers,
    n_samples: int,
    seed: int,
    game: StorageGame,
    found: Equilibrium,
    best: Optimum,
    kind: str,
) -> dict[str, Any]:
    """JSON certificate of a plan and its epsilons, beside what the best plan of all costs at least.

    Args:
        instance: of the lot.
        crowd: with it, ``n_samples`` and ``seed``, ``storage_game`` made the game.
        n_samples: sampled days.
        seed: of the days.
        game: the game.
        found: the plan.
        best: of the same game.
        kind: "equilibrium" or "social optimum", as the programs meant it.
    """
    return {
        "format": FORMAT,
        "problem": "parking_lot",
        "kind": KIND,
        "instance_sha256": instance.hash,
        "instance": instance.to_dict(),
        "sample": {"law": "generator", "seed": int(seed), "n_samples": int(n_samples)},
        "crowd": {name: pack(getattr(crowd, name)) for name in ("pv", "load", "storage")},
        "slope": game.slope,
        "kind_of_plan": kind,
        "charge_kw": pack(found.charge_kw),
        "discharge_kw": pack(found.discharge_kw),
        "multipliers": pack(found.multipliers),
        "costs_usd": pack(found.costs_usd),
        "epsilon_usd": float(found.epsilon_usd.max()),
        "optimum": {name: pack(getattr(best, name)) for name in ("taken", "stored", "limit")},
        "optimum_usd": best.bound_usd,
    }


def check_equilibrium(data: Mapping[str, Any], lot: Instance) -> Report:
    """Check one certificate of kind "storage equilibrium": best responses are bounded again, without a solver.

    Args:
        data: the certificate, whose fields have been compared.
        lot: the instance written in it.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    origin, parts = data["sample"], data["crowd"]
    expect(origin["law"] == "generator", "sample.law", origin["law"], "generator")
    samples = whole_number("sample.n_samples", origin["n_samples"], 1, 10**5)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    n = whole_number("number of prosumers", int(parts["pv"]["shape"][0]), 1, _MOST)
    expect(type(data["slope"]) is float, "slope", data["slope"], "a number")
    expect(data["kind_of_plan"] in PLANS, "kind_of_plan", data["kind_of_plan"], ", ".join(PLANS))
    shape = (n, lot.steps)
    u, v = (numbers(name, data[name], shape) for name in ("charge_kw", "discharge_kw"))
    multipliers = numbers("multipliers", data["multipliers"], (n, 2 * lot.steps))
    try:
        crowd = Prosumers(*(numbers(name, parts[name], (n,)) for name in ("pv", "load", "storage")))
        game = storage_game(lot, crowd, data["slope"], samples, seed)
        u, v = checked_plan(game, u, v)
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    costs = game.costs_usd(u, v)
    stated = numbers("costs_usd", data["costs_usd"], (n,))
    worst = int(np.abs(stated - costs).argmax())
    near(f"cost of {crowd.names[worst]}", float(stated[worst]), float(costs[worst]))
    epsilon = float(np.maximum(costs - response_bounds(game, u, v, multipliers), 0.0).max())
    near("epsilon_usd", data["epsilon_usd"], epsilon)
    rows = lot.steps
    shapes = {"taken": (rows,), "stored": (n, rows), "limit": (rows,)}
    best = total_bound(game, *(numbers(name, data["optimum"][name], shape) for name, shape in shapes.items()))
    near("optimum_usd", data["optimum_usd"], best)
    claim = (
        f"{data['kind_of_plan']} of {n} prosumers: together they pay {costs.sum():.4f} $, and none can save more than "
        f"{epsilon:.2e} $ by deviating alone"
    )
    other = f"no plan of all costs less than {best:.4f} $ together"
    values = {"total_usd": float(costs.sum()), "epsilon_usd": epsilon, "optimum_usd": best}
    return Report(KIND, (claim, other), values)
