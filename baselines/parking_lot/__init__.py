"""Certified answers to the parking lot: scenario programs, hindsight bounds, policies."""

from baselines.parking_lot.hindsight import hindsight
from baselines.parking_lot.programs import Solution, solve

__all__ = ["Solution", "hindsight", "solve"]
