"""Certified answers to the Stackelberg game: exact branch and bound, conic reference, policies."""

from baselines.stackelberg.programs import Solution, solve

__all__ = ["Solution", "solve"]
