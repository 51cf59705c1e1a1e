"""Looks at a set: shares of beta, the chain of looks.json, and what is noticed."""

import copy
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.leaderboard import update
from agents.leaderboard_looks import Looks, look_share
from baselines import risk
from baselines.certificate import CertificateError, load
from v2g_env.core.validate import InvalidInputError


@given(st.integers(1, 300), st.floats(1e-12, 0.99))
@settings(max_examples=30, deadline=None)
def test_all_shares_together_stay_below_beta(count, beta):
    shares = [look_share(beta, look) for look in range(1, count + 1)]
    assert math.fsum(shares) < beta
    assert all(later < earlier for earlier, later in zip(shares[:-1], shares[1:], strict=True))


def test_the_shares_come_close_to_beta_in_the_limit():
    shares = [look_share(0.1, look) for look in range(1, 10_001)]
    assert 0.1 * (1.0 - 1e-4) < math.fsum(shares) < 0.1


def test_limits_of_submissions_chosen_after_looking_fail_together_with_at_most_beta():
    # every submission has violation probability p; the attempt fails if any limit falls below p
    rng = np.random.default_rng(6)
    beta, p, m, tries = 0.2, 0.1, 60, 30
    violations = rng.binomial(m, p, (2000, tries))
    shared = [risk.hold_out(m, violations[:, k], look_share(beta, k + 1)) for k in range(tries)]
    failed = float(np.mean(np.min(shared, axis=0) < p))
    assert failed <= beta + 3.0 * math.sqrt(beta * (1.0 - beta) / 2000)
    whole = risk.hold_out(m, violations, beta)
    assert np.mean(whole.min(axis=1) < p) > 2.0 * beta  # without shares it does not hold


def test_a_look_is_counted_once_per_set_and_survives_the_file(tmp_path):
    looks = Looks()
    assert [looks.register("set", "policy", name) for name in ("a", "b", "a")] == [1, 2, 1]
    assert looks.register("other", "policy", "a") == 1
    assert looks.register("set", "penalty", "c") == 3
    looks.write(tmp_path)
    again = Looks.read(tmp_path)
    assert (again.count("set"), again.find("set", "policy", "b"), again.find("set", "policy", "c")) == (3, 2, None)
    assert Looks.read(tmp_path / "nowhere").count("set") == 0
    with pytest.raises(InvalidInputError, match="one side"):
        looks.register("set", "penalty", "a")


def test_looks_that_were_changed_dropped_or_cut_are_noticed(kit, done, tmp_path):
    content, folder = done
    key = kit.SETS[1].key
    original = load(folder / "looks.json")

    def refused(change, match):
        changed = copy.deepcopy(original)
        change(changed["sets"][key])
        (tmp_path / "looks.json").write_text(json.dumps(changed))
        with pytest.raises(CertificateError, match=match):
            kit.verify(content, Looks.read(tmp_path))

    refused(lambda looks: looks.pop(), "as in looks.json")  # fewer looks than rows
    refused(lambda looks: looks.clear(), "as in looks.json")
    refused(lambda looks: looks.pop(0), "number 1")
    refused(lambda looks: looks.reverse(), "number 1")
    refused(lambda looks: looks[0].update(sha256="0" * 64), "chain")
    refused(lambda looks: looks[1].update(side="penalty"), "chain")
    refused(lambda looks: looks[0].update(look=True), "number 1")
    refused(lambda looks: looks.append(looks[0]), "number 4")
    refused(lambda looks: looks[0].pop("chain"), "exactly")
    (tmp_path / "leaderboard.json").write_bytes((folder / "leaderboard.json").read_bytes())
    (tmp_path / "looks.json").unlink()
    with pytest.raises(CertificateError, match="as in looks.json"):  # nor can a new call go on without the file
        update(tmp_path, None, [kit.CHAIN], kit.SETS, kit.ADAPTERS)
