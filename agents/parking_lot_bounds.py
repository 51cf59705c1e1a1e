"""What no policy of the parking lot can beat on a board's days: the penalised bound where it exists, else hindsight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from baselines.parking_lot.hindsight import Hindsight, hindsight, hindsight_certificate
from baselines.parking_lot.penalty import days_for, penalised, penalised_certificate, penalty_of
from baselines.parking_lot.penalty_default import covered, default_penalty
from baselines.parking_lot.samples import physical_limits
from v2g_env.parking_lot.model import Model
from v2g_env.parking_lot.scenario import Scenario
from v2g_env.rollout import Episodes

__all__ = ["Ceiling", "ceiling"]

Floats = NDArray[np.float64]


class Ceiling(NamedTuple):
    """The bound of m days.

    Attributes:
        name: for people.
        bound_usd: (m,) limit on return minus penalty of every policy [$].
        top: what perfect information earns at most.
        control: penalty (m,) of a rollout [$]; None: zero.
        plan_kwh: (T,) largest plan that a policy's environment may show [kWh]; None: any.
        certificate: of the mean bound.
    """

    name: str
    bound_usd: Floats
    top: Hindsight
    control: Callable[[Episodes], Floats] | None
    plan_kwh: Floats | None
    certificate: dict[str, Any]


def ceiling(model: Model, scenario: Scenario, seed: int) -> Ceiling:
    """The lowest bound at hand.

    On generated days it is the penalised one (Brown, Smith and Sun 2010). A plan widens the gate's range: the bound
    allows every plan that the lot could hold, so that policies with different plans stand below the same bound. That
    costs some .06 $ a day with the default lot.

    Args:
        model: of the board, under the law of the days.
        scenario: the days, as scenario.sample(instance, law, n, seed) draws them.
        seed: of these days; none that a penalty is fitted with.
    """
    lot = model.instance
    top = hindsight(lot, scenario)
    if not covered(lot, model.law):
        made = hindsight_certificate(lot, model.law.name, seed, top)
        return Ceiling("proven bound (hindsight)", top.bound_usd, top, None, None, made)
    penalty = default_penalty(lot, model.law)
    days = days_for(model, len(scenario.day), seed, penalty)
    wide = Model(lot, model.law, np.maximum(model.plan_kwh, physical_limits(lot)[0]))
    bound = penalised(wide, days, penalty)
    made = penalised_certificate(wide, len(scenario.day), seed, penalty, bound)

    def control(episodes: Episodes) -> Floats:
        return penalty_of(wide, days, episodes, penalty)

    return Ceiling("proven bound (penalised)", bound.bound_usd, top, control, wide.plan_kwh, made)
