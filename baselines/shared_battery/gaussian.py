"""Normal, independent needs: the one case with closed forms, to see what sharing saves and what bounds give away.

Needs xi_i ~ N(mu_i, sigma^2), one target eps, equal prices; capacities in kWh, savings per driver in units of sigma.
"""

from __future__ import annotations

import math

from scipy.special import ndtri

from v2g_env.core.validate import number

__all__ = ["correlated_risk", "saving", "saving_of_bound"]


def _check(drivers: int, eps: float) -> None:
    number("drivers", drivers, 1, 10**9, integer=True)
    number("eps", eps, 0.0, 1.0, open_low=True, open_high=True)


def saving(drivers: int, eps: float) -> float:
    """Capacity per driver and sigma that sharing saves at the exact optimum: z (1 - 1/sqrt(n)), z = z_{1-eps}.

    Separate: sum mu + n sigma z. Shared, all of it common: the total need is normal, sum mu + sqrt(n) sigma z.
    """
    _check(drivers, eps)
    return float(ndtri(1.0 - eps)) * (1.0 - 1.0 / math.sqrt(drivers))


def saving_of_bound(drivers: int, eps: float) -> float:
    """The same by the paper's bound on the shared capacity.

    sum mu + n sigma / sqrt(2 pi) + sigma sqrt(2 n ln(1/eps)): own batteries mu, the mean of the positive parts, and a
    Gaussian concentration term.
    """
    _check(drivers, eps)
    bound = 1.0 / math.sqrt(2.0 * math.pi) + math.sqrt(2.0 * math.log(1.0 / eps) / drivers)
    return float(ndtri(1.0 - eps)) - bound


def correlated_risk(drivers: int, eps: float, correlation: float) -> float:
    """Violation probability of the independent optimum if all needs have a common correlation."""
    from scipy.special import ndtr

    _check(drivers, eps)
    number("correlation", correlation, 0.0, 1.0)
    spread = math.sqrt(1.0 + (drivers - 1) * correlation)
    return float(ndtr(-ndtri(1.0 - eps) / spread))
