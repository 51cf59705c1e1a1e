from pathlib import Path

from agents.pages import environments_page


def test_the_page_of_environments_is_what_the_docstrings_say():
    page = Path(__file__).parents[1] / "docs" / "environments.md"
    assert page.read_text(encoding="utf-8") == environments_page(), "run scripts/docs"
