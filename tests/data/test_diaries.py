"""The table of driver clusters follows from the diaries; other survey years are read into the same statistics."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import v2g_env.data
from v2g_env.core.validate import InvalidInputError
from v2g_env.data.diaries import (
    Diary,
    Trip,
    clusters_of,
    load_clusters,
    read_clusters,
    read_gmlc,
    read_nhts,
    to_csv,
)

SHIPPED = Path(v2g_env.data.__file__).with_name("driver_clusters.csv")
SCRIPT = Path(v2g_env.data.__file__).parents[2] / "scripts" / "driver_clusters"
FOLDER = os.environ.get("V2G_NHTS_FOLDER", "")
with_diaries = pytest.mark.skipif(not FOLDER, reason="V2G_NHTS_FOLDER does not name a folder with gmlc_nhts_*.txt")
HOME, WORK, ELSEWHERE = range(3)


@with_diaries
def test_shipped_table_follows_from_the_diaries_to_every_digit():
    made = subprocess.run([sys.executable, SCRIPT, FOLDER], check=True, capture_output=True).stdout
    assert made == SHIPPED.read_bytes()


@with_diaries
def test_repaired_diaries_all_end_at_home():
    diaries = read_gmlc(FOLDER, repair=True)
    assert len(diaries) == 834
    assert {each.trips[-1].place for each in diaries} == {HOME}
    lost = [each for each in read_gmlc(FOLDER) if each.trips[-1].place != HOME]
    assert len(lost) == 2


def test_shipped_shares_add_up():
    clusters = load_clusters()
    assert {name: each.vehicles for name, each in clusters.items()} == {
        "commuters": 110,
        "home_based": 527,
        "mixed": 197,
    }
    assert sum(each.share for each in clusters.values()) == pytest.approx(1.0, abs=2e-5)
    for each in clusters.values():
        assert each.share == pytest.approx(each.vehicles / 834, abs=5e-6)
        assert each.present.sum(1) == pytest.approx(np.ones(24), abs=3e-5)
        assert each.start.sum(1) == pytest.approx(np.ones(24), abs=2e-5)
        assert each.flow.sum(2) == pytest.approx(each.start, abs=2e-5)  # all leave from where they are
        assert each.flow.sum(1) == pytest.approx(np.roll(each.start, -1, axis=0), abs=3e-5)  # and arrive


def test_table_survives_writing_and_reading():
    assert to_csv(load_clusters()).encode() == SHIPPED.read_bytes()


COMMUTER = Diary(HOME, (Trip(7 * 60 + 30, 8 * 60 + 15, WORK), Trip(17 * 60, 17 * 60 + 45, HOME)))
SHOPPER = Diary(HOME, (Trip(10 * 60, 10 * 60 + 30, ELSEWHERE), Trip(11 * 60, 11 * 60 + 30, HOME)))


def test_hand_made_diaries_fall_into_their_clusters():
    outing = Diary(HOME, (Trip(600, 630, ELSEWHERE), Trip(900, 930, HOME)))
    clusters = clusters_of([COMMUTER, SHOPPER, SHOPPER, outing])
    assert {name: each.vehicles for name, each in clusters.items()} == {"commuters": 1, "home_based": 2, "mixed": 1}
    assert clusters["home_based"].share == 0.5


def test_vehicle_on_the_road_counts_where_it_parks_next():
    only = clusters_of([COMMUTER])["commuters"]
    assert only.start[8].tolist() == [0.0, 1.0, 0.0]  # on the road to work from 7:30 to 8:15
    assert only.present[8].tolist() == [0.0, 0.75, 0.0, 0.25]
    assert only.flow[7, HOME, WORK] == 1.0
    assert only.start[17].tolist() == [1.0, 0.0, 0.0]  # leaves at 17:00 sharp
    assert only.flow[16, WORK, HOME] == 1.0


def test_stop_without_stay_is_passed_over():
    trips = (Trip(410, 450, ELSEWHERE), Trip(450, 485, WORK), Trip(1020, 1040, HOME))
    only = clusters_of([Diary(HOME, trips)])["commuters"]
    assert only.start[7].tolist() == [0.0, 1.0, 0.0]


def write_nhts(path, rows, columns="HOUSEID,VEHID,PERSONID,STRTTIME,ENDTIME,TRPMILES,DRVR_FLG,WHYFROM,WHYTO,TRAVDAY"):
    path.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def test_survey_of_2017_is_read_into_the_same_statistics(tmp_path):
    rows = [
        ("30000007", "01", "01", "0730", "0815", 12, "01", "01", "03", "02"),
        ("30000007", "01", "01", "1700", "1745", 12, "01", "03", "01", "02"),
        ("30000007", "02", "02", "1100", "1130", 3, "01", "11", "01", "02"),  # out of order
        ("30000007", "02", "02", "1000", "1030", 3, "01", "01", "11", "02"),
        ("30000007", "02", "01", "1000", "1030", 3, "02", "01", "11", "02"),  # a passenger's report of the same trip
        ("30000008", "-1", "01", "1000", "1030", 3, "-1", "01", "11", "02"),  # a walk
        ("30000009", "01", "01", "-9", "1030", 3, "01", "01", "11", "02"),  # no time
        ("30000010", "01", "01", "1000", "1130", 3, "01", "01", "11", "02"),  # trips overlap
        ("30000010", "01", "01", "1100", "1230", 3, "01", "11", "01", "02"),
    ]
    diaries = read_nhts(write_nhts(tmp_path / "trippub.csv", rows))
    assert to_csv(clusters_of(diaries)) == to_csv(clusters_of([COMMUTER, SHOPPER]))


def test_travel_day_runs_from_four_to_four(tmp_path):
    rows = [
        (1, 1, 1, 2200, 2230, 5, 1, 1, 13, 7),
        (1, 1, 1, 130, 200, 5, 1, 13, 1, 7),  # after midnight, so the way back
        (2, 1, 1, 330, 430, 5, 1, 13, 1, 2),  # cut at 4 o'clock
    ]
    path = write_nhts(tmp_path / "tripv2pub.csv", rows)
    night, cut = read_nhts(path)
    assert night == Diary(HOME, (Trip(1080, 1110, ELSEWHERE), Trip(1290, 1320, HOME)), 4)
    assert cut == Diary(ELSEWHERE, (Trip(1410, 1440, HOME),), 4)
    only = clusters_of([night])["mixed"]
    assert only.present[1].tolist() == [0.0, 0.0, 0.5, 0.5]
    assert only.start[:4, HOME].tolist() == [0.0, 0.0, 1.0, 1.0]
    assert only.start[22, ELSEWHERE] == 1.0
    assert read_nhts(path, weekdays_only=True) == [cut]


def test_purposes_of_places_can_be_named(tmp_path):
    path = write_nhts(tmp_path / "trips.csv", [(1, 1, 1, 900, 930, 5, 1, 1, 11, 3)])
    assert read_nhts(path)[0].trips[0].place == ELSEWHERE
    assert read_nhts(path, work=(11,))[0].trips[0].place == WORK


@pytest.mark.parametrize(
    ("rows", "columns", "text"),
    [
        ([(1, 2)], "HOUSEID,VEHID", "a header with 'STRTTIME'"),
        ([(1, 1, 1, "ten", 930, 5, 1, 1, 11, 3)], None, "row 1 = .*allowed: whole numbers"),
        ([(1, 1, 1, 900, "inf", 5, 1, 1, 11, 3)], None, "row 1 = .*allowed: whole numbers"),
        ([(1, 1, 1, 900, 930, 5, 2, 1, 11, 3)], None, "usable vehicles in .* = 0"),
        ([(1, 1)], None, "row 1"),
    ],
)
def test_bad_trip_files_are_refused(tmp_path, rows, columns, text):
    path = write_nhts(tmp_path / "trips.csv", rows, **({"columns": columns} if columns else {}))
    with pytest.raises(InvalidInputError, match=text):
        read_nhts(path)


def write_gmlc(folder, start, end, why, miles=None):
    for name, rows in (("STRTTIME", start), ("ENDTIME", end), ("TRPMILES", miles or start), ("WHYTO", why)):
        lines = [" ".join(f"{value:.3f}" for value in (1.5, *row)) for row in rows]
        (folder / f"gmlc_nhts_{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def test_gmlc_extract_is_read_with_and_without_repair(tmp_path):
    write_gmlc(
        tmp_path,
        start=[(730, 1700, 0), (1000, 1100, 1200), (900, 1000, 0)],
        end=[(815, 1745, 0), (1030, 1130, 1210), (-9, 1010, 0)],
        why=[(11, 1, 0), (-7, 41, 1), (41, 1, 0)],
    )
    assert read_gmlc(tmp_path)[0] == COMMUTER
    assert [len(each.trips) for each in read_gmlc(tmp_path)] == [2, 2]  # the third has no end
    assert [len(each.trips) for each in read_gmlc(tmp_path, repair=True)] == [2, 3]
    assert read_gmlc(tmp_path, repair=True)[1].trips[0] == Trip(600, 630, ELSEWHERE)


def test_bad_gmlc_extracts_are_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="gmlc_nhts_STRTTIME.txt"):
        read_gmlc(tmp_path)
    write_gmlc(tmp_path, [(730, 0)], [(815, 0)], [(1, 0, 0)])
    with pytest.raises(InvalidInputError, match="shapes of the tables"):
        read_gmlc(tmp_path)
    (tmp_path / "gmlc_nhts_WHYTO.txt").write_text("1.5 home 0\n")
    with pytest.raises(InvalidInputError, match="allowed: numbers"):
        read_gmlc(tmp_path)


def test_bad_tables_are_refused():
    text = SHIPPED.read_text()
    with pytest.raises(InvalidInputError, match="header"):
        read_clusters(text.replace("hour", "stunde", 1))
    with pytest.raises(InvalidInputError, match="hours of mixed"):
        read_clusters(text[: text.rindex("mixed")])
    with pytest.raises(InvalidInputError, match="row 1 = .*allowed: numbers"):
        read_clusters(text.replace("1.0", "one", 1))
    with pytest.raises(InvalidInputError, match="shares in"):
        read_clusters(text.replace("1.0", "1.5", 1))
    with pytest.raises(InvalidInputError, match="diaries = 0"):
        clusters_of([])
