import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baselines.stackelberg.promise import violation_probability, worst_violation
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.bids import allowed_bid, coefficients
from v2g_env.stackelberg.game import Requirement
from v2g_env.stackelberg.instance import Instance
from v2g_env.stackelberg.signal import SIGNALS, draw_ratio, ratio_quantiles

GAME = Instance().game()


def fleet(drivers, eta, deviation=0.0, variant="rigorous", power=10.0):
    requirement = Requirement(power, eta, 1.0, deviation, deviation)
    return GAME.replace(drivers=drivers, variant=variant, requirements=(requirement,))


def test_few_cars_by_hand():
    chance = violation_probability([5.0, 10.0, 15.0, 20.0, 0.0, 21.0], [0.8] * 6, 2, 10.0)
    none, below_two = 0.2**2, 1.0 - 0.8**2
    assert chance == pytest.approx([none, none, below_two, below_two, 0.0, 1.0], abs=1e-12)
    # one car, r uniform in [0.5, 1.5]: a bid of 10 fails without the car, or with it if r > 1
    assert violation_probability([10.0], [0.7], 1, 10.0, [0.5, 1.5])[0] == pytest.approx(0.3 + 0.7 * 0.5)
    assert violation_probability([10.0], [0.0], 1, 10.0, [0.5, 1.5])[0] == 1.0


def test_sums_agree_with_simulation():
    law = SIGNALS["pjm"]
    rng = np.random.default_rng(5)
    n = 200_000
    for drivers, y, bid in ((5, 0.6, 22.0), (20, 0.8, 140.0), (200, 0.55, 1050.0)):
        seen = np.mean(10.0 * rng.binomial(drivers, y, n) < draw_ratio(law, rng, n) * bid)
        exact = violation_probability([bid], [y], drivers, 10.0, ratio_quantiles(law.deviation))[0]
        assert seen == pytest.approx(exact, abs=5.0 * np.sqrt(exact * (1.0 - exact) / n))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 5, 20, 77, 200]),
    st.floats(0.01, 0.3),
    st.sampled_from([0.0, 0.055, 0.178]),
    st.floats(0.5, 50.0),
)
def test_rigorous_bids_keep_their_promise_at_every_share(drivers, eta, deviation, power):
    worst = worst_violation(
        fleet(drivers, eta, deviation, power=power), ratio_quantiles(deviation) if deviation else None
    )
    assert worst.probability <= eta * (1.0 + 1e-9)


@pytest.mark.parametrize("eta", [0.01, 0.05, 0.1])
def test_published_bids_of_one_driver_fail_by_a_known_factor(eta):
    # the smallest share with a bid is beta^2 / (1 + beta^2), and the bid fails whenever the only car is away
    beta_squared = -2.0 * np.log(eta)
    worst = worst_violation(fleet(1, eta, variant="published"))
    assert worst.plugged_share == pytest.approx(beta_squared / (1.0 + beta_squared))
    assert worst.probability == pytest.approx(1.0 / (1.0 + beta_squared))
    assert worst.probability > 1.7 * eta


def test_published_bids_fail_in_large_fleets_too():
    game = fleet(200, 0.05, variant="published")
    worst = worst_violation(game)
    assert worst.probability > 2.0 * 0.05
    # the same by the definitions: the bid just above needs every car but a few
    bid = allowed_bid(np.array([[[worst.plugged_share]]]), np.ones(1), coefficients(game), False)[0]
    assert violation_probability(bid, [worst.plugged_share], 200, 10.0)[0] == worst.probability


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([-1.0], [0.5], 2, 10.0), "bid_kw"),
        (([1.0], [1.5], 2, 10.0), "plugged_share"),
        (([1.0], [0.5], 0, 10.0), "drivers"),
        (([1.0], [0.5], 2, 0.0), "power_kw"),
        (([1.0], [0.5], 2, 10.0, [1.0]), "quantiles"),
        (([1.0], [0.5], 2, 10.0, [1.0, 0.5]), "quantiles"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, name):
    with pytest.raises(InvalidInputError, match=name):
        violation_probability(*arguments)
