"""Stackelberg game: a platform sets rebates and regulation bids, drivers respond."""

from v2g_env.stackelberg.game import Game
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.network import Network

__all__ = ["Game", "Instance", "Network"]
