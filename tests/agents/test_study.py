import csv
from itertools import permutations

import numpy as np
import pytest

from agents.parking_lot_study import StudyConfig, run_study
from baselines.parking_lot.samples import wasserstein
from v2g_env.core.validate import InvalidInputError
from v2g_env.parking_lot.instance import Instance
from v2g_env.parking_lot.scenario import Capacity

NAMES = ("samples", "real-days", "relaxation", "radius", "shift", "repeated", "executability", "gate")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    sections = run_study(out, config=StudyConfig(fresh=2000, repetitions=3, days=60, transport=40))
    return dict(zip(NAMES, sections, strict=True)), out


def test_every_section_leaves_its_rows_and_the_report(studied):
    sections, out = studied
    page = (out / "report.html").read_text(encoding="utf-8")
    for name, section in sections.items():
        with (out / f"{name}.csv").open(encoding="utf-8") as stream:
            assert len(list(csv.DictReader(stream))) == len(section.rows)
        assert section.title in page


def test_more_samples_promise_more_and_keep_it(studied):
    rows = studied[0]["samples"].rows
    promised = [row["eps"] for row in rows]
    assert promised == sorted(promised, reverse=True)
    assert all(row["observed"] <= row["eps"] for row in rows)


def test_risk_and_planned_profit_rise_as_violation_gets_cheaper(studied):
    rows = studied[0]["relaxation"].rows
    for name in ("planned_usd", "eps", "observed"):
        values = [row[name] for row in rows]
        assert values == sorted(values), name
    assert all(row["smoothed_low"] <= row["smoothed_observed"] <= row["smoothed_eps"] for row in rows)


def test_a_larger_radius_costs_money_and_never_adds_risk(studied):
    rows = studied[0]["radius"].rows
    planned = [row["planned_usd"] for row in rows]
    assert planned == sorted(planned, reverse=True)
    assert all(row["observed"] <= row["observed_worst_case"] <= row["eps_inflated"] for row in rows)


def test_observed_risk_under_real_shifts_stays_below_the_shift_bound(studied):
    for row in studied[0]["shift"].rows:
        for radius in (4, 8, 16):
            assert row[f"observed_R{radius}"] <= row[f"bound_R{radius}"], row["law"]


def test_the_lower_bound_is_offered_for_the_law_without_ties_only(studied):
    offered = {(row["law"], row["program"][:7]): row["eps_low_offered"] for row in studied[0]["repeated"].rows}
    assert offered == {
        ("generator", "robust"): False,
        ("generator", "relaxed"): False,
        ("smoothed", "robust"): False,
        ("smoothed", "relaxed"): True,
    }


def test_executability_and_an_early_gate_have_a_price(studied):
    assert all(row["price_percent"] > 0 for row in studied[0]["executability"].rows)
    early, late = studied[0]["gate"].rows
    assert early["predictive_control_usd"] < late["predictive_control_usd"] < late["hindsight_usd"]
    assert late["days_violated"] == 0.0


def test_the_transport_distance_is_the_best_of_all_pairings():
    lot = Instance()
    rng = np.random.default_rng(1)

    def draw():
        return Capacity(rng.random((4, lot.steps)) * 100.0, rng.random((4, lot.steps)) * 100.0)

    one, two = draw(), draw()

    def apart(i, j):
        energy = np.abs(one.energy_kwh[i] - two.energy_kwh[j])[:-1].max() / lot.energy_scale_kwh
        return max(energy, np.abs(one.power_kw[i] - two.power_kw[j]).max() / lot.charger_kw)

    best = min(np.mean([apart(i, j) for i, j in enumerate(order)]) for order in permutations(range(4)))
    assert wasserstein(lot, one, two) == pytest.approx(best)
    assert wasserstein(lot, one, one) == 0.0
    assert wasserstein(lot, one, two) == pytest.approx(wasserstein(lot, two, one))


def test_sizes_out_of_range_are_refused():
    with pytest.raises(InvalidInputError, match="repetitions"):
        StudyConfig(repetitions=0)
