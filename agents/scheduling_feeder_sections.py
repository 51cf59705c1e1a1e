"""Sections of the scheduling study on alternating current: voltages with and without support, robust dispatch."""

from __future__ import annotations

from typing import Any

import numpy as np

from agents.report import Section
from agents.scheduling_answers import World
from agents.scheduling_study_figures import draw_voltage
from baselines.scheduling.conic import Solution, solve
from baselines.scheduling.conic_point import flow_of
from baselines.scheduling.feeder_day import FeederDay
from v2g_env.core.feeder import feeder_of, power_flow

__all__ = ["robust_dispatch", "voltages"]

_DRAWS = 50  # simulated loads of every step


def voltages(_: World) -> Section:
    """The 33-bus feeder with and without reactive power from inverters and generator."""
    base = FeederDay(v_min_pu=0.9)
    rows: list[dict[str, Any]] = []
    profiles = {}
    bare = feeder_of("33")
    flow = power_flow(bare, bare.p_kw, bare.q_kvar)
    profiles["no devices, nominal load"] = flow.voltage_pu
    for objective in ("cost", "losses"):
        for reactive in (True, False):
            day = base.replace(objective=objective, reactive=reactive)
            found = solve(day)
            exact = flow_of(day, found.plan)
            step = int(exact.voltage_pu.min(axis=1).argmin())
            figures = found.certificate["figures"]
            name = f"{objective}, {'with' if reactive else 'without'} reactive support"
            if objective == "cost":
                profiles[name] = exact.voltage_pu[step]
            rows.append(
                {
                    "objective": name,
                    "value": f"{found.value:.2f} {'$' if objective == 'cost' else 'kWh'}",
                    "losses [kWh]": f"{float(np.sum(exact.losses_kw)) * day.step_h:.1f}",
                    "lowest voltage [pu]": f"{exact.voltage_pu.min():.4f}",
                    "proven gap": f"{max(found.certificate['gap'], 0.0):.0e}".replace("-", "−"),
                    "losses against power flow": f"{figures['losses_relative']:.0e}".replace("-", "−"),
                }
            )
    text = (
        "A day on the 33-bus feeder of Baran and Wu (1989) with a gas unit, wind and six aggregators: branch-flow cone "
        "program, its dispatch carried through an independent power flow. Voltages may go down to .90 pu here so that "
        "both variants have a dispatch; with .95 pu the day without reactive support is proven to have none. The "
        "figure shows the step of lowest voltage, and the feeder without devices at its nominal load "
        f"({flow.losses_kw:.2f} kW of losses, lowest voltage {flow.voltage_pu.min():.4f} pu; published: 202.68 kW and "
        ".9131 pu)."
    )
    return Section("Voltages with and without reactive support", text, rows, draw_voltage(profiles), (8.6, 3.4))


def robust_dispatch(world: World) -> Section:
    """A day on which the voltage limit binds: what robustness costs and what it prevents."""
    base = FeederDay(half_width=(0.15,), gas_usd_per_kwh=0.25, reserve=0.02)
    rows: list[dict[str, Any]] = []
    first = 0.0
    for robust, omega in (("none", 3.0), ("ellipsoid", 1.0), ("ellipsoid", 1.5), ("ellipsoid", 2.5), ("box", 3.0)):
        day = base.replace(robust=robust, omega=omega)
        found = solve(day)
        first = first or found.value
        rows.append(
            {
                "loads protected": robust if robust != "ellipsoid" else f"ellipsoid {omega:g}",
                "cost [$]": f"{found.value:.2f}",
                "more [%]": f"{100.0 * (found.value / first - 1.0):.2f}",
                "steps below the limit": f"{_low(world, day, found):.4f}",
                "proven gap": f"{max(found.certificate['gap'], 0.0):.0e}".replace("-", "−"),
            }
        )
    text = (
        "The same feeder with dearer gas, so that the voltage limit of .95 pu binds; every load may deviate by "
        "± 15 %. The dispatch is kept and the substation settles the difference. Steps below the limit: share of steps "
        f"in which some bus falls below it, by exact power flow, with every load at one end of its interval at random "
        f"({_DRAWS} draws a step). The envelope is proven for every load in the set; for loads outside an ellipsoid "
        "nothing is promised."
    )
    return Section("Robust dispatch on a feeder", text, rows)


def _low(world: World, day: FeederDay, found: Solution) -> float:
    rng = np.random.default_rng([world.config.seed, 3])
    signs = np.where(rng.random((_DRAWS, *day.load_kw.shape)) < 0.5, -1.0, 1.0)
    flow = flow_of(day.replace(robust="box"), found.plan, signs)
    return float((flow.voltage_pu[..., 1:].min(axis=-1) < day.v_min_pu - 1e-6).mean())
