"""Backward sweeps of the price chain: optimal and robust values, and those of any given policy, all of them exact.

V_t(l, q, e, m) = max over choices a of r_t + min over p in U(t, l) of sum_l'q' p(l') P(q, q') V_{t+1}(l', q', e', m'),

with price level l, presence q, stored energy e, mode m. The price alone is uncertain. The adversary's row may depend on
the whole state after the decision (l, q, e', m'), so there is one inner problem for each of these, not for each choice.
That set of kernels is larger than the one whose rows depend on step and price level alone: for those the robust value
is a lower bound, and the worst kernel of the larger set attains it. The first step's price level is not uncertain.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.price_chain.ambiguity import Ambiguity, Scenarios
from v2g_env.core.validate import array, require
from v2g_env.price_chain.instance import Instance
from v2g_env.price_chain.kernels import SCALE_KWH
from v2g_env.price_chain.model import VIOLATION_TOLERANCE, Model

__all__ = [
    "Evaluation",
    "Sweep",
    "at_start",
    "check_plan",
    "choose",
    "evaluate",
    "expected",
    "follow",
    "model_of",
    "nominal_set",
    "successors",
    "sweep",
    "terminal_usd",
    "violation_probability",
    "worst_after",
    "worst_case",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Sweep(NamedTuple):
    """A backward sweep; arrays over (T, L, Q, E, 2), without the last step where nothing follows.

    Attributes:
        values: (T, L, Q, E, 2) at the start of each step [$].
        plan: choices, feasible ones.
        rows: (T - 1, L, Q, E, 2, L) the adversary's row after the decision.
        dual: (T - 1, L, Q, E, 2) the numbers that make it, see ambiguity.py.
    """

    values: Floats
    plan: NDArray[np.int32]
    rows: Floats
    dual: Floats


class Evaluation(NamedTuple):
    """Value of a fixed policy.

    Attributes:
        value: expected return from the start [$].
        values: (T, L, Q, E, 2) from every state [$].
        rows: (T - 1, L, Q, E, 2, L) worst kernel, for ``worst_case``; None otherwise.
    """

    value: float
    values: Floats
    rows: Floats | None = None


def model_of(world: Instance | Model) -> Model:
    """The model, built under the instance's own chain if an instance is given."""
    return world if isinstance(world, Model) else Model(world)


def nominal_set(rows: Floats) -> Scenarios:
    """No uncertainty: the rows (T, L, L) themselves."""
    return Scenarios(rows.reshape(-1, 1, rows.shape[-1]))


def terminal_usd(model: Model) -> Floats:
    """(E,) money at departure by the last level [$]."""
    return np.asarray(model.tables.drivers + model.tables.shortfall)


def at_start(model: Model, values: Floats) -> float:
    """Mean of values (L, Q, E, 2) of the first step over its price levels."""
    lot = model.instance
    return float(lot.price_start @ values[:, lot.presence_start, lot.start_level, 0])


def successors(model: Model, after: Floats) -> Floats:
    """Values (Q x E x 2, L) by next price level, of what follows each presence, level and mode; presence averaged.

    Args:
        model: of the environment.
        after: (L, Q, E, 2) values at the start of the next step.
    """
    mean = np.einsum("qr,lrem->qeml", model.instance.presence_matrix, after)
    return np.ascontiguousarray(mean.reshape(-1, mean.shape[-1]))


def choose(model: Model, step: int, after: Floats) -> tuple[Floats, NDArray[np.int32]]:
    """Best choice of every state.

    Args:
        model: of the environment.
        step: t.
        after: (L, Q, E, 2) expected or worst-case value of what follows, by the state after the decision.

    Returns:
        Values (L, Q, E, 2) and choices; of equally good choices the first.
    """
    tables = model.tables
    moves = tables.moves
    energies = after.shape[2]
    level = np.clip(np.arange(energies)[:, None] + moves, 0, energies - 1)  # (E, A)
    follow_up = after[:, :, level, (moves != 0).astype(np.int64)]  # (L, Q, E, A)
    stage = tables.energy[step][:, None, None, :] + tables.wear[None, None]
    place = np.arange(len(moves))
    fits = (place >= tables.lowest[:, :, None]) & (place <= tables.highest[:, :, None])  # (Q, E, A)
    total = np.where(fits, follow_up + stage, -np.inf)[:, :, :, None, :] + tables.starts
    plan = total.argmax(axis=4).astype(np.int32)
    return np.take_along_axis(total, plan[..., None], axis=4)[..., 0], plan


def follow(model: Model, step: int, plan: NDArray[Any], after: Floats) -> Floats:
    """Values (L, Q, E, 2) of the given choices (L, Q, E, 2); ``after`` as for ``choose``."""
    tables = model.tables
    levels, presences, energies, modes = np.ix_(*map(np.arange, after.shape))
    a = np.clip(plan, tables.lowest[:, :, None], tables.highest[:, :, None])
    move = tables.moves[a]
    stage = tables.energy[step][levels, a] + tables.starts[modes, a] + tables.wear[energies, a]
    return np.asarray(stage + after[levels, presences, energies + move, (move != 0).astype(np.int64)])


def worst_after(model: Model, step: int, values: Floats, ambiguity: Ambiguity) -> tuple[Floats, Floats, Floats]:
    """Worst-case value of what follows the decisions of a step.

    Args:
        model: of the environment.
        step: t.
        values: (L, Q, E, 2) at the start of the next step.
        ambiguity: T x L rows.

    Returns:
        Values (L, Q, E, 2) by the state after the decision, the rows that attain them, and their duals.
    """
    shape = model.instance.shape
    levels = shape[0]
    following = successors(model, values)
    at = np.repeat(step * levels + np.arange(levels), len(following))
    worst = ambiguity.worst(np.tile(following, (levels, 1)), at)
    return worst.value.reshape(shape), worst.row.reshape(*shape, levels), worst.dual.reshape(shape)


