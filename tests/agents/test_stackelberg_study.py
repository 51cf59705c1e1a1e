import csv
import json
import math

import pytest

from agents.stackelberg_extension_sections import Extensions
from agents.stackelberg_published import CHARGER, FLEET, TIMES, UTILITY, WORKPLACE
from agents.stackelberg_study import StudyConfig, run_study
from v2g_env.core.validate import InvalidInputError
from v2g_env.stackelberg.instance import Instance

NAMES = (
    "base-day",
    "fleet",
    "charger",
    "utility",
    "fit",
    "times",
    "workplace",
    "community",
    "guarantee",
    "promise",
    "classes",
    "grids",
    "law",
)
CONFIG = StudyConfig(
    random_days=1,
    compositions=1,
    plugged=(0.85,),
    time_limit_s=0.5,
    classes_time_limit_s=1.0,
    sampled_drivers=2000,
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    said = []
    sections = run_study(out, config=CONFIG, say=said.append)
    assert said == [f"study: {name}" for name in NAMES]
    return dict(zip(NAMES, sections, strict=True)), out


def test_every_section_leaves_its_rows_and_the_report(studied):
    sections, out = studied
    page = (out / "report.html").read_text(encoding="utf-8")
    tables = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert list(tables) == list(NAMES)
    for name, section in sections.items():
        with (out / f"{name}.csv").open(encoding="utf-8") as stream:
            assert len(list(csv.DictReader(stream))) == len(section.rows)
        assert section.title in page
        assert tables[name]["rows"] == [dict(row) for row in section.rows]


@pytest.mark.parametrize(
    ("name", "field", "table"),
    [("fleet", "drivers", FLEET), ("charger", "charger_kw", CHARGER), ("utility", "baseline_utility_usd", UTILITY)],
)
def test_ours_stands_beside_the_published_row(studied, name, field, table):
    rows = studied[0][name].rows
    assert [row[field] for row in rows] == list(table) * 2
    for row in rows:
        assert row["published_with_usd"] == table[row[field]].with_usd
        assert row["with_usd"] >= row["without_usd"]
        assert row["gap_percent"] <= 0.011
        assert row["improvement_percent"] == pytest.approx(100.0 * (row["with_usd"] / row["without_usd"] - 1.0))


def test_published_tables_agree_with_their_own_improvements():
    for m, percent in zip(FLEET, (5.15, 4.64, 4.37, 4.20, 4.09, 4.01, 3.95), strict=True):
        assert FLEET[m].improvement_percent == pytest.approx(percent, abs=0.0051)
    for power, percent in zip(CHARGER, (1.43, 4.37, 9.41, 13.50, 19.36, 23.31), strict=True):
        assert CHARGER[power].improvement_percent == pytest.approx(percent, abs=0.0051)
    for utility, percent in zip(UTILITY, (13.40, 7.84, 4.37, 2.29, 0.99, 0.02, 0.0), strict=True):
        assert UTILITY[utility].improvement_percent == pytest.approx(percent, abs=0.0051)
    without = (2.87, 3.23, 3.90, 5.19, 3.40, 4.04, 4.99, 6.99, 5.55, 3.73, 5.78, 5.06, 6.23, 5.43, 5.93, 7.13, 10.46)
    with_work = (0.48, 0.68, 0.42, 0.50, 0.20, 0.35, 0.67, 0.55, 0.52, 0.29, 0.23, 0.37, 0.49, 0.27, 0.14, 0.37, 0.36)
    for row, home, work in zip(WORKPLACE, without, with_work, strict=True):
        assert row.c1 + row.c2 + row.c3 == pytest.approx(1.0)
        assert row.home.improvement_percent == pytest.approx(home, abs=0.0051)
        assert row.work.improvement_percent == pytest.approx(work, abs=0.0051)


def test_the_refit_meets_the_published_gain_and_is_nearer_in_power(studied):
    rows = {row["bids"]: row for row in studied[0]["fit"].rows}
    power = [row for row in studied[0]["charger"].rows if row["bids"] == "ours"]
    off = math.sqrt(sum((row["with_usd"] - row["published_with_usd"]) ** 2 for row in power) / len(power))
    assert rows["ours"]["power_with_usd"] < off


def test_times_are_those_of_proven_answers(studied):
    rows = studied[0]["times"].rows
    assert [row["cluster_1"] for row in rows] == list(TIMES)
    for row in rows:
        assert row["solved_percent"] == 100.0
        assert 0.0 < row["mean_s"] <= row["worst_s"] < row["published_with_inequalities_s"]


def test_workplace_gains_come_with_the_most_that_is_possible(studied):
    for row in studied[0]["workplace"].rows:
        assert row["work_gain_percent"] <= row["work_gain_at_most_percent"]


def test_the_community_pays_more(studied):
    platform, drivers = studied[0]["community"].rows
    assert drivers["mean rebate [$/h]"] > platform["mean rebate [$/h]"]
    assert drivers["correlation with price"] > 0.9
    assert drivers["profit_usd"] >= 0.0


def test_rigorous_bids_keep_their_promise_and_published_ones_do_not(studied):
    rows = studied[0]["promise"].rows
    assert all(row["rigorous, certain ratio"] <= 1.0 and row["rigorous, pjm"] <= 1.0 for row in rows)
    assert all(row["published, certain ratio"] > 1.4 for row in rows)


def test_finer_grids_are_worth_a_little_more(studied):
    rows = {row["case"]: row for row in studied[0]["grids"].rows}
    hourly = [rows[f"hourly, {each}"]["with_usd"] for each in ("11 levels", "21 levels", "continuous")]
    assert hourly == sorted(hourly)
    assert hourly[2] < 1.005 * hourly[0]


def test_the_extremal_law_is_the_model_and_normal_drivers_are_not(studied):
    for row in studied[0]["law"].rows:
        if row["law"].startswith("extremal"):
            assert row["largest_difference"] < 5.0 * 0.5 / math.sqrt(CONFIG.sampled_drivers)
        if row["law"].startswith("independent"):
            assert row["largest_difference"] > 0.1


def test_the_same_seed_gives_the_same_numbers(studied):
    again = Extensions(Instance(), CONFIG).law().rows
    assert again == studied[0]["law"].rows


def test_sizes_out_of_range_are_refused():
    with pytest.raises(InvalidInputError, match="compositions"):
        StudyConfig(compositions=18)
    with pytest.raises(InvalidInputError, match="time_limit_s"):
        StudyConfig(time_limit_s=0.0)
