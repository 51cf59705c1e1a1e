"""Period by period, how far a policy is from a certified bound: recomputed from evidence, see bound_kinds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.bound_kinds import KINDS, Data, Drawn, Floats
from baselines.checking import expect
from v2g_env.rollout import Episodes

__all__ = ["Scores", "scored"]


class Scores(NamedTuple):
    """m periods (days, weeks, seasons).

    Attributes:
        returns: (m,) [$].
        bound: (m,) proven upper limit of return - z, or of its mean alone [$]; None without a certificate.
        gap: (m,) bound - (return - z) [$]; None without a bound.
        units: (m,) label of the independent unit, None if every period is one.
        penalised: whether z is more than zero.
    """

    returns: Floats
    bound: Floats | None
    gap: Floats | None
    units: NDArray[np.int64] | None
    penalised: bool


def scored(problem: str, drawn: Drawn, episodes: Episodes, certificate: Data | None) -> Scores:
    """Returns, bounds and gaps of what a policy did.

    Args:
        problem: name of the problem's package.
        drawn: where it was drawn.
        episodes: what the policy did.
        certificate: of the bound, which has been checked; None: there is none.

    Raises:
        CertificateError: for a kind of bound that is not known here, and a negative gap where none can be.
    """
    months = problem == "stackelberg"  # an episode is a month there, and a period a day
    returns = episodes.rewards.ravel() if months else episodes.returns
    units = _units(problem, drawn)
    if certificate is None:
        return Scores(returns, None, None, units, False)
    kind = certificate.get("kind")
    known = isinstance(kind, str) and kind in KINDS
    expect(known, "kind of the bound", kind, ", ".join(KINDS))
    found = KINDS[str(kind)]
    bound = found.paths(drawn, certificate)
    expect(bound.shape == returns.shape, "periods of the bound", bound.shape, returns.shape)
    gap = bound - returns
    if found.penalty is not None:
        gap = gap + found.penalty(drawn, certificate)(drawn.model, episodes)
    least = float(gap.min(initial=np.inf))
    if found.pathwise:
        expect(least >= -1e-9, "least gap", least, "not negative in any period (weak duality)")
    return Scores(returns, bound, gap, units, found.penalty is not None)


def _units(problem: str, drawn: Drawn) -> NDArray[np.int64] | None:
    """(m,) label of the independent unit of every period: real day or month; None if every period is one."""
    if problem == "parking_lot" and drawn.model.law.replay:
        return np.asarray(drawn.scenario.day, np.int64)
    if problem == "stackelberg":
        months, days = drawn.scenario.weekend.shape
        return np.repeat(np.arange(months), days)
    return None
