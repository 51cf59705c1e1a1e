"""Energy to those who value it most, and Clarke's payments, under which the truth is the best report.

Energy s is shared among drivers who ask for r_i kWh at v_i $/kWh: whoever values it most is served first, which makes
sum v_i a_i as large as can be. Each pays what the others lose by his asking (Vickrey 1961; Clarke 1971; Groves 1973):
his payment does not depend on his own report as long as he gets the same, so reporting r_i and v_i truly is never
worse than anything else, whatever the others report. Payments are never negative and never above v_i a_i.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from v2g_env.core.validate import array

__all__ = ["clarke"]

Floats = NDArray[np.float64]


def clarke(report_kwh: ArrayLike, value_usd_per_kwh: ArrayLike, shared_kwh: ArrayLike) -> tuple[Floats, Floats]:
    """Energy (m, n) [kWh] and payments (m, n) [$] of m days.

    Args:
        report_kwh: (m, n) what drivers ask for, at least 0.
        value_usd_per_kwh: (m, n) what they say a kWh is worth, at least 0.
        shared_kwh: (m,) what there is.

    Raises:
        InvalidInputError: for shapes that do not fit, negative numbers or NaN.
    """
    report = array("report_kwh", report_kwh, (None, None), 0.0)
    m, n = report.shape
    value = array("value_usd_per_kwh", value_usd_per_kwh, (m, n), 0.0)
    shared = array("shared_kwh", shared_kwh, (m,), 0.0)
    order = np.argsort(-value, axis=1, kind="stable")
    asked = np.take_along_axis(report, order, axis=1)
    worth = np.take_along_axis(value, order, axis=1)
    ends = np.cumsum(asked, axis=1)
    served = np.clip(shared[:, None] - (ends - asked), 0.0, asked)
    paid = np.zeros((m, n))
    for k in range(n):
        # without the k-th, those behind him move up by what he was given
        later = ends[:, k + 1 :] - asked[:, k + 1 :] - asked[:, k : k + 1]
        without = np.clip(shared[:, None] - later, 0.0, asked[:, k + 1 :])
        paid[:, k] = ((without - served[:, k + 1 :]) * worth[:, k + 1 :]).sum(axis=1)
    energy, payment = np.empty((m, n)), np.empty((m, n))
    np.put_along_axis(energy, order, served, axis=1)
    np.put_along_axis(payment, order, paid, axis=1)
    return energy, payment
