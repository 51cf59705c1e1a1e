"""What the interior-point method does for every pair (sample k, driver i), compiled by numba.

Per pair: y = positive part of xi - b from above, w = y - xi + b (both positive), their duals v and u with
u + v = lambda_k. With e1 = mu - u w - (second order), e2 = mu - v y - (second order) and G = v w + y u, Newton's
equations of the pair give

    dy = (w e2 + y e1 - y w dlambda_k - y u db_i) / G,      du = (v e1 - u e2 + u y dlambda_k - u v db_i) / G.
"""

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["directions", "eliminated", "right_sides", "second_order"]


@njit(cache=True)
def eliminated(y, w, u, v, ratio, coupling):
    """Fill coupling (A, n) with u y / G - ratio; return sums of y w / G (A,) and of u v / G (n,)."""
    rows, n = y.shape
    by_row, by_driver = np.zeros(rows), np.zeros(n)
    for k in range(rows):
        for i in range(n):
            g = v[k, i] * w[k, i] + y[k, i] * u[k, i]
            by_row[k] += y[k, i] * w[k, i] / g
            by_driver[i] += u[k, i] * v[k, i] / g
            coupling[k, i] = u[k, i] * y[k, i] / g - ratio
    return by_row, by_driver


@njit(cache=True)
def right_sides(y, w, u, v, mu, second_uw, second_vy):
    """Sums of (w e2 + y e1) / G over drivers (A,), and of (v e1 - u e2) / G over samples (n,)."""
    rows, n = y.shape
    by_row, by_driver = np.zeros(rows), np.zeros(n)
    for k in range(rows):
        for i in range(n):
            g = v[k, i] * w[k, i] + y[k, i] * u[k, i]
            e1 = mu - u[k, i] * w[k, i] - second_uw[k, i]
            e2 = mu - v[k, i] * y[k, i] - second_vy[k, i]
            by_row[k] += (w[k, i] * e2 + y[k, i] * e1) / g
            by_driver[i] += (v[k, i] * e1 - u[k, i] * e2) / g
    return by_row, by_driver


@njit(cache=True)
def directions(y, w, u, v, mu, second_uw, second_vy, d_own, d_lam, d_y, d_u):
    """Fill d_y, d_u (A, n); return the longest steps that keep y, w and u, v positive."""
    rows, n = y.shape
    primal, dual = 1e300, 1e300
    for k in range(rows):
        for i in range(n):
            g = v[k, i] * w[k, i] + y[k, i] * u[k, i]
            e1 = mu - u[k, i] * w[k, i] - second_uw[k, i]
            e2 = mu - v[k, i] * y[k, i] - second_vy[k, i]
            dy = (w[k, i] * e2 + y[k, i] * e1 - y[k, i] * w[k, i] * d_lam[k] - y[k, i] * u[k, i] * d_own[i]) / g
            du = (v[k, i] * e1 - u[k, i] * e2 + u[k, i] * y[k, i] * d_lam[k] - u[k, i] * v[k, i] * d_own[i]) / g
            dw, dv = dy + d_own[i], d_lam[k] - du
            d_y[k, i], d_u[k, i] = dy, du
            if dy < 0.0:
                primal = min(primal, -y[k, i] / dy)
            if dw < 0.0:
                primal = min(primal, -w[k, i] / dw)
            if du < 0.0:
                dual = min(dual, -u[k, i] / du)
            if dv < 0.0:
                dual = min(dual, -v[k, i] / dv)
    return primal, dual


@njit(cache=True)
def second_order(d_y, d_u, d_own, d_lam, second_uw, second_vy):
    """Fill the products of directions du dw and dv dy (A, n)."""
    rows, n = d_y.shape
    for k in range(rows):
        for i in range(n):
            second_uw[k, i] = d_u[k, i] * (d_y[k, i] + d_own[i])
            second_vy[k, i] = (d_lam[k] - d_u[k, i]) * d_y[k, i]
