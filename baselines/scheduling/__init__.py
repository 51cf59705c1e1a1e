"""Certified answers to the scheduling problem: robust linear and conic programs, hindsight bounds, policies."""

from baselines.scheduling.hindsight import hindsight
from baselines.scheduling.linear import Solution, solve

__all__ = ["Solution", "hindsight", "solve"]
