"""Check of certificates of kind "adjustable schedule": a rule keeps all limits and is the cheapest, up to a gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from baselines.certificate import Report
from baselines.checking import expect, near, numbers
from baselines.duality import linear_bound
from baselines.scheduling.affine import affine_program
from baselines.scheduling.plan import FEASIBLE
from baselines.scheduling.program import Task
from baselines.scheduling.verify_linear import read_day, read_protection
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.scenario import gas_scale

__all__ = ["check_adjustable"]

_FIELDS = {"format", "problem", "kind", "instance", "instance_sha256", "day", "protection", "adjust", "point", "dual"}
_FIELDS |= {"value", "bound"}
_MOST_NUMBERS = 10**6  # no forged size makes a check endless


def check_adjustable(data: Mapping[str, Any], instance: Instance) -> Report:
    """Recompute a rule's limits, its cost and the bound below which none is.

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    size = instance.steps * (instance.cars + instance.gas_segments + instance.aggregators + instance.turbines)
    expect(size <= _MOST_NUMBERS, "steps x (cars + gas_segments + aggregators + turbines)", size, _MOST_NUMBERS)
    expect(type(data["adjust"]) is bool, "adjust", data["adjust"], "true or false")
    protection = read_protection(data["protection"], instance)
    task = Task(read_day(data["day"], instance), protection, "cost", False, gas_scale(instance))
    program = affine_program(instance, task, data["adjust"])
    point = numbers("point", data["point"], (len(program.cost),))
    inside = (point >= program.lower) & (point <= program.upper)
    expect(bool(inside.all()), "point", point[~inside], "within the bounds of its columns")
    sums = program.matrix @ point
    off = float(np.maximum(program.low - sums, sums - program.up).max(initial=0.0))
    # a limit on what really happens rests on its own row, on 2 rows of every step, and on 2 that a deviation multiplies
    excess = off * (1.0 + 2.0 * (instance.steps + float(program.reach.sum())))
    expect(excess <= FEASIBLE, "excess over a limit", excess, f"at most {FEASIBLE:g}")
    value = -float(program.cost @ point)
    near("value", data["value"], value)
    dual = numbers("dual", data["dual"], (len(program.low),))
    parts = (program.cost, program.matrix, program.low, program.up, program.lower, program.upper)
    bound = -linear_bound(*parts, dual)
    near("bound", data["bound"], bound)
    gap = max(value - bound, 0.0)
    level = f" {protection.level:g}" if protection.kind not in ("none", "box") else ""
    claims = (
        f"cost {value:.6f} $ on the means; balance, generator, reserve and cars kept within limits for all deviations "
        f"in the {protection.kind}{level}, each up to {excess:.1e} (lines left out)",
        f"no rule of its kind costs less than {bound:.6f} $: gap {gap:.2e} ({gap / max(abs(bound), 1e-9):.1e})",
    )
    return Report("adjustable schedule", claims, {"value": value, "bound": bound, "gap": gap})
