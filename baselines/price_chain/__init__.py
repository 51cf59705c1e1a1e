"""Exact answers to the price chain: nominal and robust values, policies, certificates."""

from baselines.price_chain.sweeps import evaluate
from baselines.price_chain.values import Solution, solve

__all__ = ["Solution", "evaluate", "solve"]
