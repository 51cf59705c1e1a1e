"""Benchmarks: environments, scenario programs, bounds, training and the executor, all in one run on one machine."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

__all__ = ["PARTS", "run_bench"]


def _best(call: Callable[[], Any], repeats: int = 40) -> float:
    """Shortest of some wall times [s]; one call before to compile."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def _action(problem: str, space: Any) -> Any:
    """Nothing for the parking lot; random actions elsewhere (drivers' response to no rebates is known beforehand)."""
    if problem == "parking_lot":
        return np.zeros(space.shape, np.float32)
    space.seed(0)
    return space.sample()


def _size(env_id: str, instance: Any) -> tuple[int, str]:
    """What one step of an environment goes through: how many of what."""
    if hasattr(instance, "bays"):
        return int(instance.bays), "bay"
    if "PriceChain" in env_id:
        return 1, "choice"
    if hasattr(instance, "cars"):
        return int(instance.cars), "car"
    if "Sizing" in env_id:
        return int(instance.drivers * instance.season_days), "driver-day"
    return (1, "request") if "Allocation" in env_id else (int(instance.drivers), "driver")


def _env() -> Iterator[str]:
    import gymnasium
    from gymnasium.vector import AutoresetMode

    import v2g_env

    for entry in v2g_env.ENVIRONMENTS:
        env = gymnasium.make(entry.id)
        env.reset(seed=0)
        action = _action(entry.problem, env.action_space)
        horizon = 0
        while not env.step(action)[2]:
            horizon += 1
        horizon += 1
        fleet = env.unwrapped.model.instance  # type: ignore[attr-defined]
        size, unit = _size(entry.id, fleet)

        def episodes(env: Any = env, action: Any = action, horizon: int = horizon) -> None:
            for _ in range(20):
                env.reset()
                for _ in range(horizon):
                    env.step(action)

        single = 20 * horizon / _best(episodes)
        yield f"{entry.id}: one environment {single:,.0f} steps/s, resets included"
        for count in (256, 1024):
            envs = gymnasium.make_vec(
                entry.id,
                num_envs=count,
                vectorization_mode="vector_entry_point",
                autoreset_mode=AutoresetMode.SAME_STEP,
            )
            envs.reset(seed=0)
            actions = _action(entry.problem, envs.action_space)

            def days(envs: Any = envs, actions: Any = actions, horizon: int = horizon) -> None:
                for _ in range(4 * horizon):
                    envs.step(actions)

            rate = 4 * horizon * count / _best(days)
            yield (
                f"{entry.id}: {count} environments {rate:,.0f} steps/s = {rate * size / 1e6:.1f} M {unit}-updates/s, "
                f"resets included; {rate / single:.1f} times one environment"
            )


def _programs() -> Iterator[str]:
    from baselines.parking_lot.programs import solve_sample
    from baselines.parking_lot.reference import solve_reference
    from baselines.parking_lot.samples import expected_market
    from v2g_env.parking_lot.instance import Instance
    from v2g_env.parking_lot.scenario import law, sample_capacity

    origin = {"law": "generator", "seed": 1, "n_samples": 5000, "quota": "executable"}
    first: dict[float | None, float] = {}
    for step_h in (1.0, 0.25):
        lot = Instance(open_h=0.0, close_h=24.0, step_h=step_h)
        days = sample_capacity(lot, law("generator"), 5000, 1)
        for rho in (None, 0.1, 0.01, 0.003):
            spent = _best(lambda lot=lot, days=days, rho=rho: solve_sample(lot, days, origin, rho=rho), 3)  # type: ignore[misc]
            first.setdefault(rho, spent)
            name = "robust" if rho is None else f"relaxed, rho {rho:g}"
            yield f"{name}, {lot.steps} steps, N = 5000: {spent:.3f} s with support list and certificate"
    yield f"largest memory of this process so far: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
    lot = Instance(open_h=0.0, close_h=24.0)
    days = sample_capacity(lot, law("generator"), 5000, 1)
    for rho in (None, 0.1):
        begin = time.perf_counter()
        slow = solve_reference(lot, expected_market(lot), days, rho)
        spent = time.perf_counter() - begin
        off = abs(slow.value_usd - solve_sample(lot, days, origin, rho=rho).value)
        yield (
            f"{'robust' if rho is None else f'relaxed, rho {rho:g}'}, 24 steps, rebuilt in cvxpy: {spent:.2f} s, "
            f"{spent / first[rho]:.0f} times as long; values differ by {off:.1e} $"
        )


def _risk() -> Iterator[str]:
    from baselines import risk

    n, beta = 100_000, 1e-6
    many = np.arange(0, 5000)
    for name, bound in (
        ("wait_and_judge", risk.wait_and_judge),
        ("degenerate", risk.degenerate),
        ("relaxed", risk.relaxed),
    ):
        one = _best(lambda bound=bound: bound(n, 5000, beta))  # type: ignore[misc]
        all_ = _best(lambda bound=bound: bound(n, many, beta))  # type: ignore[misc]
        yield f"risk.{name}, N = {n}: {1e3 * one:.2f} ms for one complexity, {1e3 * all_:.1f} ms for {len(many)}"


def _stackelberg() -> Iterator[str]:
    from agents.stackelberg_bench import lines

    return lines()


def _shared_battery() -> Iterator[str]:
    from agents.shared_battery_bench import lines

    return lines()


def _scheduling() -> Iterator[str]:
    from agents.scheduling_bench import lines

    return lines()


def _price_chain() -> Iterator[str]:
    from agents.price_chain_bench import lines

    return lines()


def _train() -> Iterator[str]:
    from agents.train_bench import lines

    return lines()


def _executor() -> Iterator[str]:
    from agents.executor_bench import bench_lines

    return bench_lines()


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "env": _env,
    "programs": _programs,
    "risk": _risk,
    "stackelberg": _stackelberg,
    "shared-battery": _shared_battery,
    "scheduling": _scheduling,
    "price-chain": _price_chain,
    "train": _train,
    "executor": _executor,
}


def run_bench(part: str, scip_s: float = 0.0) -> Iterator[str]:
    """Yield one line per measurement of the part, or of all parts in order.

    Args:
        part: a name in PARTS, or "all".
        scip_s: with the part "stackelberg", also let SCIP try for this long [s].
    """
    for name, measure in PARTS.items():
        if part in (name, "all"):
            yield from measure()
    if scip_s > 0.0 and part in ("stackelberg", "all"):
        from agents.stackelberg_bench import against_scip

        yield from against_scip(scip_s)
