"""A platform and its drivers, repeated every day of a month, as a PettingZoo parallel environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from v2g_env.parallel_shell import PartyEnv
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.party import StackelbergParties
from v2g_env.stackelberg.scenario import Law

__all__ = ["StackelbergParallelEnv"]


class StackelbergParallelEnv(PartyEnv):
    """The game of ``V2G/Stackelberg-v0``, repeated, with drivers who may withhold their answer.

    ## Description
    Agents ``platform`` and ``class_0`` ... A step is a day. The platform posts the rebates of tomorrow and how much of
    the certified bid it will offer; meanwhile the classes answer the rebates posted for today. The answer of the model,
    which maximises a driver's utility and rebates, is the best of the day; withholding costs little and may make the
    platform raise its rebates. The platform bids as if everybody answered by the model.

    ## Action Space
    platform: ``Box(-1, 1, (T + 1,), float32)`` as in ``V2G/Stackelberg-v0``, for tomorrow. class: ``Box(-1, 1, (4,),
    float32)``: 1 + a multiplies the rebates to which it answers in each quarter of the day; 0 is the model's answer.

    ## Observation Space
    platform: as in ``V2G/Stackelberg-v0``, of tomorrow, with the rebates of today and who was plugged in yesterday.
    class: posted rebates (of the highest level), its own share plugged in yesterday, day type, announced share, day.

    ## Rewards
    Money [$]. platform: payment, penalty, rebates, reference as in ``V2G/Stackelberg-v0``; class: utility (of all its
    drivers, beyond that without rebates), rebates. Facts as in ``V2G/Stackelberg-v0``.

    ## Episode End
    All terminate after the last day of the month.

    ## Arguments
    ``instance``, ``law`` as in ``V2G/Stackelberg-v0``; ``shares`` of the classes in the fleet.

    ## References
    Tang and Mak, Collaborative Vehicle-to-grid Operations in Frequency Regulation Markets (slides, 2024). The repeated
    game is this project's.
    """

    metadata: ClassVar[dict[str, Any]] = PartyEnv.metadata | {"name": "stackelberg_parallel_v0"}

    def __init__(
        self,
        instance: Instance | Mapping[str, Any] | None = None,
        law: Law | str = "generator",
        shares: Sequence[float] = (0.5, 0.3, 0.2),
    ) -> None:
        super().__init__(StackelbergParties(Instance.of(instance), law, shares))
