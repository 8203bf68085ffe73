"""Both editions in a browser: an accessibility checker finds nothing, keys reach everything, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.browser import WIDTHS, chromium, installed
from reports import Evidence, Policy, Report
from reports.render import to_html

pytest.importorskip("playwright", reason="needs Playwright: pip install dpsynth[dev]")
checker = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe: pip install dpsynth[dev]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(installed() is None, reason="needs the system's Chromium"),
]
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
EDITIONS = ("shareable", "internal")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@cache
def text(builder: ModuleType, edition: Any) -> str:
    """The internal page has all annexes, an audit of the program, and a verdict that is no pass."""
    policy = Policy.load("hipaa-expert") if edition == "internal" else builder.policy()
    evidence = builder.internal()
    if edition == "internal":
        tree = builder.audited(builder.tree())
        tree["domain"]["from_data"] = builder.declared("site")
        evidence = Evidence(tree).with_disclosure()
    return to_html(Report.of(policy, evidence, on=builder.TODAY, edition=edition))


@pytest.fixture
def show(browser: Any, builder: ModuleType, tmp_path: Path) -> Iterator[Any]:
    """Opens a page from a file; gives it, and every address that it asked for."""
    contexts = []

    def show(page: str, width: int, **more: Any) -> tuple[Any, list[str]]:
        file = tmp_path / "report.html"
        file.write_text(page, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **more))
        shown, asked = contexts[-1].new_page(), []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto(file.as_uri())
        return shown, asked

    yield show
    for context in contexts:
        context.close()


def violations(page: Any) -> list[str]:
    options = {"runOnly": {"type": "tag", "values": LEVELS}, "resultTypes": ["violations"]}
    found = checker.Axe().run(page, options=options).response
    assert found["passes"], "the checker looked at something"
    return [f"{rule['id']}: {node['html'][:120]}" for rule in found["violations"] for node in rule["nodes"]]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("edition", EDITIONS)
def test_the_checker_finds_nothing(show: Any, builder: ModuleType, edition: str, width: int) -> None:
    page, _ = show(text(builder, edition), width)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing has to be scrolled sideways"


FAULTS = {
    "svg-img-alt": '<p><svg role="img" width="9" height="9"></svg></p>',
    "image-alt": '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">',
    "color-contrast": '<p><font color="#b8c0c8">too pale to be read</font></p>',
    "td-headers-attr": '<table><tr><td headers="gone">1</td></tr></table>',
}


def test_the_checker_sees_each_fault(show: Any, builder: ModuleType) -> None:
    page, _ = show(text(builder, "shareable").replace("</main>", f"{''.join(FAULTS.values())}</main>"), WIDTHS[0])
    assert sorted(found.partition(":")[0] for found in violations(page)) == sorted(FAULTS)


@pytest.mark.parametrize("width", WIDTHS)
def test_keys_reach_everything_in_the_order_of_the_page(show: Any, builder: ModuleType, width: int) -> None:
    """Each step of the Tab key goes on in the page, ends nowhere early, and can be seen; the first leads past the menu."""
    page, _ = show(text(builder, "internal"), width)
    if width == min(WIDTHS):
        page.eval_on_selector("details", "element => { element.open = true }")
    wanted = page.eval_on_selector_all(
        "a, summary", "all => all.filter(e => e.checkVisibility()).map(e => e.outerHTML)"
    )
    reached = []
    for _ in range(len(wanted)):
        page.keyboard.press("Tab")
        now = page.evaluate(
            "() => [document.activeElement.outerHTML, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(now[0])
        assert now[1] != "none" or "skip" in now[0]
    if width == max(WIDTHS):
        wanted = [item for item in wanted if not item.startswith("<summary")]
        reached = [item for item in reached if not item.startswith("<summary")][: len(wanted)]
    assert reached == wanted
    assert 'href="#report"' in wanted[0]


def test_the_first_key_leads_past_the_menu(show: Any, builder: ModuleType) -> None:
    page, _ = show(text(builder, "shareable"), WIDTHS[1])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0, (
        "it can be seen when it is reached"
    )
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#report"


@pytest.mark.parametrize("width", WIDTHS)
def test_without_scripts_and_without_a_network_it_is_the_same(show: Any, builder: ModuleType, width: int) -> None:
    alone, asked = show(text(builder, "internal"), width, java_script_enabled=False, offline=True)
    usual, _ = show(text(builder, "internal"), width)
    assert len(asked) == 1, "the page itself, and nothing else"
    assert alone.screenshot() == usual.screenshot()
    assert "Verdict of the release gate" in alone.locator("main").text_content()


def test_the_menu_stands_open_where_there_is_room(show: Any, builder: ModuleType) -> None:
    wide, _ = show(text(builder, "shareable"), WIDTHS[0])
    assert wide.locator("nav a").first.is_visible()
    narrow, _ = show(text(builder, "shareable"), WIDTHS[1])
    assert not narrow.locator("nav a").first.is_visible()
    narrow.locator("summary").click()
    assert narrow.locator("nav a").first.is_visible()
