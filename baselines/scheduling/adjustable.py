"""The policy of adjustable plans: a rule for the day, solved at noon on hours, that answers to what has happened."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from baselines.scheduling.affine import Rule, solve
from baselines.scheduling.day import Day, Protection, typical_cars
from baselines.scheduling.policies import begins, few_kinds, fleet_fraction, margin_kw, possible, typical_wind_sd
from baselines.scheduling.sight import act, read, wind_path
from v2g_env.core.validate import InvalidInputError, number
from v2g_env.scheduling.instance import Instance
from v2g_env.scheduling.model import Model

__all__ = ["AdjustablePlan"]

Floats = NDArray[np.float64]


class AdjustablePlan:
    """Affine adjustable robust scheduling; see affine.py for what its rule promises.

    The rule is made for merged steps of up to an hour, typical cars and the wind expected at noon. Cars answer to the
    imbalance of a step with all their band, as the rule has them do; what the generator must keep ready beyond the
    expected net load is the rule's share of what the set can bring in the next step, as it is known by then.

    Args:
        model: the problem.
        protection: the set; turbines' half-widths are ``wind_sd`` predictive standard deviations.
        wind_sd: half-width of a turbine in standard deviations.
    """

    def __init__(self, model: Model, protection: Protection, wind_sd: float = 1.5) -> None:
        protection.check(model.instance)
        number("wind_sd", wind_sd, 0.0, 10.0)
        self.model, self.protection, self.wind_sd = model, protection, wind_sd
        self.merged = _merged(model.instance)
        lot = model.instance
        self.hourly = lot.replace(
            steps=lot.steps // self.merged, step_h=lot.step_h * self.merged, gas_ramp_kw=lot.gas_ramp_kw * self.merged
        )

    def predict(
        self,
        observation: NDArray[np.float32],
        state: tuple[Any, ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], tuple[Any, ...] | None]:
        """Return actions (n, 2 + aggregators); the memory is the rules, and the net load expected last."""
        sight = read(self.model, observation)
        n, now = len(observation), min(int(sight.step[0]), self.model.steps - 1) // self.merged
        if state is None or begins(episode_start):
            rules = [self.rule(row) for row in wind_path(self.model, sight)]
            news = np.zeros(n)
        else:
            rules, expected = state
            news = (sight.last_net_kw - expected) * self.model.instance.gate_closure_steps  # without gate: no news
        sign = (news < 0.0).astype(np.int64)  # 0: a deficit
        size = np.abs(news)
        back = np.array([rule.fleet_return[now, s] for rule, s in zip(rules, sign, strict=True)]) * size
        wanted = np.array([rule.fleet_kw[now] for rule in rules]) + back
        answer = np.array([rule.gas_answer[now, s] for rule, s in zip(rules, sign, strict=True)]) * size
        share = np.array([_share(rule, now) for rule in rules])
        margin = share * margin_kw(self.model, sight, self.protection, self.wind_sd) + answer - back
        action = act(self.model, sight, fleet_fraction(sight, wanted), margin, 1.0)
        return action, (rules, sight.load_kw - sight.wind_kw[:, 0])

    def rule(self, wind_kw: Floats) -> Rule:
        """The rule for expected wind (steps,) of all turbines [kW]; the set shrinks until there is one."""
        lot, hourly, merged = self.model.instance, self.hourly, self.merged
        wind = wind_kw.reshape(-1, merged).mean(axis=1)
        mean = np.repeat(wind[:, None] / max(lot.turbines, 1), lot.turbines, axis=1)
        sd = typical_wind_sd(lot).reshape(-1, merged).mean(axis=1)
        half = np.minimum(self.wind_sd * sd[:, None], mean)
        load = lot.load_mean_kw.reshape(-1, merged, lot.aggregators).mean(axis=1)
        gas = float(np.clip(load[0].sum() - wind[0], 0.0, lot.gas_max_kw))
        day = Day(
            load, lot.load_deviation * load, mean, half, *few_kinds(lot, typical_cars(hourly, self.model.law)), gas
        )
        day = possible(hourly, day, self.protection)
        for _ in range(6):
            try:
                return solve(hourly, day, self.protection).plan
            except InvalidInputError:
                day = day._replace(load_half_kw=0.5 * day.load_half_kw, wind_half_kw=0.5 * day.wind_half_kw)
        return solve(hourly, day, Protection()).plan


def _merged(lot: Instance) -> int:
    """Steps that make up at most an hour and divide the day."""
    most = max(int(1.0 / lot.step_h + 1e-9), 1)
    return next(m for m in range(most, 0, -1) if lot.steps % m == 0)


def _share(rule: Rule, now: int) -> float:
    """Part of the largest deviation that the rule meets with spare generation."""
    reach = float(rule.reach_kw[now])
    return min(max(float(rule.spare_kw[now]) / reach, 0.0), 1.0) if reach > 0.0 else 0.0
