"""What Alexeenko and Charisopoulos report of the shared battery, as data to stand beside ours.

Source of all numbers: "Reducing Aggregate Electric Vehicle Battery Capacity through Sharing", arXiv 2304.10461,
section IV and the conclusion. Their needs come from the Puget Sound log (about 400 vehicles, 2004 to 2006, 3 miles per
kWh, bins of about 2 kWh), which is not available here. The text we have lost some of its formulas: where a number of
drivers or a target is missing in it, it is missing here as well.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "CAPACITY_KWH",
    "HIGH_TARGET",
    "LEAST_REDUCTION_PERCENT",
    "MEDIAN_REDUCTION_PERCENT",
    "PROPORTIONAL_ABOVE_SEPARATE",
    "RELIABILITY_AT_CAPACITY",
    "RULES_COMPARED",
    "SAVING_KWH",
    "SOURCE",
    "TRIALS",
    "Span",
]

SOURCE = "Alexeenko and Charisopoulos, arXiv 2304.10461"


class Span(NamedTuple):
    """A published range."""

    low: float
    high: float

    def __str__(self) -> str:
        """As words."""
        return f"{self.low:g} to {self.high:g}"


RULES_COMPARED = ("proportional", "first_come", "utilitarian")

SAVING_KWH = {0.75: Span(5.0, 10.0), 0.85: Span(10.0, 20.0)}
"""Figure 2: capacity per driver that sharing saves, by reliability; the span is over the rules [kWh]."""

CAPACITY_KWH = 35.0
RELIABILITY_AT_CAPACITY = {25: 0.67, 50: 0.89, 100: 0.91}
"""Figure 2: reliability of CAPACITY_KWH per driver under the proportional rule, by number of drivers."""

PROPORTIONAL_ABOVE_SEPARATE = Span(0.67, 0.70)
"""Figure 2: for two of the fleets, below so much reliability the proportional rule needs more than no sharing."""

TRIALS = 20
MEDIAN_REDUCTION_PERCENT = Span(7.0, 20.0)
"""Figure 3: median reduction of the smaller and of the larger of two fleets at one target; "over" the second [%]."""

HIGH_TARGET = 0.95
LEAST_REDUCTION_PERCENT = 40.0
"""Conclusion: least reduction above HIGH_TARGET, "even for moderately sized systems of 25 drivers or more" [%]."""
