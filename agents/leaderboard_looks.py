"""Looks at a scenario set: who submits often must not win by luck, so every further look gets less of beta.

The k-th submission that is scored on a set has the share beta 6 / (pi^2 k^2); all shares together stay below beta, so
with probability 1 - beta every limit ever printed for the set holds, however the submissions were chosen after looking
at earlier rows. Half of a share is for the violation limit, half for the limit on the gap. Scoring the same submission
again shows nothing new and costs nothing.

looks.json is a chain: every look names a digest of all before it, so that a changed, dropped or reordered look is
noticed; looks cut off at the end are noticed where the leaderboard has their rows. Who deletes both files, or scores
elsewhere, is not noticed: the counting protects against mistakes and not against bad faith.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from baselines.certificate import CertificateError, load, write_text
from baselines.checking import expect
from v2g_env.core.validate import number, require

__all__ = ["LOOKS", "Looks", "look_share"]

LOOKS = "looks.json"
FORMAT = "v2g-env looks 1"
SIDES = ("policy", "penalty")
_FIELDS = {"look", "side", "sha256", "chain"}
_MOST = 10**5


def look_share(beta: float, look: int) -> float:
    """Part of beta for the look-th look at a set: beta 6 / (pi^2 look^2), look = 1, 2, ..."""
    number("beta", beta, 0.0, 1.0, open_low=True, open_high=True)
    number("look", look, 1, _MOST, integer=True)
    # rounded down by more than the error of the product: the sum stays below beta
    return beta * 6.0 / (math.pi**2 * float(look) ** 2) * (1.0 - 1e-12)


def _linked(before: str, key: str, look: int, side: str, sha256: str) -> str:
    return hashlib.sha256(json.dumps([before, key, look, side, sha256]).encode()).hexdigest()


class Looks:
    """The looks at every set.

    Args:
        sets: by the set's key, its looks in their order: number, side, sha256 and chain digest.

    Raises:
        CertificateError: if they are not a chain.
    """

    def __init__(self, sets: Mapping[str, Any] | None = None) -> None:
        """See the class."""
        self._sets: dict[str, list[dict[str, Any]]] = {}
        for key, looks in (sets or {}).items():
            expect(isinstance(looks, list) and len(looks) <= _MOST, f"looks at {key}", looks, "a list of looks")
            before, seen = "", set()
            for place, look in enumerate(looks, 1):
                ok = isinstance(look, Mapping) and set(look) == _FIELDS
                expect(ok, f"look {place} at {key}", look, f"exactly {', '.join(sorted(_FIELDS))}")
                number_ok = type(look["look"]) is int and look["look"] == place
                expect(number_ok, f"look {place} at {key}", look["look"], f"number {place}")
                expect(look["side"] in SIDES, "side", look["side"], " or ".join(SIDES))
                text = look["sha256"]
                expect(isinstance(text, str) and text not in seen, "sha256 of a look", text, "a hash, each once")
                seen.add(text)
                before = _linked(before, key, place, look["side"], text)
                expect(look["chain"] == before, f"chain of look {place} at {key}", look["chain"], before)
            self._sets[key] = [dict(look) for look in looks]

    @classmethod
    def read(cls, folder: str | Path) -> Looks:
        """The looks beside a leaderboard; none if the file is missing.

        Raises:
            CertificateError: for a damaged or changed file.
        """
        path = Path(folder) / LOOKS
        if not path.exists():
            return cls()
        content = load(path)
        expect(set(content) == {"format", "sets"}, f"fields of {path}", sorted(content), "exactly format and sets")
        expect(content["format"] == FORMAT, f"format of {path}", content["format"], FORMAT)
        expect(isinstance(content["sets"], Mapping), f"sets of {path}", content["sets"], "a JSON object")
        return cls(content["sets"])

    def write(self, folder: str | Path) -> None:
        """Write looks.json, whole or not at all."""
        write_text(Path(folder) / LOOKS, json.dumps({"format": FORMAT, "sets": self._sets}, indent=1))

    def count(self, key: str) -> int:
        """Number of looks at a set."""
        return len(self._sets.get(key, []))

    def find(self, key: str, side: str, sha256: str) -> int | None:
        """Number of a submission's look at a set, None if it was not scored there."""
        found = (look for look in self._sets.get(key, []) if (look["side"], look["sha256"]) == (side, sha256))
        return next((int(look["look"]) for look in found), None)

    def register(self, key: str, side: str, sha256: str) -> int:
        """Count a submission, unless it was counted before; returns its look's number, from 1."""
        require(side in SIDES, "side", side, " or ".join(SIDES))
        known = self.find(key, side, sha256)
        if known is not None:
            return known
        looks = self._sets.setdefault(key, [])
        require(all(look["sha256"] != sha256 for look in looks), "sha256", sha256, "one side per submission")
        before = looks[-1]["chain"] if looks else ""
        place = len(looks) + 1
        chain = _linked(before, key, place, side, sha256)
        looks.append({"look": place, "side": side, "sha256": sha256, "chain": chain})
        return place

    def cover(self, key: str, rows: Iterable[tuple[str, str, int]]) -> None:
        """Refuse unless every row (side, sha256, look) of a set is among the looks under its own number.

        Raises:
            CertificateError: for a row without its look: looks.json was cut or belongs to another leaderboard.
        """
        for side, sha256, look in rows:
            known = self.find(key, side, sha256)
            if known != look:
                raise CertificateError(
                    f"look of {side} {sha256:.12} at {key} = {look!r}; allowed: {known!r}, as in {LOOKS}, which must "
                    "hold a look for every row"
                )
