from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from agents.parking_lot import CompareConfig, run
from agents.parking_lot_figures import draw_day, profiles
from agents.parking_lot_report import sections
from agents.report import Section, write_report, write_study_report
from v2g_env.core.validate import InvalidInputError

VOID = {"meta", "br", "hr", "img", "link"}


class Page(HTMLParser):
    """Collects text, attributes and headings, and checks that tags close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.text, self.links, self.ids, self.headings = "", [], [], []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        """Remember where the tag points."""
        if tag not in VOID:
            self._open.append(tag)
        values = dict(attrs)
        self.links += [values[name] for name in ("src", "href", "xlink:href", "action", "data") if name in values]
        self.ids += [values["id"]] if "id" in values else []

    def handle_startendtag(self, tag, attrs):
        """An SVG element without content."""
        self.handle_starttag(tag, attrs)
        self._open = self._open[:-1] if tag not in VOID else self._open

    def handle_endtag(self, tag):
        """Only the tag opened last may close."""
        assert self._open.pop() == tag

    def handle_data(self, data):
        """Text of the page, headings apart."""
        if "style" not in self._open:
            self.text += data + "\n"
            self.headings += [data] if self._open and self._open[-1] == "h2" else []


@pytest.fixture(scope="session")
def comparison(tmp_path_factory):
    config = CompareConfig(n_samples=200, train_days=50, test_days=40, redraws=1, agents=(), rho=(0.1,))
    return run(config, tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="session")
def with_agent(comparison):
    """The same comparison, in which two of the policies pass for agents."""
    groups = []
    for results in comparison.results:
        cheap = next(result for result in results if result.row.policy == "charge when cheap")
        fakes = [
            replace(cheap, row=replace(cheap.row, policy=name, kind="agent")) for name in ("PPO", "PPO after imitation")
        ]
        groups.append((*results, *fakes))
    config = comparison.meta["config"] | {"agents": ("parking_lot_ppo", "parking_lot_imitation_ppo")}
    return replace(comparison, results=tuple(groups), meta=comparison.meta | {"config": config})


@pytest.fixture(scope="session")
def page(comparison, tmp_path_factory):
    return Page(write_report(comparison, tmp_path_factory.mktemp("report")).read_text(encoding="utf-8"))


def everything(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_policy_and_every_number_of_the_results_is_on_the_page(comparison, page):
    for results in comparison.results:
        for row in (result.row for result in results):
            assert row.policy in page.text
            for number in (row.mean_usd, row.gap_usd, row.shortfall_kwh):
                assert f"{number:.2f}".replace("-", "−") in page.text
            assert f"±\u00a0{(row.high_usd - row.low_usd) / 2:.2f}" in page.text
            assert f"{row.violated} / {row.trials}" in page.text
            assert f"{100 * row.limit:.3g}\u00a0%" in page.text
            assert f"{row.decision_us:.1f}" in page.text
            if row.promised is not None:
                assert f"{100 * row.promised:.3g}\u00a0%" in page.text


def test_the_page_says_what_was_run_and_how_to_check(comparison, page):
    config = comparison.meta["config"]
    for words in (
        comparison.meta["instance_sha256"],
        f"{config['n_samples']} days",
        "1e-05",
        "programs 1, tuning days 2",
        "v2g check",
        "certificates",
        "2511.09427",
        "48 held-out real days",
    ):
        assert words in page.text
    assert page.headings == [section.title for section in sections(comparison)]


def test_the_page_needs_nothing_else(page):
    assert page.links
    for link in page.links:
        assert link.startswith("#"), link
        assert link[1:] in page.ids
    assert len(page.ids) == len(set(page.ids))
    html = page.html
    assert not re.search(r"<(script|link|img|iframe|object)|@import|@font-face|url\((?!#)", html)
    assert set(re.findall(r'https?://[^"\s<]+', html)) <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_comparison_gives_the_same_bytes_and_leaves_no_settings_behind(with_agent, tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write_report(with_agent, tmp_path / "a")
    with mpl.rc_context({"font.size": 30.0, "axes.grid": False, "svg.fonttype": "path"}):
        write_report(with_agent, tmp_path / "b")
    assert dict(mpl.rcParams) == before
    first = everything(tmp_path / "a")
    assert first == everything(tmp_path / "b")
    assert {path.name for path in first} >= {"report.html", "comparison.png", "one-day-in-detail.svg"}
    assert not any(path.name.endswith(".part") for path in first)
    # hashing of strings differs between processes; a report must not
    script = (
        "from agents.figures import svg; import sys; sys.stdout.write(svg(lambda a: a.plot([1, 2], 'o'), (3, 2), 'x'))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_agents_are_emphasised_and_compared_first(with_agent, tmp_path):
    several = sections(with_agent)
    html = write_study_report([section for section in several if section.draw is None], tmp_path).read_text("utf-8")
    assert '<tr class="agent"><td class="short">PPO</td>' in html
    section = next(section for section in several if section.title == "Against predictive control")
    assert [row["policy"] for row in section.rows[:2]] == ["PPO", "PPO after imitation"]
    assert "parking_lot_ppo, 1200000 steps; parking_lot_imitation_ppo, 599040 steps" in Page(html).text


def test_no_section_on_predictive_control_without_it(comparison):
    results = tuple(tuple(r for r in group if "predictive" not in r.row.policy) for group in comparison.results)
    titles = [section.title for section in sections(replace(comparison, results=results))]
    assert "Against predictive control" not in titles
    assert "One day in detail" in titles


def test_text_from_outside_is_escaped(comparison, tmp_path):
    evil = "<script>alert('&')</script>"
    results = tuple(
        tuple(replace(r, row=replace(r.row, policy=evil)) if r.row.policy == "least laxity" else r for r in group)
        for group in comparison.results
    )
    html = write_report(replace(comparison, results=results), tmp_path / "a").read_text(encoding="utf-8")
    assert "<script" not in html
    assert evil in Page(html).text
    section = Section(f"A {evil}", f"b {evil} `c {evil}`", [{evil: evil}], lambda axes: axes.set_title(evil))
    html = write_study_report([section], tmp_path / "b", title=evil, lead=evil).read_text(encoding="utf-8")
    assert "<script" not in html
    Page(html)


def test_what_is_drawn_of_the_day_is_what_happened(comparison):
    test, results = comparison.tests[0], comparison.results[0]
    day = 7
    shown = profiles(test, results, day)
    capacity = test.scenario.capacity_kwh[day, :-1]
    for result, profile in zip(results, shown, strict=False):
        assert (profile.stored_kwh <= capacity + 1e-9).all()
        np.testing.assert_allclose(
            np.maximum(profile.closed_kwh - profile.stored_kwh, 0.0).sum(),
            result.episodes.shortfall_kwh[day],
            atol=1e-9,
        )
        assert not profile.violated.any() or result.row.violated > 0
    assert (shown[-1].stored_kwh <= capacity + 1e-9).all()

    from matplotlib.figure import Figure

    axes = Figure().subplots()
    draw_day(test.model.instance, capacity, shown)(axes)
    assert {profile.name for profile in shown} <= {text.get_text() for text in axes.get_legend().get_texts()}


def test_a_study_becomes_a_page(tmp_path):
    rows = [
        {"N": 100, "observed_usd": 0.012346, "law": "a", "holds": True, "left": None},
        {"N": 2000, "observed_usd": -12.5, "law": "b", "holds": False, "left": float("inf")},
    ]
    sections_ = [
        Section(
            "First & last", "One.\n\nTwo `x < y`.\n\n- a\nb\n- c", rows, lambda axes: axes.semilogx([1, 10], [0, 1])
        ),
        Section("Table alone", "Text.", rows),
        Section("Nothing but text", "Text.", []),
    ]
    path = write_study_report(sections_, tmp_path)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    assert path == tmp_path / "report.html"
    assert page.headings[0].startswith("First")
    assert "<code>x &lt; y</code>" in html
    assert re.findall(r"<li>(.*?)</li>", html) == ["a b", "c"]
    for words in ("observed [$]", "0.01235", "−12.5", "2000", "yes", "∞", "–"):
        assert words in page.text
    assert '<td class="number">2000</td>' in html
    assert '<td class="short">a</td>' in html
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["first-last.svg"]


def test_sections_that_cannot_be_rendered_are_refused_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match="titles"):
        write_study_report([Section("a b", "", []), Section("A: b", "", [])], tmp_path)
    with pytest.raises(InvalidInputError, match="columns of 'T'"):
        write_study_report([Section("T", "", [{"a": 1}, {"b": 1}])], tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_failed_report_leaves_the_old_one(tmp_path):
    path = write_study_report([Section("a", "", [], lambda axes: axes.plot([0, 1]))], tmp_path)
    before = path.read_bytes()

    def fail(axes):
        raise RuntimeError("no figure today")

    with pytest.raises(RuntimeError, match="no figure"):
        write_study_report([Section("a", "", []), Section("b", "", [], fail)], tmp_path)
    assert path.read_bytes() == before


def test_importing_the_report_does_not_import_matplotlib():
    code = "import agents.report, sys; sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
