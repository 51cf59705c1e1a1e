"""Certified answers to the shared battery: sizes, tests on fresh days, hindsight bounds, policies."""

from baselines.shared_battery.hindsight import hindsight
from baselines.shared_battery.programs import Solution, separate, solve

__all__ = ["Solution", "hindsight", "separate", "solve"]
