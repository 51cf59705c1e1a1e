"""Certified answers to the Stackelberg game: exact branch and bound, conic reference, policies."""

from baselines.stackelberg.hindsight import Hindsight, hindsight
from baselines.stackelberg.programs import Solution, solve

__all__ = ["Hindsight", "Solution", "hindsight", "solve"]
