"""The scheduling study, in sizes of seconds."""

import json

import pytest

from agents.scheduling_answers import PUBLISHED, StudyConfig
from agents.scheduling_sections import BOUNDED
from agents.scheduling_study import run_study
from v2g_env.core.validate import InvalidInputError
from v2g_env.scheduling.instance import Instance

PARTS = (
    *("supply", "objectives", "alpha", "sets", "profiles", "cars", "adjustable", "agreement"),
    *("voltages", "robust dispatch", "chains", "histories"),
)
SMALL = Instance(steps=24, step_h=1.0, gas_ramp_kw=800.0, cars=24)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    out, said = tmp_path_factory.mktemp("study"), []
    config = StudyConfig(
        days=2,
        alphas=(0.0, 1.5, 3.0, 6.0),
        draws=300,
        adjust_days=1,
        episodes=2,
        coordination_gap=1e-2,
    )
    sections = run_study(out, SMALL, config, said.append)
    assert said == [f"study: {name}" for name in PARTS]
    return {section.title: section for section in sections}, out


def number(text):
    return float(str(text).replace("−", "-").split()[0])


def test_published_figures_stand_beside_ours(studied):
    first, *ours = studied[0]["Cost and peak with V2G"].rows
    assert number(first["cost [%]"]) == PUBLISHED["cost_percent"]
    assert number(first["peak of the generator [%]"]) == PUBLISHED["peak_percent"]
    both, charging = (number(row["cost [%]"]) for row in ours)
    assert both <= charging <= 0.0


def test_every_objective_is_best_at_its_own_measure(studied):
    rows = studied[0]["Objectives"].rows
    for row, column in zip(rows, ("cost [$]", "largest deviation [kW]", "generator [kWh]", "peak [kW]"), strict=True):
        assert number(row[column]) <= min(number(other[column]) for other in rows) + 0.011
        assert number(row["proven gap"]) <= 1e-6


def test_violations_of_bounded_laws_stay_below_the_bound_and_cost_rises(studied):
    rows = studied[0]["Cost and violation against the protection level"].rows
    costs = [number(row["planned cost [$]"]) for row in rows]
    assert costs == sorted(costs)
    for row in rows:
        for kind in BOUNDED:
            assert number(row[kind]) <= number(row["bound used"]) + 0.02
    assert [number(rows[-1][kind]) for kind in BOUNDED] == [0.0, 0.0, 0.0]
    assert number(rows[-1]["heavy-tailed"]) > 0.0
    days = studied[0]["Violation by day"].rows
    assert all(number(day["normal"]) >= number(row["normal"]) for day, row in zip(days, rows, strict=True))


def test_sets_promise_what_simulation_keeps(studied):
    for row in studied[0]["Uncertainty sets"].rows:
        if row["promised"] != "–":
            assert all(number(row[kind]) <= number(row["promised"]) + 0.02 for kind in BOUNDED)


def test_caution_about_cars_costs_money_and_keeps_targets(studied):
    rows = studied[0]["Cars that come late and leave early"].rows
    costs = [number(row["planned cost [$]"]) for row in rows]
    assert costs == sorted(costs)
    assert all(number(row["below target, planned for"]) == 0.0 for row in rows)
    assert number(rows[-1]["below target, not planned for"]) > 0.0


def test_rules_cost_no_more_than_plans_and_violate_no_more_than_their_set_allows(studied):
    for row in studied[0]["Rules that adjust"].rows:
        assert number(row["rule [$]"]) <= number(row["plan [$]"]) + 0.01
        assert number(row["rule, periods violated"]) <= 0.5
    assert number(studied[0]["Rules that adjust"].rows[-1]["rule, periods violated"]) == 0.0


def test_aggregators_agree_to_the_proven_gap(studied):
    everyone, *_ = studied[0]["Aggregators that agree"].rows
    assert number(everyone["proven gap"]) <= 1e-2
    assert -1e-6 <= number(everyone["above the central optimum [%]"]) <= 1.0


def test_reactive_support_lifts_voltages_and_robustness_costs(studied):
    rows = studied[0]["Voltages with and without reactive support"].rows
    for with_support, without in (rows[:2], rows[2:]):
        assert number(with_support["lowest voltage [pu]"]) > number(without["lowest voltage [pu]"])
        assert number(with_support["losses [kWh]"]) < number(without["losses [kWh]"])
    rows = studied[0]["Robust dispatch on a feeder"].rows
    costs = [number(row["cost [$]"]) for row in rows]
    assert costs == sorted(costs)
    assert number(rows[0]["steps below the limit"]) > number(rows[-1]["steps below the limit"]) == 0.0


def test_robust_policies_keep_their_promise_and_pay_for_it_on_the_estimate(studied):
    rows = studied[0]["Robust and nominal policies under perturbed chains"].rows
    optimal, *robust, best = rows
    for row in robust:
        assert number(row["promised [$]"]) == pytest.approx(number(row["its worst case [$]"]), abs=0.011)
        assert number(row["0 % harsher [$]"]) <= number(optimal["0 % harsher [$]"])
        assert number(row["100 % harsher [$]"]) > number(optimal["100 % harsher [$]"])
    assert number(best["0 % harsher [$]"]) == number(optimal["0 % harsher [$]"])


def test_everything_is_written(studied):
    sections, out = studied
    page = (out / "report.html").read_text(encoding="utf-8")
    data = json.loads((out / "study.json").read_text(encoding="utf-8"))
    for section in sections.values():
        assert section.title in page
        assert section.slug in data
        assert (out / f"{section.slug}.csv").exists() == bool(section.rows)


@pytest.mark.parametrize(
    ("changes", "named"), [({"days": 0}, "days"), ({"alphas": (-1.0,)}, "alphas"), ({"coordination_gap": 0.0}, "gap")]
)
def test_a_bad_size_is_refused_by_name(changes, named):
    with pytest.raises(InvalidInputError, match=named):
        StudyConfig(**changes)
