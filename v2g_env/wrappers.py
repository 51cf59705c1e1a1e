"""Other views of the environments; the numbers underneath stay the same."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from v2g_env.batch_model import check_action
from v2g_env.core.validate import InvalidInputError, require
from v2g_env.parking_lot.env import ParkingLotEnv
from v2g_env.stackelberg.env import StackelbergEnv

__all__ = ["RawExchange", "RebateLevels"]


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


class RebateLevels(
    gymnasium.ActionWrapper[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]], RecordConstructorArgs
):
    """V2G/Stackelberg-v0 with the number of a rebate level for every period as the action; bids are the certified ones.

    ``MultiDiscrete``: T numbers, each below the number of levels that the instance allows in that period (24 x 21 by
    default); 0 is the lowest level.

    Args:
        env: V2G/Stackelberg-v0, wrapped or not.

    Raises:
        InvalidInputError: for another environment, or one whose bids are limited to less than the certified ones.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gymnasium.ActionWrapper.__init__(self, env)
        game = env.unwrapped
        require(isinstance(game, StackelbergEnv), "env", type(game).__name__, "an environment V2G/Stackelberg-v0")
        assert isinstance(game, StackelbergEnv)
        self._model = game.game_model
        limit = self._model.instance.bid_limit
        require(limit >= 1.0, "bid_limit", limit, "at least 1")
        self.action_space = spaces.MultiDiscrete(self._model.constants.choices)

    def action(self, action: NDArray[np.int64]) -> NDArray[np.float32]:
        """The action that sets these levels and bids what is certified."""
        levels, choices = self._model.constants.levels, self._model.constants.choices
        given = np.asarray(action)
        if given.dtype.kind not in "iu" or given.shape != choices.shape:
            raise InvalidInputError(f"action = {action!r:.80}; allowed: {len(choices)} whole numbers")
        outside = (given < 0) | (given >= choices)
        if outside.any():
            t = int(np.argmax(outside))
            require(False, f"action[{t}]", int(given[t]), f"0 to {choices[t] - 1}")
        return np.asarray(self._model.action_for(levels[given][None])[0], np.float32)
