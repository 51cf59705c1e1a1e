"""Finite-sample bounds on the probability that a decision taken from data violates its constraints.

Notation of the scenario literature: N independent scenarios, d decision variables, k the complexity (number of
scenarios in an irreducible list that reproduces the solution), V the violation probability of the solution under the
law that the scenarios came from, beta the probability that the promise fails. P^N is the law of the N scenarios.

=================  ================================  =========================================================
function           needs                             promise, each with probability at least 1 - beta
=================  ================================  =========================================================
a_priori           convex, not relaxed, d known      V <= eps, with eps known before the data
wait_and_judge     convex, non-degenerate            V <= eps(k)
degenerate         any reproducible rule             V <= eps(k)
relaxed            convex with slack variables       eps_low(k) <= V <= eps_up(k)
hold_out           decision fixed before the test    V <= eps(violations)
adaptive           nothing but the order of events   mean conditional probability <= eps(violations)
asymptotic_limit   independent values, many          their expectation <= limit, as their number grows
=================  ================================  =========================================================

The roots of the defining equations are found in risk_roots.py, always on the safe side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from baselines.risk_roots import binomial_limit, lower_root, tail_excess, tail_slack, upper_root
from v2g_env.core.validate import number, require

__all__ = [
    "a_priori",
    "a_priori_samples",
    "adaptive",
    "asymptotic_limit",
    "calafiore_campi_samples",
    "degenerate",
    "hold_out",
    "relaxed",
    "shifted",
    "wait_and_judge",
]

Floats: TypeAlias = NDArray[np.float64]
Count: TypeAlias = int | np.integer[Any]
Counts: TypeAlias = Sequence[int] | NDArray[np.integer[Any]]

_MAX_SAMPLES = 10**9
_MIN_BETA = 1e-50
_RATES = tuple(0.02 * 1.45**j for j in range(16))  # 0.02 to 5.3: shares of violations from a few in ten thousand up


@overload
def a_priori(n_samples: Count, n_decisions: Count, beta: float) -> float: ...
@overload
def a_priori(n_samples: Count, n_decisions: Counts, beta: float) -> Floats: ...
def a_priori(n_samples: Count, n_decisions: Count | Counts, beta: float) -> float | Floats:
    """Bound the violation probability of a convex scenario program before any data are seen.

    Promise: P^N{V <= eps} >= 1 - beta, where eps solves sum_{i<d} C(N,i) eps^i (1-eps)^(N-i) = beta.
    Use it for convex programs with d decision variables in which every scenario is enforced. Never use it for relaxed
    programs (slack variables): there d does not limit the violations; see `relaxed`.

    Args:
        n_samples: N, number of independent scenarios, at least d.
        n_decisions: d >= 1, number of decision variables; scalar, or array of any shape.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        eps in (0, 1]: float for a scalar d, float64 array of d's shape otherwise.

    Raises:
        InvalidInputError: a value is out of range, or N < d.

    References:
        M. C. Campi, S. Garatti, "The exact feasibility of randomized solutions of uncertain convex programs",
        SIAM Journal on Optimization 19, 2008.
    """
    n = _sizes(n_samples, beta)
    d = _counts("n_decisions", n_decisions, 1, n)
    return _like(n_decisions, binomial_limit(n, d - 1, beta))


def a_priori_samples(eps: float, n_decisions: Count, beta: float) -> int:
    """Return the smallest N for which `a_priori` promises ``eps``.

    Promise: with this N (or more), P^N{V <= eps} >= 1 - beta, under the conditions of `a_priori`: convex, every
    scenario enforced, never relaxed. A tie within rounding error goes to the larger N.

    Args:
        eps: tolerated violation probability, in [1e-6, 1).
        n_decisions: d in [1, 1e6], number of decision variables.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        Number of scenarios, at least d.

    Raises:
        InvalidInputError: a value is out of range.

    References:
        M. C. Campi, S. Garatti, SIAM Journal on Optimization 19, 2008 (the inequality of `a_priori`, solved for N).
    """
    number("eps", eps, 1e-6, 1.0, open_high=True)
    number("n_decisions", n_decisions, 1, 10**6, integer=True)
    _check_beta(beta)
    log_t = np.array([math.log1p(-eps)])
    accepted = np.array([n_decisions - 1.0])

    def enough(n: int) -> bool:
        return bool(tail_excess(log_t, n, accepted, beta)[0][0] >= 3 * tail_slack(n))

    high = int(n_decisions)
    while not enough(high):
        high *= 2
    low = max(high // 2, int(n_decisions) - 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@overload
def wait_and_judge(n_samples: Count, complexity: Count, beta: float) -> float: ...
@overload
def wait_and_judge(n_samples: Count, complexity: Counts, beta: float) -> Floats: ...
def wait_and_judge(n_samples: Count, complexity: Count | Counts, beta: float) -> float | Floats:
    """Bound the violation probability of a non-degenerate convex scenario program from its support scenarios.

    Promise: P^N{V <= eps(k)} >= 1 - beta with k observed after solving, where t = 1 - eps(k) in (0, 1) solves
    (beta/(N+1)) sum_{m=k}^{N} C(m,k) t^(m-k) = C(N,k) t^(N-k); eps(N) = 1.
    Use it for convex programs in which, almost surely, the support scenarios alone reproduce the solution. Where ties
    or redundant constraints can make that fail, and for non-convex programs, use `degenerate`, which needs less and is
    never larger. Not for relaxed programs.

    Args:
        n_samples: N >= 1, number of independent scenarios.
        complexity: k in [0, N], number of support scenarios; scalar, or array of any shape.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        eps in (0, 1]: float for a scalar k, float64 array of k's shape otherwise.

    Raises:
        InvalidInputError: a value is out of range, or N is smaller than the complexity.

    References:
        M. C. Campi, S. Garatti, "Wait-and-judge scenario optimization", Mathematical Programming 167, 2018.
    """
    n = _sizes(n_samples, beta)
    k = _counts("complexity", complexity, 0, n)
    # the term m = N of the sum equals the right-hand side and is moved there
    terms = [(math.log(beta / (n + 1)), n - 1)]
    return _like(complexity, upper_root(n, k, beta, terms, math.log1p(-beta / (n + 1))))


@overload
def degenerate(n_samples: Count, complexity: Count, beta: float) -> float: ...
@overload
def degenerate(n_samples: Count, complexity: Counts, beta: float) -> Floats: ...
def degenerate(n_samples: Count, complexity: Count | Counts, beta: float) -> float | Floats:
    """Bound the violation probability from the complexity, with neither convexity nor non-degeneracy assumed.

    Promise: P^N{V <= eps(k)} >= 1 - beta with k observed after solving, where t = 1 - eps(k) in (0, 1) solves
    (beta/N) sum_{i=k}^{N-1} C(i,k) t^(i-k) = C(N,k) t^(N-k); eps(N) = 1.
    Use it for any decision rule (integer, bilevel, heuristic, relaxed with ties) whose solution is reproduced by a list
    of k scenarios and does not change when scenarios that it satisfies are added. Any such list will do; an irreducible
    one gives the smaller eps.

    Args:
        n_samples: N >= 1, number of independent scenarios.
        complexity: k in [0, N], length of the list; scalar, or array of any shape.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        eps in (0, 1]: float for a scalar k, float64 array of k's shape otherwise.

    Raises:
        InvalidInputError: a value is out of range, or N is smaller than the complexity.

    References:
        S. Garatti, M. C. Campi, "Non-convex scenario optimization", Mathematical Programming 209, 2025.
    """
    n = _sizes(n_samples, beta)
    k = _counts("complexity", complexity, 0, n)
    return _like(complexity, upper_root(n, k, beta, [(math.log(beta / n), n - 1)], 0.0))


@overload
def relaxed(n_samples: Count, complexity: Count, beta: float) -> tuple[float, float]: ...
@overload
def relaxed(n_samples: Count, complexity: Counts, beta: float) -> tuple[Floats, Floats]: ...
def relaxed(n_samples: Count, complexity: Count | Counts, beta: float) -> tuple[float | Floats, float | Floats]:
    """Enclose the violation probability of a program min c(x) + rho sum zeta_i with slacks zeta_i >= f(x, delta_i).

    Promise: P^N{eps_low(k) <= V <= eps_up(k)} >= 1 - beta, where t_low <= t_up are the two roots of
    C(N,k) t^(N-k) = (beta/2N) sum_{i=k}^{N-1} C(i,k) t^(i-k) + (beta/6N) sum_{i=N+1}^{4N} C(i,k) t^(i-k),
    eps_low = max(0, 1 - t_up), eps_up = 1 - t_low; for k = N only t_up exists and eps_up = 1.
    The complexity counts every scenario with f(x, delta_i) > 0 and those with f = 0 that are needed to reproduce x.
    eps_low holds only where ties are impossible: P{f(x, delta) = 0} = 0 for every x. With ties (whole vehicles, rounded
    data) discard both numbers and use `degenerate` above and 0 below.

    Args:
        n_samples: N >= 1, number of independent scenarios.
        complexity: k in [0, N]; scalar, or array of any shape.
        beta: probability in [1e-50, 1) that the enclosure fails.

    Returns:
        (eps_low, eps_up) with eps_low <= k/N <= eps_up: floats for a scalar k, float64 arrays of k's shape otherwise.

    Raises:
        InvalidInputError: a value is out of range, or N is smaller than the complexity.

    References:
        S. Garatti, M. C. Campi, "Risk and complexity in scenario optimization", Mathematical Programming 191, 2022.
    """
    n = _sizes(n_samples, beta)
    k = _counts("complexity", complexity, 0, n)
    # sum_{N+1}^{4N} = sum_k^{4N} - sum_k^{N-1} - C(N,k) t^(N-k): gathered so that only positive terms remain
    terms = [(math.log(beta / (3 * n)), n - 1), (math.log(beta / (6 * n)), 4 * n)]
    head = math.log1p(beta / (6 * n))
    low = lower_root(n, k, terms, head)
    return _like(complexity, low), _like(complexity, upper_root(n, k, beta, terms, head))


def shifted(eps: float, radius: float, distance: float, order: float = 1) -> float:
    """Carry a risk bound over to a law at a given Wasserstein distance from the one that was sampled.

    Promise: if eps bounds the risk of a solution whose constraint was enforced, for every sample, on the whole ball of
    this radius around it, then under every law within `distance` of the sampled one the risk of the uninflated
    constraint is at most min(1, eps + (distance/radius)^order). The promise inherits the confidence of eps.
    It follows from Markov's inequality on an optimal coupling: a point moves by more than the radius with probability
    at most (distance/radius)^order. The ball and the distance must use one norm, fixed before the data are seen.

    Args:
        eps: risk bound of the solution with inflated samples, in [0, 1].
        radius: radius of the balls, >= 0, in the unit of the norm; 0 is allowed only with distance 0.
        distance: largest Wasserstein distance of this order, >= 0, in the same unit.
        order: order p >= 1 of the Wasserstein distance.

    Returns:
        Risk bound in [0, 1] for the shifted law.

    Raises:
        InvalidInputError: a value is out of range, or the radius is 0 and the distance is not.
    """
    number("eps", eps, 0.0, 1.0)
    number("radius", radius, 0.0)
    number("distance", distance, 0.0)
    number("order", order, 1.0)
    require(radius > 0 or distance == 0, "radius", radius, f"> 0, because distance = {distance}")
    if distance == 0:
        return float(eps)
    if distance >= radius:
        return 1.0
    moved = (distance / radius) ** order * (1 + 1e-15 * (order + 2))
    return min(1.0, math.nextafter(eps + moved, math.inf))


@overload
def hold_out(n_samples: Count, violations: Count, beta: float) -> float: ...
@overload
def hold_out(n_samples: Count, violations: Counts, beta: float) -> Floats: ...
def hold_out(n_samples: Count, violations: Count | Counts, beta: float) -> float | Floats:
    """Bound the violation probability of a fixed decision from its violations in fresh scenarios.

    Promise: P^m{V <= eps(v)} >= 1 - beta, the one-sided Clopper-Pearson limit: the p at which a binomial variable
    of size m has probability beta to be at most v; 1 if v = m.
    Use it for any decision or policy that was fixed before the m scenarios were drawn. Scenarios that shaped the
    decision, or chose it among candidates, do not count as fresh.

    Args:
        n_samples: m >= 1, number of fresh independent scenarios.
        violations: v in [0, m], number of them in which the decision failed; scalar, or array of any shape.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        eps in (0, 1]: float for a scalar v, float64 array of v's shape otherwise.

    Raises:
        InvalidInputError: a value is out of range, or v > m.

    References:
        C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the
        binomial", Biometrika 26, 1934.
    """
    n = _sizes(n_samples, beta)
    return _like(violations, binomial_limit(n, _counts("violations", violations, 0, n), beta))


def adaptive(n_trials: Count, violations: float, beta: float) -> float:
    """Bound the mean violation probability of trials whose chances may depend on everything before them.

    X_1, ..., X_m in [0, 1] are observed one after the other (a violation or none, or a share of violations) and p_i is
    the conditional mean of X_i given the past. Promise: with probability at least 1 - beta, (p_1 + ... + p_m) / m <=
    eps(X_1 + ... + X_m), whatever chose the p_i. The price against `hold_out`, which needs one and the same p and
    independent trials, is a limit a few percent to a third higher.

    For fixed rate r > 0 and c = 1 - exp(-r) the product of exp(-r X_i) / (1 - c p_i) has mean at most 1 (exp is convex
    on [0, 1]); Markov's inequality and the convexity of -ln(1 - c p) give the limit. Sixteen rates share beta.

    Args:
        n_trials: m >= 1.
        violations: X_1 + ... + X_m, in [0, m].
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        eps in (0, 1].

    Raises:
        InvalidInputError: a value is out of range.
    """
    m = _sizes(n_trials, beta)
    number("violations", violations, 0.0, m)
    rates = np.array(_RATES)
    limits = -np.expm1(-(rates * violations + math.log(len(rates) / beta)) / m) / -np.expm1(-rates)
    return min(1.0, math.nextafter(float(limits.min()) * (1.0 + 1e-14), math.inf))


def calafiore_campi_samples(eps: float, n_decisions: Count, beta: float) -> int:
    """Return the older explicit sample size; only for comparison with studies that used it.

    Promise: with N >= (2/eps) ln(1/beta) + 2d + (2d/eps) ln(2/eps), P^N{V <= eps} >= 1 - beta for convex programs in
    which every scenario is enforced. `a_priori_samples` promises the same with several times fewer scenarios.

    Args:
        eps: tolerated violation probability, in [1e-6, 1).
        n_decisions: d in [1, 1e6], number of decision variables.
        beta: probability in [1e-50, 1) that the promise fails.

    Returns:
        Number of scenarios.

    Raises:
        InvalidInputError: a value is out of range.

    References:
        G. C. Calafiore, M. C. Campi, "The scenario approach to robust control design", IEEE Transactions on Automatic
        Control 51, 2006, Theorem 1.
    """
    number("eps", eps, 1e-6, 1.0, open_high=True)
    number("n_decisions", n_decisions, 1, 10**6, integer=True)
    _check_beta(beta)
    d = int(n_decisions)
    return math.ceil(2 / eps * math.log(1 / beta) + 2 * d + 2 * d / eps * math.log(2 / eps))


def _check_beta(beta: float) -> None:
    number("beta", beta, _MIN_BETA, 1.0, open_high=True)


def _sizes(n_samples: Count, beta: float) -> int:
    """Check N and beta; return N as a Python int."""
    number("n_samples", n_samples, 1, _MAX_SAMPLES, integer=True)
    _check_beta(beta)
    return int(n_samples)


def _counts(field: str, value: Count | Counts, low: int, n: int) -> Floats:
    """Return counts in [low, n] as a float64 array, at least one-dimensional."""
    try:
        given = np.asarray(value)
    except ValueError:
        given = np.array(None)  # rows of unequal length
    require(given.dtype.kind in "iu", field, value, f"integers in [{low}, {n}]")
    outside = (given < low) | (given > n)
    if outside.any():
        require(False, field, int(given[outside].flat[0]), f"[{low}, n_samples = {n}]")
    return np.atleast_1d(given).astype(np.float64)


def _like(given: Count | Counts, result: Floats) -> float | Floats:
    """Return a float where a scalar was given, else the array."""
    return float(result[0]) if np.ndim(given) == 0 else result


def asymptotic_limit(values: Floats, beta: float) -> float:
    """Upper limit on the expectation of independent values (n,), exceeded with probability beta as n grows (normal).

    For values, such as bounds and gaps in money, whose known range is too wide for a finite-sample limit of any use.

    Raises:
        InvalidInputError: for fewer than two values, or beta outside (0, 1/2].
    """
    from scipy.special import ndtri

    number("beta", beta, 0.0, 0.5, open_low=True)
    require(len(values) > 1, "number of values", len(values), "at least two")
    return float(values.mean() - ndtri(beta) * values.std(ddof=1) / np.sqrt(len(values)))
