"""Certificates of all kinds of games hold, and nothing in them can be changed: not by a slip, not by a liar."""

import base64
import copy
import json
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import baselines
from baselines.certificate import CertificateError, check, pack, unpack
from baselines.stackelberg.certify import digest
from baselines.stackelberg.programs import solve

KINDS = {
    "plain": {},
    "published": {"variant": "published"},
    "drivers own": {"owner": "drivers", "kappa": 2.0},
    "blocked and capped": {"cap": True},
    "half an hour": {"step_h": 0.5},
    "one driver": {"drivers": 1},
}


def trees(lab, seed, **changes):
    """A platform's small game whose tree has a few nodes."""
    for number in range(100 * seed, 100 * seed + 100):
        made = lab.game(number, **{"owner": "platform", "kappa": 1.0} | changes)
        chosen, value, _ = lab.enumerate_all(made)
        if 8 < len(value) < 100 and np.isfinite(value[0]) and chosen[value.argmax()].any():
            found = solve(made, gap=1e-9, time_limit_s=20.0)
            if 3 <= found.nodes <= 15:
                return made, json.loads(json.dumps(found.certificate, allow_nan=False))
    raise AssertionError("no such game")


@pytest.fixture(scope="module")
def cases(lab):
    made = {}
    for number, (name, given) in enumerate(KINDS.items()):
        changes = dict(given)
        if changes.pop("cap", False):
            base = lab.game(100 * number)
            levels = base.levels_usd_per_h
            caps = (levels[0], levels[-1], levels[-1], levels[1])[: base.periods]
            found = None
            for seed in range(number, number + 20):
                try:
                    found = trees(lab, seed, levels_usd_per_h=(0.0, 0.3, 0.9))
                except AssertionError:
                    continue
                game = found[0].replace(cap_usd_per_h=(0.0, *(0.9,) * (found[0].periods - 1)))
                answer = solve(game, gap=1e-9, time_limit_s=20.0)
                if answer.nodes >= 3:
                    found = game, json.loads(json.dumps(answer.certificate))
                    break
            del caps
            made[name] = found
        else:
            made[name] = trees(lab, number, **changes)
    return made
