"""The game as published, in cvxpy: the drivers' cone program, and the mixed-integer cone program of the platform.

Slow and readable: the cross-check of the fast follower and of the exact search, and what their speed is compared with.
The platform's problem is Tang and Mak's "full model" (slides, 2024): the follower's strong duality as one row,

    sum_a (mu_a y_a + sigma_a w_a) + sum_t u_t >= sum_a d_a + rho_source,   w_a^2 <= y_a (1 - y_a),
    lam_a = mu_a + s_a - (B' rho)_a,   ||(lam_a, sigma_a)|| <= 2 d_a - lam_a,

u_t = s_t y_t linearised over the levels h by binaries z_th (y_th <= z_th, u_th <= s_h y_th, sums over h), and
condition (3) of the bid as a cone. Where this differs from the slides, or says more:

* The slides bound u_t and w_a from above only, though a small u_t saves the leader money and a small w_a raises its
  bid. Nothing is missing: with binary z the right side of the strong duality row is at least its left side for any
  u_t <= s_t y_t and w_a <= sqrt(y_a (1 - y_a)), so the row ties both from below, and y to the drivers' optimum. In the
  relaxation, and by the root of a solver's tolerance, they come loose: a claimed objective must be replayed.
* u_th <= s_h z_th follows from the two other rows and is left out.
* C_t = 0 must be allowed where condition (3) has no solution C_t >= 0 (few cars plugged in): a binary b_t with
  C_t <= C_max b_t and, in (3), the slack (1 - b_t) max_y (beta psi sqrt(M y (1 - y)) - psi M y).
* With several classes the rows of strong duality are summed by shares into one: every class's gap is >= 0 by itself.
  One z_th serves all classes, and (3) takes the norm over their spreads.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from baselines.solve import SolverError
from baselines.stackelberg.published import check_reach, evaluate, flow_ranges
from v2g_env.core.validate import array, number, require
from v2g_env.stackelberg.bids import coefficients
from v2g_env.stackelberg.game import DriverClass, Game

__all__ = [
    "ConicOptimum",
    "ConicResponse",
    "Status",
    "misocp",
    "relaxation",
    "response",
]

Floats = NDArray[np.float64]
# the drivers' cones are tight at every solution: their error is the root of the tolerance, at 1e-6 .2 % of the profit
_SCIP = {"numerics/feastol": 1e-7}


class Status(StrEnum):
    """How a solver ended."""

    OPTIMAL = "optimal"
    LIMIT = "limit"
    INFEASIBLE = "infeasible"


_LIMITS = ("timelimit", "nodelimit", "totalnodelimit", "stallnodelimit", "memlimit")
_SCIP_ENDS = {
    "optimal": Status.OPTIMAL,
    "gaplimit": Status.OPTIMAL,
    "infeasible": Status.INFEASIBLE,
    **dict.fromkeys(_LIMITS, Status.LIMIT),
}


class ConicResponse(NamedTuple):
    """Drivers' response: share on the arcs of each class, (A_k,) each, and expected utility (K,) [$]."""

    flow: tuple[Floats, ...]
    value: Floats


class ConicOptimum(NamedTuple):
    """What a mixed-integer solver found and claims.

    Attributes:
        rebate_usd_per_h: (T,) rebates; NaN without a solution.
        flow: (A,) the solver's flows, class by class.
        bid_kw: (T,) the solver's bids.
        objective: value of the rebates replayed with the drivers' true response; platform [$ per day], drivers [$ per
            driver and day]; -inf without a solution.
        claimed: objective of the solver's own point, with its tolerances.
        bound: upper bound that the solver claims to have proved (floating point, tolerances, no certificate).
        gap: (bound - objective) / |objective|.
        duality_gap_usd: dual minus primal value of the drivers at the solver's point, summed by shares [$ per driver].
        status: OPTIMAL, LIMIT, or INFEASIBLE (inequalities can cut off everything).
        seconds: solver's time.
        nodes: of the branch and bound.
    """

    rebate_usd_per_h: Floats
    flow: Floats
    bid_kw: Floats
    objective: float
    claimed: float
    bound: float
    gap: float
    duality_gap_usd: float
    status: Status
    seconds: float
    nodes: int


