import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agents.shared_battery_answers import StudyConfig, World
from agents.shared_battery_log_sections import log_fleets, no_log, read_log_of, recorded, recorded_needs
from agents.shared_battery_promise_sections import BETA, CORRELATIONS, Promises
from agents.shared_battery_published import (
    LEAST_REDUCTION_PERCENT,
    RELIABILITY_AT_CAPACITY,
    RULES_COMPARED,
    SAVING_KWH,
)
from agents.shared_battery_reliability_sections import POOLED, TIED, Reliability
from agents.shared_battery_sections import ALGORITHM, EXACT, HIGH_TARGETS, TARGETS, Reductions
from agents.shared_battery_size_sections import RATIOS
from agents.shared_battery_study import run_study
from agents.shared_battery_variation_sections import BINS_KWH, STRICT_EPS, UNITS_KWH
from v2g_env.core.validate import InvalidInputError
from v2g_env.shared_battery.instance import Instance

NAMES = (
    "reliability",
    "all-shared",
    "growth",
    "above",
    "prices",
    "conservatism",
    "certificates",
    "algorithm",
    "normal",
    "rules",
    "targets",
    "units",
    "bins",
    "log",
)
TABLES = ("candidates", "trials", "certificates-all")
CONFIG = replace(StudyConfig.quick(), trials=3, lists=2, repetitions=10, hold_out_trials=3)
NORWAY = Path(__file__).parents[3] / "shared" / "data" / "norway" / "Dataset_1_EV_charging_reports.csv"


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    said = []
    # targets of another number of drivers than the sections': they are the study's own
    instance = Instance(drivers=3, eps=(0.1, 0.2, 0.3))
    sections = run_study(out, instance, CONFIG, said.append)
    assert said == [f"study: {name}" for name in NAMES]
    return dict(zip(NAMES, sections, strict=True)), out


def rows_of(studied, name):
    return studied[0][name].rows


def table_of(studied, name):
    return json.loads((studied[1] / "study.json").read_text(encoding="utf-8"))["tables"][name]


def test_every_section_leaves_its_rows_and_the_report(studied):
    sections, out = studied
    page = (out / "report.html").read_text(encoding="utf-8")
    data = json.loads((out / "study.json").read_text(encoding="utf-8"))
    assert list(data) == [*NAMES, "tables"]
    for name, section in sections.items():
        assert len(section.rows) > 0
        with (out / f"{name}.csv").open(encoding="utf-8") as stream:
            read = list(csv.DictReader(stream))
        assert [list(row) for row in read] == [list(row) for row in section.rows]
        for text, row in zip(read, section.rows, strict=True):
            for key, value in row.items():
                assert text[key] == ("" if value is None else str(value))
        assert section.title in page
        assert data[name]["rows"] == [dict(row) for row in section.rows]
        assert (section.draw is not None) == (out / "figures" / f"{section.slug}.svg").exists()
    for name in TABLES:
        with (out / f"{name}.csv").open(encoding="utf-8") as stream:
            assert len(list(csv.DictReader(stream))) == len(data["tables"][name]) > 0


def test_ours_stands_beside_the_published_row(studied):
    rows = rows_of(studied, "reliability")
    ours = [row for row in rows if row["sizes"] != "published"]
    assert len(ours) == 6 * len(CONFIG.fleets)
    published = {row["drivers"]: row["reliability of 35 kWh"] for row in rows if row["sizes"] == "published"}
    assert published == RELIABILITY_AT_CAPACITY
    assert rows[-1]["saving_at_0.75_kwh"].startswith("5 to 10")
    savings = [[row[f"saving_at_{level:g}_kwh"] for row in ours] for level in sorted(SAVING_KWH)]
    assert np.mean(savings[1]) > np.mean(savings[0]) > 0.0


def test_the_proportional_rule_serves_nobody_whom_the_others_miss(studied):
    for row in table_of(studied, "candidates"):
        assert row["proportional"] <= min(row["first_come"], row["utilitarian"])


def test_both_optima_cost_the_same_and_sharing_all_is_more_reliable(studied):
    candidates = table_of(studied, "candidates")
    tied = {(row["drivers"], row["list"], row["n_samples"]): row for row in candidates if row["sizes"] == TIED}
    pooled = [row for row in candidates if row["sizes"] == POOLED]
    for row in pooled:
        same = tied[row["drivers"], row["list"], row["n_samples"]]
        assert row["capacity_per_driver_kwh"] == same["capacity_per_driver_kwh"]
        assert row["shared_per_driver_kwh"] == pytest.approx(row["capacity_per_driver_kwh"])
        assert same["shared_per_driver_kwh"] <= row["shared_per_driver_kwh"] * (1.0 + 1e-9)
    assert all(row["median"] > 0.0 for row in rows_of(studied, "all-shared"))