def sweep(model: Model, ambiguity: Ambiguity, plan: NDArray[Any] | None = None) -> Sweep:
    """Robust values, of the best policy or of a given one.

    Args:
        model: of the environment.
        ambiguity: T x L rows, row t x L + l about the moves from level l at step t.
        plan: (T, L, Q, E, 2) choices; None for the best ones.
    """
    shape, steps = model.instance.shape, model.steps
    require(ambiguity.rows == steps * shape[0], "rows of the ambiguity", ambiguity.rows, f"{steps * shape[0]}")
    require(ambiguity.width == shape[0], "successors of the ambiguity", ambiguity.width, f"{shape[0]}")
    values, chosen = np.empty((steps, *shape)), np.empty((steps, *shape), np.int32)
    rows, dual = np.empty((steps - 1, *shape, shape[0])), np.empty((steps - 1, *shape))
    after = np.broadcast_to(terminal_usd(model)[:, None], shape)
    for t in range(steps - 1, -1, -1):
        if plan is None:
            values[t], chosen[t] = choose(model, t, after)
        else:
            values[t], chosen[t] = follow(model, t, plan[t], after), plan[t]
        if t:
            after, rows[t - 1], dual[t - 1] = worst_after(model, t - 1, values[t], ambiguity)
    return Sweep(values, chosen, rows, dual)


def check_plan(model: Model, plan: NDArray[Any]) -> NDArray[np.int32]:
    """The plan as int32; raises InvalidInputError unless it is (T, L, Q, E, 2) whole numbers of choices."""
    shape = (model.steps, *model.instance.shape)
    given = np.asarray(plan)
    require(given.dtype.kind in "iu" and given.shape == shape, "plan", given, f"whole numbers of shape {shape}")
    known = bool(((given >= 0) & (given < len(model.tables.moves))).all())
    require(known, "plan", given, f"choices from 0 to {len(model.tables.moves) - 1}")
    return given.astype(np.int32)


def evaluate(world: Instance | Model, plan: NDArray[Any], rows: Floats | None = None) -> Evaluation:
    """Exact value of a policy under a kernel.

    Args:
        world: the model, or its instance.
        plan: (T, L, Q, E, 2) choices; infeasible ones are clipped as the environment does.
        rows: (T, L, L) chain, or (T - 1, L, Q, E, 2, L) rows that depend on the state after the decision; None: the
            law of the model.
    """
    model = model_of(world)
    plan = check_plan(model, plan)
    values = np.empty((model.steps, *model.instance.shape))
    after = np.broadcast_to(terminal_usd(model)[:, None], model.instance.shape)
    kernel = _kernel(model, rows)
    for t in range(model.steps - 1, -1, -1):
        values[t] = follow(model, t, plan[t], after)
        if t:
            after = expected(model, kernel[t - 1], values[t])
    return Evaluation(at_start(model, values[0]), values)


def violation_probability(world: Instance | Model, plan: NDArray[Any], rows: Floats | None = None) -> float:
    """Exact probability that the day ends with a violation; arguments as ``evaluate``."""
    model = model_of(world)
    plan = check_plan(model, plan)
    kernel, tables = _kernel(model, rows), model.tables
    missed = tables.missing / SCALE_KWH > VIOLATION_TOLERANCE
    after = np.broadcast_to(missed.astype(np.float64)[:, None], model.instance.shape)
    levels, presences, energies, _ = np.ix_(*map(np.arange, model.instance.shape))
    for t in range(model.steps - 1, -1, -1):
        move = tables.moves[np.clip(plan[t], tables.lowest[:, :, None], tables.highest[:, :, None])]
        chance = after[levels, presences, energies + move, (move != 0).astype(np.int64)]
        if t:
            after = expected(model, kernel[t - 1], chance)
    return at_start(model, chance)


def worst_case(world: Instance | Model, plan: NDArray[Any], ambiguity: Ambiguity) -> Evaluation:
    """Value of a policy under the worst kernel of the ambiguity, and that kernel."""
    model = model_of(world)
    found = sweep(model, ambiguity, check_plan(model, plan))
    return Evaluation(at_start(model, found.values[0]), found.values, found.rows)


def _kernel(model: Model, rows: Floats | None) -> Floats:
    if rows is None:
        return model.law.rows
    shape, steps = model.instance.shape, model.steps
    given = np.asarray(rows)
    wanted = (steps, shape[0], shape[0]) if given.ndim == 3 else (steps - 1, *shape, shape[0])
    kernel = array("rows", given.reshape(-1), (int(np.prod(wanted)),), 0.0).reshape(wanted)
    off = np.abs(kernel.sum(axis=-1) - 1.0) > 1e-9
    for place in np.argwhere(off)[:1].tolist():
        require(False, f"rows{place}", kernel[tuple(place)].tolist(), "probabilities that sum to one")
    return kernel


def expected(model: Model, rows: Floats, values: Floats) -> Floats:
    """Expected value of what follows (L, Q, E, 2) under rows (L, L) or (L, Q, E, 2, L)."""
    mean = np.einsum("qr,lrem->lqem", model.instance.presence_matrix, values)
    if rows.ndim == 2:
        return np.asarray(np.einsum("kl,lqem->kqem", rows, mean))
    return np.asarray(np.einsum("kqeml,lqem->kqem", rows, mean))
