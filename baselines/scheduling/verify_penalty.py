"""Certificates of days at a penalty's prices: what no policy can exceed on average, tighter than with days foreseen.

The check draws the days again, computes the penalty's prices from its frozen weights, rebuilds every day's program with
them and evaluates the multipliers. That the penalty's mean is zero for every policy is what penalty_noise proves; the
weights must have been fixed without looking at these days, as its hash in an earlier record can show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from baselines.certificate import CertificateError, Report, pack, unpack
from baselines.checking import expect, near, numbers, whole_number
from baselines.scheduling.day import Protection, known_day
from baselines.scheduling.penalty import Penalty, prices
from baselines.scheduling.penalty_bound import Bound, bound_of, priced
from baselines.scheduling.penalty_noise import OUTCOMES
from baselines.scheduling.program import Task
from baselines.scheduling.verify_days import head, law_from
from baselines.scheduling.verify_linear import check_groups
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model
from v2g_env.scheduling.scenario import Scenario, sample

__all__ = ["PENALISED_KIND", "check_penalised", "penalised_certificate"]

PENALISED_KIND = "penalised days bound"
_FIELDS = {
    *("format", "problem", "kind", "instance", "instance_sha256", "law", "sample"),
    *("penalty", "penalty_sha256", "groups", "lines", "dual", "mean_bound_usd"),
}
_MOST_DAYS, _MOST_NUMBERS, _MOST_WORK = 20_000, 10**8, 10**9  # no forged number makes a check endless
_MONEY = 1e-6  # agreement of recomputed money, relative to 1 + |value|


def penalised_certificate(model: Model, seed: int, penalty: Penalty, bound: Bound) -> dict[str, Any]:
    """JSON certificate of the mean bound over the days of ``sample(instance, law, n, seed)``.

    Args:
        model: of the environment.
        seed: of the days.
        penalty: the frozen weights.
        bound: the days' bounds at its prices.
    """
    rows = [np.insert(each.lines, 0, day, axis=1) for day, each in enumerate(bound.evidence)]
    return head(model, PENALISED_KIND, seed, len(bound.evidence)) | {
        "penalty": penalty.to_dict(),
        "penalty_sha256": penalty.hash,
        "groups": pack(np.stack([each.label for each in bound.evidence])),
        "lines": pack(np.concatenate(rows)),
        "dual": pack(np.concatenate([each.dual for each in bound.evidence])),
        "mean_bound_usd": float(bound.bound_usd.mean()),
    }


def check_penalised(data: Mapping[str, Any], instance: Instance) -> Report:
    """Check one certificate of kind "penalised days bound".

    Args:
        data: the certificate.
        instance: the one written in it, compared already.

    Raises:
        CertificateError: with the reason, if anything does not hold.
    """
    expect(set(data) == _FIELDS, "fields", sorted(data), ", ".join(sorted(_FIELDS)))
    model, days, penalty = _drawn(data, instance)
    n = len(days.load_kw)
    label = numbers("groups", data["groups"], (n, instance.cars), "<i8")
    lines, dual = unpack(data["lines"]), unpack(data["dual"])
    ok = lines.ndim == 2 and lines.shape[1] == 3 and lines.dtype.str == "<i8"
    expect(ok, "shape of lines", lines.shape, "(m, 3): day, line, step")
    most = np.array([n, len(instance.line_limit_kw), instance.steps])
    expect(bool(((lines >= 0) & (lines < most)).all()), "lines", lines.tolist(), "days, lines and steps that exist")
    expect(len(np.unique(lines, axis=0)) == len(lines), "lines", len(lines), "each once")
    expect(dual.ndim == 1 and dual.dtype.str == "<f8", "dual", dual.shape, "one row of numbers")
    expect(bool(np.isfinite(dual).all()), "dual", "not finite", "finite numbers")
    total, at = 0.0, 0
    for row in range(n):
        day = known_day(model, days, row)
        check_groups(instance, day, label[row])
        task = Task(day, Protection(), "cost", True, model.gas_scale)
        rows = lines[lines[:, 0] == row][:, 1:]
        try:
            program, constant = priced(instance, task, label[row], rows, prices(model, days, row, penalty))
        except InvalidInputError as error:
            raise CertificateError(str(error)) from None
        count = len(program.low)
        expect(at + count <= len(dual), "length of dual", len(dual), "one multiplier for every row of every day")
        total += bound_of(instance, program, constant, dual[at : at + count])
        at += count
    expect(at == len(dual), "length of dual", len(dual), at)
    mean = total / n
    near("mean_bound_usd", data["mean_bound_usd"], mean, _MONEY)
    not_below = data["mean_bound_usd"] >= mean - 1e-12 * (1.0 + abs(mean))
    expect(not_below, "mean_bound_usd", data["mean_bound_usd"], f">= {mean!r}")
    claim = (
        f"no policy of V2G/Scheduling-v0 saves more than {mean:.4f} $ a day on average over {n} days of "
        f"{model.law.name}, less a penalty whose mean over all days is zero for every policy"
    )
    return Report(PENALISED_KIND, (claim,), {"mean_bound_usd": mean})


def _drawn(data: Mapping[str, Any], instance: Instance) -> tuple[Model, Scenario, Penalty]:
    """Model, days and penalty of a certificate whose sizes are no forgery."""
    origin = data["sample"]
    ok = isinstance(origin, Mapping) and set(origin) == {"seed", "n_samples"}
    expect(ok, "sample", origin, "exactly seed and n_samples")
    n = whole_number("sample.n_samples", origin["n_samples"], 1, _MOST_DAYS)
    seed = whole_number("sample.seed", origin["seed"], 0, 2**63)
    try:
        penalty = Penalty.from_dict(data["penalty"])
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
    expect(data["penalty_sha256"] == penalty.hash, "penalty_sha256", data["penalty_sha256"], penalty.hash)
    homes, points = instance.aggregators + instance.turbines, math.prod(penalty.grid)
    expect(instance.steps * homes * OUTCOMES <= _MOST_NUMBERS, "steps x homes and turbines", instance.steps, "fewer")
    work = (instance.steps * (homes + instance.gas_segments + points) + instance.cars) * max(n, 100)
    expect(work <= _MOST_WORK, "sample.n_samples x numbers of a day", work, _MOST_WORK)
    try:
        model = Model(instance, law_from(data["law"]))
        return model, sample(instance, model.law, n, seed), penalty
    except InvalidInputError as error:
        raise CertificateError(str(error)) from None