def test_the_reduction_grows_with_drivers_and_target(studied):
    rows = {(row["target"], row["drivers"]): row["median_percent"] for row in rows_of(studied, "growth")}
    few, many = CONFIG.growth
    for target in TARGETS:
        assert rows[target, many] > rows[target, few]
    assert rows[0.8, many] < rows[0.9, many] < rows[0.95, many]
    trials = [row for row in table_of(studied, "trials") if (row["target"], row["drivers"]) == (0.9, many)]
    assert np.median([row["reduction_percent"] for row in trials]) == rows[0.9, many]
    assert all(row["reliability"] >= row["target"] for row in table_of(studied, "trials"))


def test_certified_reductions_above_the_high_target(studied):
    rows = rows_of(studied, "above")
    for n in CONFIG.fleets:
        for target in HIGH_TARGETS:
            size = {
                row["sizes"]: row["capacity_per_driver_kwh"]
                for row in rows
                if (row["drivers"], row["target"]) == (n, target)
            }
            assert size["(P-S), utilitarian"] < size["(P-SI)"]
            assert size[EXACT] < size["(P-SI)"]
    for row in rows:
        assert row["certified"] == (row["sizes"] not in (ALGORITHM, EXACT))
        if row["target"] > 0.95 and row["drivers"] >= 25:
            assert row["reduction_percent"] >= LEAST_REDUCTION_PERCENT


def test_cheaper_own_capacity_means_more_of_it(studied):
    rows = rows_of(studied, "prices")
    tied, pooled = rows[0], rows[1]
    assert pooled["cost_usd"] == pytest.approx(tied["cost_usd"])
    assert pooled["own_per_driver_kwh"] == 0.0
    assert all(pooled[rule] >= tied[rule] for rule in RULES_COMPARED)
    programs = [tied, *rows[2:]]
    assert [row["own over shared price"] for row in programs] == list(RATIOS)
    own = [row["own_per_driver_kwh"] for row in programs]
    cost = [row["cost_usd"] for row in programs]
    assert own == sorted(own)
    assert cost == sorted(cost, reverse=True)
    assert all(row["eps(k)"] < row["eps a priori"] for row in rows)


def test_certificates_keep_the_target_at_falling_cost(studied):
    rows = {row["sizes"]: row for row in rows_of(studied, "conservatism")}
    for name, row in rows.items():
        assert row["certified limit"] <= 0.05
        if name != "separate, exact quantiles":
            assert row["worst driver missed"] < row["certified limit"]
    cost = [rows[f"(P-SI), {each}"]["cost_usd"] for each in ("textbook N (2006)", "a priori N (2008)", "N by eps(k)")]
    assert cost == sorted(cost, reverse=True)
    assert rows["(P-S), utilitarian"]["cost_usd"] < cost[-1] < rows["separate, exact quantiles"]["cost_usd"]


def test_certificates_hold_with_correlation_where_independence_breaks(studied):
    rows = rows_of(studied, "certificates")
    assert [row["correlation"] for row in rows] == list(CORRELATIONS)
    for row in rows:
        assert row["above eps(k)"] <= row["allowed"] + 2.0
        assert row["normal needs, simulated"] == pytest.approx(row["normal needs, formula"], abs=0.015)
        assert row["mean true violation"] < row["mean eps(k)"]
    breaks = [row["sizes for independent needs"] for row in rows]
    assert breaks[0] == pytest.approx(0.1, abs=1e-3)
    assert breaks[0] < breaks[1] < breaks[2]


def test_the_certified_grid_keeps_its_promise(studied):
    rows = [row for row in rows_of(studied, "algorithm") if row["target"] is not None]
    for target in {row["target"] for row in rows}:
        mine = [row for row in rows if row["target"] == target]
        grid = mine[-1]
        assert grid["what"].startswith("certified grid")
        assert 0 < grid["cases"] <= CONFIG.hold_out_trials
        assert grid["allowed"] == BETA
        assert grid["share"] <= 0.25
        assert grid["mean true reliability"] > max(row["mean true reliability"] for row in mine[:-1])
    steps = [row["share"] for row in rows_of(studied, "algorithm") if row["what"].startswith("steps")]
    assert 1.0 >= steps[0] >= steps[1] >= steps[2] >= 0.0


def test_closed_forms_agree_with_the_simulation(studied):
    for row in rows_of(studied, "normal"):
        assert row["simulated"] == pytest.approx(row["saving"], abs=0.02)
        assert row["saving by the published bound"] < row["saving"]
        assert row["violation of exact sizes"] == pytest.approx(row["eps"], rel=0.2)
        assert row["violation of the bound's sizes"] < row["eps"]


def test_rules_differ_where_the_battery_is_scarce(studied):
    scarce = {row["rule"]: row for row in rows_of(studied, "rules")[6:]}
    sharing = [row for rule, row in scarce.items() if rule != "equal split"]
    assert max(sharing, key=lambda row: row["mean driver"])["rule"] == "utilitarian"
    assert min(sharing, key=lambda row: row["mean driver"])["rule"] == "proportional"
    assert scarce["equal split"]["missing_kwh"] > scarce["proportional"]["missing_kwh"]
    assert all(row["million driver-days per s"] > 0.0 for row in scarce.values())


