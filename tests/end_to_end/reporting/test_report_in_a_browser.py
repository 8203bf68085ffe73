"""The page in a real browser: nothing is refused or runs, and nothing is wider than the window."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
import signers

from reports import Evidence, Policy, Report
from reports.policy import ANNEXES
from reports.render import to_html

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")]

# The page forbids scripts, its measurer does not: the page sits in a frame as wide as the window that is asked for.
MEASURE = """<!DOCTYPE html><meta charset="utf-8"><title>measure</title>
<iframe id="f" style="width:{width}px;height:900px;border:0" srcdoc="{page}"></iframe><pre id="out"></pre>
<script>
document.getElementById("f").onload = (event) => {{
  const page = event.target.contentDocument, wide = [];
  for (const node of page.body.querySelectorAll("*")) {{
    const box = node.getBoundingClientRect();
    if (box.width && box.right > {width} + 1 && !node.closest(".skip, thead")) wide.push(node.outerHTML.slice(0, 120));
  }}
  document.getElementById("out").textContent = JSON.stringify({{
    scroll: page.documentElement.scrollWidth,
    seen: page.documentElement.clientWidth,
    title: page.title,
    ground: page.defaultView.getComputedStyle(page.querySelector(".verdict")).backgroundColor,
    small: [...page.querySelectorAll("svg.figure")].map((node) => node.getBoundingClientRect().width),
    wide: wide.slice(0, 5),
  }});
}};
</script>
"""


def browse(folder: Path, page: str, width: int) -> tuple[dict[str, object], str]:
    """What the page measures at one width, and what the browser had to say."""
    assert CHROMIUM is not None
    path = folder / "measure.html"
    path.write_text(MEASURE.format(width=width, page=html.escape(page, quote=True)), encoding="utf-8")
    command = [
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--dump-dom",
        "--window-size=1400,1000",
        path.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    assert found[1]
    return json.loads(html.unescape(found[1])), done.stderr


def signed(builder: ModuleType) -> Report:
    """A pass that rests on signatures by people with awkward names, one of which does not count."""
    policy = signers.policy(signers.ASKS_TWO, signers.waiver())
    evidence = builder.internal(builder.misled(0.2) | {"domain.from_data": builder.declared("site")})
    record = signers.record(
        signers.signed(evidence, policy, name=builder.HOSTILE[0]),
        signers.signed(evidence, policy, signers.OFFICER, role="officer", statement="advice", name="x" * 200),
        signers.signed(evidence, policy, signers.OFFICE, role="privacy-office", statement="waiver.utility.tv1"),
        signers.signed(evidence, policy, signers.STRANGER, name=builder.HOSTILE[1], organisation="y" * 200),
    )
    return Report.of(policy, evidence, on=builder.TODAY, record=record)


@pytest.mark.parametrize("kind", ["shareable", "internal", "hostile", "signed"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_the_window_and_keeps_its_own_rules(builder: ModuleType, tmp_path: Path, kind: str, width: int) -> None:
    evidence = builder.internal()
    if kind == "hostile":
        tree = builder.audited(builder.tree(builder.hostile_columns()))
        tree["audit"]["differs"] = builder.declared(builder.HOSTILE)
        game = tree["audit"]["items"][3]["id"].value.rpartition(".")[0]
        for item in tree["audit"]["items"]:
            of, _, attacker = item["id"].value.rpartition(".")
            if of == game:
                item["id"] = builder.declared(f"{builder.HOSTILE[12]}.{attacker}")
        tree["audit"]["selftest"]["leaks"][0]["leak"] = builder.declared(builder.HOSTILE[0])
        evidence = Evidence(tree).with_disclosure()
    edition = "shareable" if kind == "shareable" else "internal"
    report = Report.of(builder.policy(), evidence, on=builder.TODAY, edition=edition)
    page = to_html(signed(builder) if kind == "signed" else report)
    measured, said = browse(tmp_path, page, width)
    assert measured["wide"] == []
    assert measured["scroll"] == measured["seen"], "no sideways scrolling"
    assert width - 20 <= int(str(measured["seen"])) <= width, "the window less its scroll bar"
    assert str(measured["title"]).startswith("Pass: privacy report")
    assert measured["ground"] == "rgb(238, 246, 241)", "the style sheet is in force under the page's own policy"
    assert all(isinstance(size, float | int) and size > 300 for size in measured["small"])  # type: ignore[attr-defined]
    assert not re.search(r"Content Security Policy|Refused to|blocked", said)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("kind", ["calm", "hostile"])
def test_all_annexes_fit_the_window(builder: ModuleType, tmp_path: Path, kind: str, width: int) -> None:
    """Under a policy that asks for every annex, with names that are as long and as wide as names can be."""
    text = builder.policy().text.replace("\ncatalog", f"\nannexes = {json.dumps(ANNEXES)}\ncatalog")
    columns = builder.hostile_columns() if kind == "hostile" else builder.COLUMNS
    columns = [(name, type_, "quasi_identifier", *rest) for name, type_, _, *rest in columns]
    evidence = builder.internal(columns=columns)
    if kind == "hostile":
        for letter, name in enumerate(builder.HOSTILE):
            for field in ("columns", "signs"):
                evidence = evidence.with_leaf(f"deid_scan.safe_harbor[{letter}].{field}", builder.scanned((name,)))
    page = to_html(Report.of(Policy.parse(text), evidence, on=builder.TODAY))
    assert page.count("annex-") > 2 * len(ANNEXES)
    measured, said = browse(tmp_path, page, width)
    assert measured["wide"] == []
    assert measured["scroll"] == measured["seen"], "no sideways scrolling"
    assert not re.search(r"Content Security Policy|Refused to|blocked", said)


def test_the_policy_of_the_page_is_in_force(builder: ModuleType, tmp_path: Path) -> None:
    """The check above can fail: a style and a script that are not the page's own are refused."""
    page = to_html(Report.of(builder.policy(), builder.internal(), on=builder.TODAY))
    spoiled = page.replace("</main>", '<p style="color:red">x</p><script>document.title = "ran"</script></main>')
    assert spoiled != page
    measured, said = browse(tmp_path, spoiled, 1280)
    assert str(measured["title"]).startswith("Pass")
    assert re.search(r"Content Security Policy|Refused to|blocked", said)
