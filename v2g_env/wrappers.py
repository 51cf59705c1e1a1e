"""Other views of the environments; the numbers underneath stay the same."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from v2g_env.core.validate import require
from v2g_env.parking_lot.env import ParkingLotEnv
from v2g_env.shells import check_action

__all__ = ["RawExchange"]


class RawExchange(
    gymnasium.ActionWrapper[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]], RecordConstructorArgs
):
    """V2G/ParkingLot-v0 with two exchanges as the action: harder to learn, closer to what a trader does.

    ``Box(-1, 1, (2,), float32)``: first the community's power, as a share of its firm offer for the step being closed
    (positive takes surplus, negative hands back into the deficit), then the retailer's power in units of
    ``retail_kw`` (positive buys). Their sum says what is stored at the end of the step; the lot settles that energy by
    merit order, the community first, which earns at least as much at the instance's prices.

    Args:
        env: V2G/ParkingLot-v0, wrapped or not.

    Raises:
        InvalidInputError: for another environment.
    """

    retail_kw: ClassVar[float] = 100.0

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        lot = env.unwrapped
        require(
            isinstance(lot, ParkingLotEnv) and not lot.per_bay,
            "env",
            type(lot).__name__,
            "an environment V2G/ParkingLot-v0",
        )
        assert isinstance(lot, ParkingLotEnv)
        self._lot = lot
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def action(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The target that stores what the exchanges bring, as near as the range of targets allows."""
        community, retailer = check_action(action, (2,))
        step, ahead, capacity, surplus, deficit = self._lot.closing()
        power = community * (surplus if community > 0.0 else deficit) + retailer * self.retail_kw
        instance = self._lot.lot_model.instance
        eta = instance.efficiency
        change = instance.step_h * (power * eta if power > 0.0 else power / eta)
        target = np.array([max(ahead + change, 0.0)])
        chosen = self._lot.lot_model.action_for(target, step, np.array([capacity]))[0]
        return np.asarray(chosen, np.float32)