def test_different_targets_help_only_who_looks_at_them(studied):
    cost = {(row["targets"], row["sizes"]): row["cost_usd"] for row in rows_of(studied, "targets")}
    assert cost["mixed", "(P-SI), certified"] == cost["all strict", "(P-SI), certified"]
    for sizes in ("separate, exact", "(P-S), utilitarian, certified"):
        assert cost["mixed", sizes] < cost["all strict", sizes]
    for row in rows_of(studied, "targets"):
        assert row["limit, strict drivers"] <= STRICT_EPS + 1e-12


def test_units_cost_more_and_whole_ones_most(studied):
    rows = rows_of(studied, "units")
    divided, whole = rows[:3], rows[3:]
    assert [row["unit_kwh"] for row in rows] == list(UNITS_KWH) * 2
    assert all(row["cost_usd"] >= row["bound_usd"] >= row["without_units_usd"] * (1.0 - 1e-9) for row in rows)
    assert max(row["more_percent"] for row in divided) < min(row["more_percent"] for row in whole)


def test_bin_widths(studied):
    rows = rows_of(studied, "bins")
    assert [row["bin_kwh"] for row in rows] == list(BINS_KWH)
    needs = [row["mean_need_kwh"] for row in rows]
    assert needs == sorted(needs)
    assert rows[0]["reduction_percent"] == pytest.approx(rows[1]["reduction_percent"], abs=1.0)


def test_without_a_log_the_section_says_what_to_pass(studied):
    assert "No log was given" in studied[0]["log"].text
    assert rows_of(studied, "log") == no_log().rows
    assert "vehicle, start, end, distance" in rows_of(studied, "log")[0]["columns"]


def test_the_same_seed_gives_the_same_numbers(studied):
    again = Promises(World(Instance()), CONFIG, {}).normal().rows
    assert again == rows_of(studied, "normal")


def a_log(path, drivers=12, days=40):
    rng = np.random.default_rng(3)
    lines = ["user,start,end,energy_kwh"]
    for i in range(drivers):
        common = np.random.default_rng(4).random(days)  # the same for every driver: correlated days
        for d in range(days if i else 5):  # the first driver has few days
            energy = (4.0 + i) * (common[d] + 0.3 * rng.random())
            lines.append(
                f"d{i:02},2021-03-{d % 28 + 1:02}T10:00:00,,{energy:.3f}"
                if d < 28
                else f"d{i:02},2021-04-{d - 27:02}T10:00:00,,{energy:.3f}"
            )
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_sections_on_recorded_drivers(tmp_path):
    config = replace(CONFIG, log=a_log(tmp_path / "log.csv"))
    log = read_log_of(config)
    assert "d00" not in log.drivers and len(log.drivers) == 11
    needs = recorded_needs(log, config)
    assert log_fleets(needs) == (11,)
    rows = {row["what"]: row["value"] for row in recorded(log, needs, config).rows}
    assert rows["drivers"] == 11
    assert rows["pairs with 30 common days"] == 55
    assert rows["correlation of a pair, median"] > 0.8
    world, config = World(Instance(), needs), replace(config, fleets=log_fleets(needs), trials=2)
    tables = {}
    reliability = Reliability(world, config, tables, "recorded drivers")
    assert len(reliability.tied().rows) == 6 + 3
    assert reliability.pooled().title.endswith("recorded drivers")
    above = Reductions(world, config, tables, "recorded drivers").above()
    assert {row["drivers"] for row in above.rows} == {11}
    assert set(tables) == {"log-candidates", "log-trials"}


@pytest.mark.skipif(not NORWAY.exists(), reason="the Norwegian log is not part of the product")
def test_the_norwegian_log():
    config = replace(CONFIG, log=NORWAY, log_kind="norwegian")
    log = read_log_of(config)
    needs = recorded_needs(log, config)
    assert log_fleets(needs) == (25, 50, 57)
    rows = {row["what"]: row["value"] for row in recorded(log, needs, config).rows}
    assert rows["driver-day [kWh], 50% quantile"] == pytest.approx(12.9, abs=0.5)
    assert abs(rows["correlation of a pair, median"]) < 0.1


def test_sizes_out_of_range_are_refused(tmp_path):
    for field, value in (
        ("fleets", ()),
        ("fleets", (50, 25)),
        ("growth", (1, 5)),
        ("counts", (0, 5)),
        ("trials", 0),
        ("trials", 2.5),
        ("price_samples", CONFIG.price_drivers),
        ("start_samples", 9),
        ("tau", 0.0),
        ("beta", 1.0),
        ("seed", -1),
        ("log_kind", "diary"),
    ):
        with pytest.raises(InvalidInputError, match=field):
            replace(CONFIG, **{field: value})
    with pytest.raises(InvalidInputError, match="drivers"):
        World(Instance(), recorded_needs(read_log_of(replace(CONFIG, log=a_log(tmp_path / "a.csv"))), CONFIG)).fleet(
            50, 0.1
        )
    with pytest.raises(InvalidInputError, match="absent"):
        run_study(tmp_path / "out", config=replace(CONFIG, log=tmp_path / "absent.csv"))
    assert not (tmp_path / "out").exists()