class _Rows(NamedTuple):
    # all classes side by side; the sinks' rows are left out, as their prices are 0
    incidence: csr_matrix  # (N, A)
    supply: Floats  # (N,)
    mean: Floats  # (A,) [$]
    deviation: Floats  # (A,) [$]
    period: NDArray[np.int64]  # (A,)
    group: NDArray[np.int64]  # (A,)
    weight: Floats  # (A,) share of the arc's class
    node_weight: Floats  # (N,)


class _Program(NamedTuple):
    problem: Any
    flow: Any
    chosen: Any  # z, one entry per allowed (period, level)
    when: NDArray[np.int64]  # period of each entry
    level: Floats  # [$/h] of each entry
    bid_kw: Any
    duality_gap_usd: Any
    scale: float  # dollars of the game's objective per unit of the program's


def response(classes: tuple[DriverClass, ...] | Game, rebate_usd: Floats) -> ConicResponse:
    """The drivers' response as a second-order cone program by Clarabel: max sum_a mu_a y_a + sigma_a w_a.

    Args:
        classes: driver classes, or a game that has them.
        rebate_usd: (T,) rebate for being plugged in during each period [$ per period].

    Raises:
        InvalidInputError: for rebates that are not (T,) finite numbers.
        SolverError: if Clarabel does not report an optimum.
    """
    import cvxpy as cp

    rows = _stack(classes.classes if isinstance(classes, Game) else classes)
    rebate = array("rebate_usd", rebate_usd, (None,))
    require(len(rebate) > rows.period.max(), "length of rebate_usd", len(rebate), f"at least {rows.period.max() + 1}")
    utility = rows.mean + np.where(rows.period >= 0, rebate[rows.period], 0.0)
    flow, spread = cp.Variable(len(utility), nonneg=True), cp.Variable(len(utility), nonneg=True)
    unit = rows.deviation.mean()
    each = (cp.multiply(utility, flow) + cp.multiply(rows.deviation, spread)) / unit
    problem = cp.Problem(
        cp.Maximize(cp.sum(each)), [rows.incidence @ flow == rows.supply, _persistency_cone(flow, spread)]
    )
    _clarabel(problem, 1e-10)
    count = rows.group.max() + 1
    value = np.array([float(unit * each.value[rows.group == k].sum()) for k in range(count)])
    return ConicResponse(tuple(flow.value[rows.group == k] for k in range(count)), value)


def relaxation(game: Game, valid_inequalities: str = "none") -> float:
    """Upper bound at the root: the program with z and b in [0, 1], by Clarabel, in the units of ``published.evaluate``.

    It is -inf where the inequalities leave nothing.

    Raises:
        InvalidInputError: see misocp.
        SolverError: if Clarabel does not report an optimum.
    """
    program = _build(game, flow_ranges(game, valid_inequalities), relaxed=True)
    _clarabel(program.problem, 1e-8)
    return program.scale * float(program.problem.value)


def misocp(
    game: Game,
    valid_inequalities: str = "none",
    time_limit_s: float = 60.0,
    gap: float = 1e-4,
    options: Mapping[str, Any] | None = None,
) -> ConicOptimum:
    """Solve the published mixed-integer cone program by SCIP, through cvxpy.

    Args:
        game: one that passes ``published.check_reach``. The optimum of a game's published variant is an upper bound on
            that of its rigorous variant, whose spread is nowhere smaller.
        valid_inequalities: see ``published.flow_ranges``.
        time_limit_s: solver's time [s].
        gap: relative gap, of the claimed objective, at which the solver stops.
        options: more SCIP parameters, such as {"randomization/randomseedshift": 1}.

    Raises:
        InvalidInputError: for a bad argument or a game out of reach.
        ModuleNotFoundError: without PySCIPOpt.
        SolverError: if SCIP ends without a verdict.
    """
    number("time_limit_s", time_limit_s, 0.0, 1e6, open_low=True)
    number("gap", gap, 0.0, 1.0)
    program = _build(game, flow_ranges(game, valid_inequalities), relaxed=False)
    raw = _scip(program.problem, {"limits/time": time_limit_s, "limits/gap": gap, **_SCIP, **(options or {})})
    status, model = _SCIP_ENDS[raw["scip_status"]], raw["model"]
    bound = -program.scale * float(model.getDualbound())  # cvxpy minimises; the objective has no constant
    rebate = bid = np.full(game.periods, np.nan)
    flow, claimed, objective, slack = np.full(program.flow.size, np.nan), -np.inf, -np.inf, np.nan
    if status is Status.INFEASIBLE:
        bound = -np.inf
    elif "primal" in raw:
        choice = np.where(program.when == np.arange(game.periods)[:, None], program.chosen.value, -1.0).argmax(axis=1)
        rebate, bid, flow = program.level[choice], program.bid_kw.value, program.flow.value
        claimed, slack = program.scale * float(program.problem.objective.value), float(program.duality_gap_usd.value)
        objective = float(evaluate(game, rebate[None])[0][0])
    return ConicOptimum(
        rebate,
        flow,
        bid,
        objective,
        claimed,
        bound,
        (bound - objective) / max(abs(objective), 1e-9) if np.isfinite(objective) else np.inf,
        slack,
        status,
        float(model.getSolvingTime()),
        int(model.getNTotalNodes()),
    )


