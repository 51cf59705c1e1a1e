"""Print the time in milliseconds that each risk bound takes at N = 100,000: one k, and a vector of k."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from baselines import risk

N_SAMPLES = 100_000
BETA = 1e-6
SINGLE = 5_000
VECTOR = np.concatenate([np.arange(1, 201), np.linspace(201, N_SAMPLES, 3_000).astype(np.int64)])


def best_ms(call: Callable[[], object], repeats: int = 7) -> float:
    """Return the shortest of several timings, in milliseconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


def main() -> None:
    """Time every bound and print one line for each."""
    print(f"N = {N_SAMPLES}, beta = {BETA:g}; milliseconds, best of 7")
    print(f"{'bound':<16}{'k = ' + str(SINGLE):>12}{str(VECTOR.size) + ' values':>14}")
    for bound in (risk.a_priori, risk.wait_and_judge, risk.degenerate, risk.relaxed, risk.hold_out):
        single = best_ms(partial(bound, N_SAMPLES, SINGLE, BETA))
        vector = best_ms(partial(bound, N_SAMPLES, VECTOR, BETA))
        print(f"{bound.__name__:<16}{single:>12.2f}{vector:>14.1f}")
    print(f"{'a_priori_samples':<16}{best_ms(partial(risk.a_priori_samples, 1e-3, 50, BETA)):>12.2f}")


if __name__ == "__main__":
    main()
