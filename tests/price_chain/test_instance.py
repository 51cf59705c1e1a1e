"""Price chain instances and chains: what they hold, how they are estimated, what they refuse."""

import numpy as np
import pytest

from v2g_env.core.validate import InvalidInputError
from v2g_env.price_chain.chain import chain_from_prices, quantised, synthetic_history
from v2g_env.price_chain.instance import Instance

TINY = {
    "steps": 2,
    "price_levels": 2,
    "price_usd_per_kwh": (0.1, 0.3, 0.2, 0.5),
    "price_counts": (3.0, 1.0, 2.0, 2.0, 1.0, 0.0, 0.0, 5.0),
}


def test_default_is_a_chain_whose_rows_are_probabilities_and_whose_levels_are_equally_frequent():
    lot = Instance()
    assert lot.price_rows.shape == (24, 8, 8)
    np.testing.assert_allclose(lot.price_rows.sum(axis=2), 1.0, atol=1e-12)
    counts = lot.chain.counts
    assert counts.sum() == 365 * 24 - 1  # every move but the one after the last hour
    assert (counts.sum(axis=2) >= 44).all()
    assert (np.diff(lot.chain.price_usd_per_kwh, axis=1) > 0).all()
    np.testing.assert_allclose(lot.price_start.sum(), 1.0)
    assert lot.capacity_kwh == 16 * 150


def test_given_counts_are_what_the_chain_is_made_of_and_survive_json():
    lot = Instance(**TINY)
    np.testing.assert_array_equal(lot.price_rows[0], [[0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_array_equal(lot.price_start, [0.5, 0.5])
    back = Instance.from_dict(lot.to_dict())
    assert back == lot
    assert back.hash == lot.hash
    assert lot.replace(start_usd=2.0).hash != lot.hash


def test_synthetic_history_follows_its_profile_and_memory():
    history = synthetic_history(4000, 24, 12.0, 1.0, 0.1, 0.5, 0.9, 5)
    mean = history.mean(axis=0)
    assert mean.argmax() == 7  # 19 h
    assert mean.argmin() in (15, 16)  # 3 or 4 h
    log = np.log(history)
    log -= log.mean(axis=0)
    assert log.std() == pytest.approx(0.5, rel=0.05)
    flat = log.ravel()
    assert np.corrcoef(flat[:-1], flat[1:])[0, 1] == pytest.approx(0.9, abs=0.01)


def test_counts_from_a_history_of_a_known_chain_converge_to_it():
    rng = np.random.default_rng(0)
    truth = np.array([[0.9, 0.1], [0.3, 0.7]])
    level = [0]
    for u in rng.random(24 * 3000 - 1):
        level.append(int(u >= truth[level[-1], 0]))
    history = np.array([0.05, 0.4])[level].reshape(-1, 24) + 1e-6 * rng.random((3000, 24))
    rows = quantised(history, 2)
    # groups of equal size: the stationary law has 3/4 of hours in the low level, so the groups mix a little
    assert rows.counts.sum() == 24 * 3000 - 1
    np.testing.assert_allclose(rows.price_usd_per_kwh[:, 0], 0.05, atol=1e-3)


def test_chain_from_prices_counts_no_move_across_a_gap_and_starts_days_at_the_hour():
    hours = np.arange("2024-01-01T12", "2024-01-21T12", dtype="datetime64[h]")
    rng = np.random.default_rng(1)
    prices = rng.random(len(hours))
    whole = chain_from_prices(hours, prices, 2)
    assert whole.counts.sum() == 20 * 24 - 1
    kept = np.delete(np.arange(len(hours)), [30, 31, 100])
    gaps = chain_from_prices(hours[kept], prices[kept], 2)
    assert gaps.counts.sum() == 20 * 24 - 1 - 3 - 2
    lot = Instance(**whole.fields())
    np.testing.assert_array_equal(lot.chain.counts, whole.counts)
    np.testing.assert_allclose(lot.chain.price_usd_per_kwh.mean(), prices.mean(), atol=1e-8)
    late = chain_from_prices(hours, prices, 2, start_hour=14)
    np.testing.assert_allclose(late.price_usd_per_kwh[0], whole.price_usd_per_kwh[2], atol=0.05)


@pytest.mark.parametrize(
    ("hours", "prices", "text"),
    [
        (["2024-01-01T01", "2024-01-01T00"], [1.0, 2.0], "hour"),
        (["2024-01-01T00:30"], [1.0], "hour"),
        ([], [], "hour"),
        (["2024-01-01T00"], [np.nan], "price_usd_per_kwh"),
        (["2024-01-01T00"], [1.0, 2.0], "price_usd_per_kwh"),
        (["2024-01-01T00"], [1.0], "days with a price at step"),
    ],
)
def test_bad_series_are_refused(hours, prices, text):
    with pytest.raises(InvalidInputError, match=text):
        chain_from_prices(np.array(hours, "datetime64[s]"), np.array(prices), 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 0}, "steps"),
        ({"step_h": 0.0}, "step_h"),
        ({"start_hour": 24.0}, "start_hour"),
        ({"price_levels": 0}, "price_levels"),
        ({"history_days": 5}, "days with a price"),
        ({"history_days": 1}, "history_days"),
        ({"price_seed": -1}, "price_seed"),
        ({"price_memory": 1.0}, "price_memory"),
        ({"price_mean_usd_per_kwh": 0.0}, "price_mean"),
        ({"price_counts": (1.0,)}, "numbers in price_usd_per_kwh and price_counts"),
        ({**TINY, "price_counts": (0.0, 0.0, *TINY["price_counts"][2:])}, r"price_counts\[step 0, level 0\]"),
        ({**TINY, "price_counts": (*TINY["price_counts"][:6], -1.0, 6.0)}, r"price_counts\[step 1, level 1\]"),
        ({**TINY, "price_usd_per_kwh": (0.1, 0.3, 0.2, float("nan"))}, "price_usd_per_kwh"),
        ({"energy_levels": 1}, "energy_levels"),
        ({"start_level": 17}, "start_level"),
        ({"target_level": -1}, "target_level"),
        ({"moves": (1, 2)}, "moves"),
        ({"moves": (0, -1)}, "moves"),
        ({"moves": (0.0, 1.0)}, "moves"),
        ({"moves": (0,)}, "moves"),
        ({"efficiency": 1.1}, "efficiency"),
        ({"power_kw_per_ev": 0.0}, "power_kw_per_ev"),
        ({"presence_evs": (3, 2)}, "presence_evs"),
        ({"presence_evs": ()}, "presence_evs"),
        ({"presence_rows": (0.5,) * 9}, r"presence_rows\[row 0\]"),
        ({"presence_rows": (1.0,)}, "presence_rows"),
        ({"presence_start": 3}, "presence_start"),
        ({"fee_usd_per_kwh": -1.0}, "fee_usd_per_kwh"),
        ({"start_usd": float("inf")}, "start_usd"),
        ({"wear_exponent": 0.5}, "wear_exponent"),
        ({"shortfall_usd_per_kwh": None}, "shortfall_usd_per_kwh"),
        ({"steps": 1000, "energy_levels": 10_000}, "steps x states"),
        ({"steps": 1000, "history_days": 10_000}, "history_days x steps"),
    ],
)
def test_every_bad_field_is_one_error_that_names_it(changes, text):
    with pytest.raises(InvalidInputError, match=text):
        Instance(**changes)


def test_unknown_fields_are_refused():
    with pytest.raises(InvalidInputError, match="prices"):
        Instance.from_dict({"prices": 3})