def _scip(problem: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Solve by SCIP and fill the problem's variables if it found a point; returns cvxpy's raw answer."""
    if importlib.util.find_spec("pyscipopt") is None:
        raise ModuleNotFoundError("pyscipopt = missing; allowed: installed, as by pip install 'v2g-env[scip]'")
    import cvxpy as cp

    data, chain, inverse = problem.get_problem_data(cp.SCIP)
    # not problem.solve(): it throws the proved bound away when the time ends without a point
    raw: dict[str, Any] = chain.solve_via_data(problem, data, solver_opts={"scip_params": settings})
    ended = raw["scip_status"]
    if ended not in _SCIP_ENDS:
        raise SolverError(f"status of SCIP = {ended}; allowed: {', '.join(_SCIP_ENDS)}")
    if "primal" in raw:
        raw["status"] = cp.OPTIMAL  # the point is taken as it is; what it is worth says our own status
        problem.unpack_results(raw, chain, inverse)
    return raw


def _stack(classes: tuple[DriverClass, ...]) -> _Rows:
    tails, heads, supplies, node_weights, offset = [], [], [], [], 0
    for each in classes:
        network = each.network
        number_of = np.full(network.nodes, -1)
        kept = [n for n in range(network.nodes) if n in network.tail]  # all but the sink
        number_of[kept] = offset + np.arange(len(kept))
        tails.append(number_of[list(network.tail)])
        heads.append(number_of[list(network.head)])
        supplies.append(np.array(kept) == network.source)
        node_weights.append(np.full(len(kept), each.share))
        offset += len(kept)
    tail, head = np.concatenate(tails), np.concatenate(heads)
    inner = np.flatnonzero(head >= 0)
    arcs = np.arange(len(tail))
    values = np.concatenate([np.ones(len(tail)), -np.ones(len(inner))])
    places = np.concatenate([tail, head[inner]]), np.concatenate([arcs, inner])
    group = np.repeat(np.arange(len(classes)), [each.network.arcs for each in classes])
    return _Rows(
        csr_matrix((values, places), (offset, len(tail))),
        np.concatenate(supplies).astype(float),
        np.concatenate([each.network.mean_usd for each in classes]),
        np.concatenate([each.network.deviation_usd for each in classes]),
        np.concatenate([each.network.period for each in classes]).astype(np.int64),
        group,
        np.array([each.share for each in classes])[group],
        np.concatenate(node_weights),
    )


def _persistency_cone(flow: Any, spread: Any) -> Any:
    import cvxpy as cp

    return cp.SOC(np.ones(flow.size), cp.vstack([2.0 * spread, 2.0 * flow - 1.0]), axis=0)  # w^2 <= y (1 - y)


def _clarabel(problem: Any, tolerance: float) -> None:
    import cvxpy as cp

    problem.solve(solver=cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
    if problem.status not in (cp.OPTIMAL, cp.INFEASIBLE):
        raise SolverError(f"status of Clarabel = {problem.status}; allowed: {cp.OPTIMAL} or {cp.INFEASIBLE}")


def _build(game: Game, ranges: Floats, relaxed: bool) -> _Program:
    """The program in units of one driver's mean deviation (utilities) and of the largest bid."""
    import cvxpy as cp

    check_reach(game)
    rows = _stack(game.classes)
    arcs, m = len(rows.mean), float(game.drivers)
    unit = float(rows.deviation.mean())
    mean, deviation = rows.mean / unit, rows.deviation / unit
    plugged = np.flatnonzero(rows.period >= 0)
    at = csr_matrix((np.ones(len(plugged)), (rows.period[plugged], plugged)), (game.periods, arcs))
    share = at.multiply(rows.weight).tocsr()  # flows -> share of all drivers plugged in
    when = np.repeat(np.arange(game.periods), game.choices)
    level = np.concatenate([game.levels[:n] for n in game.choices])
    total = csr_matrix((np.ones(len(when)), (when, np.arange(len(when)))), (game.periods, len(when)))
    gain = level * game.step_h / unit

    flow, spread = cp.Variable(arcs, nonneg=True), cp.Variable(arcs, nonneg=True)
    node_price, cost = cp.Variable(len(rows.supply)), cp.Variable(arcs, nonneg=True)  # rho, d
    chosen = cp.Variable(len(when), bounds=[0.0, 1.0]) if relaxed else cp.Variable(len(when), boolean=True)
    part, paid = cp.Variable(len(when), nonneg=True), cp.Variable(len(when), nonneg=True)  # y_th, u_th
    bid, spent = cp.Variable(game.periods, bounds=[0.0, 1.0]), total @ paid
    slope = mean + at.T @ (total @ cp.multiply(gain, chosen)) - rows.incidence.T @ node_price  # lam
    earned = cp.multiply(rows.weight * mean, flow) + cp.multiply(rows.weight * deviation, spread)
    welfare = cp.sum(earned) + cp.sum(spent)
    dual = rows.weight @ cost + (rows.supply * rows.node_weight) @ node_price
    rules = [
        ranges[0] <= flow,  # rows, not bounds of the variable, which cvxpy refuses where they contradict each other
        flow <= ranges[1],
        rows.incidence @ flow == rows.supply,
        _persistency_cone(flow, spread),
        cp.SOC(2.0 * cost - slope, cp.vstack([slope, deviation]), axis=0),
        welfare >= dual,
        total @ chosen == 1.0,
        total @ part == share @ flow,
        part <= chosen,
        paid <= cp.multiply(gain, part),
    ]
    largest_kw, bid_rules = _bid_rules(game, rows, at, share @ flow, spread, bid, relaxed)
    income = game.step_h * largest_kw / m * np.array(game.price_usd_per_kw) @ bid
    profit = income - unit * cp.sum(spent)  # [$ per driver]
    if game.owner == "platform":
        objective, scale = profit, m
    else:
        objective, scale = unit * welfare + profit / game.kappa, 1.0
        rules.append(profit >= 0.0)
    problem = cp.Problem(cp.Maximize(objective), rules + bid_rules)
    return _Program(problem, flow, chosen, when, level, largest_kw * bid, unit * (dual - welfare), scale)


def _bid_rules(
    game: Game, rows: _Rows, at: csr_matrix, plugged: Any, spread: Any, bid: Any, relaxed: bool
) -> tuple[float, list[Any]]:
    """Largest bid [kW], the unit of ``bid``, and condition (3) of every requirement, divided by psi M."""
    import cvxpy as cp

    m, kinds = float(game.drivers), rows.group.max() + 1
    largest = min(float(a - np.sqrt(b)) for a, b, _ in coefficients(game)[:, 0])
    bids = cp.Variable(game.periods, bounds=[0.0, 1.0]) if relaxed else cp.Variable(game.periods, boolean=True)
    rules = [bid <= bids]
    for each in game.requirements:
        beta = np.sqrt(-2.0 * np.log(each.eta))
        size = largest / (each.power_kw * m)
        slack = 0.5 * (np.sqrt(1.0 + beta**2 / m) - 1.0)  # max over y of beta sqrt(y (1 - y) / M) - y
        parts = [at.multiply((rows.group == k) * np.sqrt(rows.weight / m)).tocsr() @ spread for k in range(kinds)]
        room = plugged - each.mean * size * bid + slack * (1.0 - bids)
        rules.append(cp.SOC(room / beta, cp.vstack([*parts, each.forward * size * bid]), axis=0))
    return largest, rules
