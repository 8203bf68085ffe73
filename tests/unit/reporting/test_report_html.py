"""The page: what it says, that a screen reader can follow it, and that nothing in it can run or call out."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from types import ModuleType
from typing import Any

import pytest
import signers

from reports import Evidence, Leaf, Policy, Report
from reports.paths import CHARGED_ATTACKS
from reports.render import to_html, to_markdown
from reports.render.figures import _ticks
from reports.render.words import CHAPTERS, CRITERIA, MEANINGS, NOT_DECIDED

VOID = {"meta", "br", "link", "img", "input", "hr", "wbr", "circle", "line", "rect", "path"}
KINDS = (
    "pass",
    "internal",
    "fail",
    "needs_human",
    "no holdout",
    "integrity",
    "row",
    "replace",
    "empty",
    "hostile",
    "amended",
    "signed",
    "audited",
)


@cache
def page(builder: ModuleType, kind: str) -> str:
    edition = "internal" if kind in ("internal", "hostile") else "shareable"
    evidence = {
        "pass": lambda: builder.internal(),
        "internal": lambda: builder.internal(),
        "fail": lambda: builder.internal(
            {"guarantee.epsilon": builder.formula(3.2), "attacks.linkage.excess": builder.charged(0.05, 0.2)}
        ),
        "needs_human": lambda: builder.internal({"domain.from_data": builder.declared("site")}),
        "no holdout": lambda: Evidence({k: v for k, v in builder.tree().items() if k not in ("attacks", "review")}),
        "integrity": lambda: builder.internal({"ledger.verified": builder.ledger_fact(False)}),
        "row": lambda: builder.internal({path: builder.declared("row") for path in ("unit.entity", "guarantee.unit")}),
        "replace": lambda: builder.internal({"unit.neighbours": builder.declared("replace")}),
        "empty": lambda: Evidence({}),
        "hostile": lambda: builder.internal(columns=builder.hostile_columns()),
        "amended": lambda: amended(builder),
        "signed": lambda: builder.internal({"domain.from_data": builder.declared("site")}),
        "audited": lambda: Evidence(builder.audited(builder.tree())).with_disclosure(),
    }[kind]()
    if kind == "signed":
        policy = signers.policy(signers.ASKS_TWO)
        record = signers.record(
            signers.signed(evidence, policy, name=builder.HOSTILE[0]),
            signers.signed(evidence, policy, signers.OFFICER, role="officer", statement="advice", name="x" * 200),
            signers.signed(evidence, policy, signers.STRANGER, decision="reject", name=builder.HOSTILE[2]),
        )
        return to_html(Report.of(policy, evidence, on=builder.TODAY, record=record))
    return to_html(Report.of(builder.policy(), evidence, on=builder.TODAY, edition=edition))


def amended(builder: ModuleType) -> Evidence:
    tree = builder.tree()
    tree["ledger"]["raised"] = builder.ledger_fact(1)
    tree["ledger"]["amendments"] = [
        {
            "seq": builder.ledger_fact(3),
            "from_epsilon": builder.ledger_fact(1.0),
            "to_epsilon": builder.ledger_fact(2.0),
            "reason": builder.ledger_fact("a second study of the same people"),
            "approver": builder.ledger_fact("privacy office"),
            "signed": builder.ledger_fact("unsigned"),
        }
    ]
    return Evidence(tree)


class Walker(HTMLParser):
    """Collects elements with their attributes, text and ancestors; a tag that is not closed in order is an error."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], tuple[int, ...]]] = []
        self.open: list[int] = []
        self.text: dict[int, str] = {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute stands twice in {tag}"
        self.elements.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        place = self.open.pop()
        assert self.elements[place][0] == tag, f"{tag} closes {self.elements[place][0]}"

    def handle_data(self, data: str) -> None:
        for place in self.open:
            self.text[place] = self.text.get(place, "") + data

    def find(self, *tags: str) -> list[tuple[int, str, dict[str, str | None], tuple[int, ...]]]:
        return [(i, tag, attrs, up) for i, (tag, attrs, up) in enumerate(self.elements) if tag in tags]

    def inside(self, place: int, *tags: str) -> list[int]:
        return [i for i, tag, _, up in self.find(*tags) if place in up]


def words(text: str) -> str:
    return " ".join(Walker(text).text.get(0, "").split())


@pytest.mark.parametrize("kind", KINDS)
class TestEveryPage:
    @pytest.mark.slow
    def test_nothing_can_run_or_call_out(self, builder: ModuleType, kind: str) -> None:
        text = page(builder, kind)
        walker = Walker(text)
        assert not walker.find(
            "script", "iframe", "object", "embed", "link", "img", "form", "input", "base", "video", "a:href"
        )
        for _, tag, attrs, _ in walker.find(*{tag for tag, _, _ in walker.elements}):
            assert not [
                key for key in attrs if key.startswith("on") or key in ("style", "src", "srcset", "data", "xlink:href")
            ], tag
            if "href" in attrs:
                assert (attrs["href"] or "").startswith("#")
        style = next(walker.text[i] for i, *_ in walker.find("style"))
        assert not re.search(r"url\(|@import|expression|javascript:", style)

    def test_the_content_policy_allows_its_own_style_and_nothing_else(self, builder: ModuleType, kind: str) -> None:
        walker = Walker(page(builder, kind))
        policy = next(
            a["content"] for _, _, a, _ in walker.find("meta") if a.get("http-equiv") == "Content-Security-Policy"
        )
        style = next(walker.text[i] for i, *_ in walker.find("style"))
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        head = [tag for tag, _, _ in walker.elements]
        assert head.index("style") > head.index("meta"), "the policy stands before what it governs"

    def test_headings_are_in_order(self, builder: ModuleType, kind: str) -> None:
        levels = [int(tag[1]) for _, tag, _, _ in Walker(page(builder, kind)).find("h1", "h2", "h3", "h4", "h5", "h6")]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))

    @pytest.mark.slow
    def test_tables_have_captions_and_scopes(self, builder: ModuleType, kind: str) -> None:
        walker = Walker(page(builder, kind))
        for place, _, attrs, _ in walker.find("table"):
            captions = walker.inside(place, "caption")
            assert len(captions) == 1
            assert walker.text[captions[0]].strip()
            rows = [row for body in walker.inside(place, "tbody") for row in walker.inside(body, "tr")]
            assert rows
            assert all(len(walker.inside(row, "th")) == 1 for row in rows)
            if "stack" in (attrs.get("class") or ""):
                assert attrs["role"] == "table", "blocks keep their roles on a narrow screen"
        assert all(attrs.get("scope") in ("row", "col") for _, _, attrs, _ in walker.find("th"))

    def test_figures_have_names_and_a_table_beside_them(self, builder: ModuleType, kind: str) -> None:
        walker = Walker(page(builder, kind))
        ids = [attrs["id"] for _, attrs, _ in walker.elements if attrs.get("id")]
        assert len(ids) == len(set(ids))
        for place, _, attrs, up in walker.find("svg"):
            if attrs.get("aria-hidden") == "true":
                continue
            assert attrs["role"] == "img"
            title = walker.inside(place, "title")
            assert walker.elements[title[0]][1]["id"] == attrs["aria-labelledby"]
            assert len(walker.text[title[0]]) > 40
            pair = next(i for i in reversed(up) if "pair" in (walker.elements[i][1].get("class") or ""))
            assert walker.inside(pair, "table")
        for _, attrs, _ in walker.elements:
            if attrs.get("aria-labelledby"):
                assert attrs["aria-labelledby"] in ids
            if (attrs.get("href") or "").startswith("#"):
                assert (attrs["href"] or "")[1:] in ids

    def test_the_language_and_the_way_past_the_menu(self, builder: ModuleType, kind: str) -> None:
        walker = Walker(page(builder, kind))
        assert walker.find("html")[0][2]["lang"] == "en"
        assert walker.find("a")[0][2]["href"] == "#report"
        assert len(walker.find("main")) == 1
        assert all(attrs.get("aria-label") for _, _, attrs, _ in walker.find("nav", "aside"))


def test_the_page_opens_with_the_verdict_and_the_two_worlds(builder: ModuleType) -> None:
    walker = Walker(page(builder, "pass"))
    titles = [walker.text[i].strip() for i, *_ in walker.find("h2")]
    assert titles[:3] == ["Verdict of the release gatePass", "Two worlds", "At a glance"]
    text = words(page(builder, "pass"))
    assert "This release meets the policy internal-test, version 1." in text
    assert builder.policy().digest in text
    assert builder.shareable().digest in text
    assert "if they accept 1 false alarm in 100, they detect Alex in at most 3.3 of 100 tries" in text
    for sentence in NOT_DECIDED:
        assert sentence in text
    assert "Empty until signed" in text


ORDER = [
    "verdict",
    "worlds",
    "glance",
    "not-decided",
    "sign",
    "plain",
    "release",
    "data",
    "guarantee",
    "ledger",
    "criteria",
    "audit",
    "utility",
    "limits",
    "gate",
    "decisions",
    "method",
    "controls",
]
"""The chapters in the order in which reviewers expect them: the cover, eleven that are numbered, and what is looked up."""


@pytest.mark.parametrize("kind", ["pass", "internal", "empty", "hostile", "signed"])
def test_chapters_stand_in_their_order(builder: ModuleType, kind: str) -> None:
    walker = Walker(page(builder, kind))
    expected = ["verdict", "review", *ORDER[1:]] if kind in ("internal", "hostile") else ORDER
    chapters = {part.id: part for part in CHAPTERS}
    found = [attrs["id"] for _, _, attrs, _ in walker.find("section") if attrs.get("id") in chapters]
    assert found == expected
    menu = walker.find("nav")[0][0]
    linked = [walker.elements[i][1]["href"] for i in walker.inside(menu, "a")]
    assert linked == [f"#{place}" for place in expected]
    assert [chapters[place].number for place in expected if chapters[place].number] == [str(n) for n in range(1, 12)]
    headings = {attrs["id"]: " ".join(walker.text[i].split()) for i, _, attrs, _ in walker.find("h2")}
    for place in expected:
        if place not in ("verdict", "review"):
            assert headings[f"{place}-title"] == f"{chapters[place].number} {chapters[place].title}".strip()


def test_annexes_stand_between_the_decisions_and_the_method(builder: ModuleType) -> None:
    policy = Policy.load("hipaa-expert")
    text = to_html(Report.of(policy, builder.internal(), on=builder.TODAY))
    annexes = [text.index(f'<section id="annex-{annex}"') for annex in policy.annexes]
    assert annexes
    assert text.index('<section id="decisions"') < min(annexes)
    assert max(annexes) < text.index('<section id="method"')
    menu = text[text.index("<nav") : text.index("</nav>")]
    assert menu.index('"#decisions"') < menu.index(f'"#annex-{policy.annexes[0]}"') < menu.index('"#method"')


def test_what_the_attacks_could_have_seen_is_drawn_beside_its_table(builder: ModuleType) -> None:
    text = page(builder, "pass")
    part = text[text.index('<section id="audit"') : text.index('<section id="utility"')]
    picture = part[part.index("<svg") : part.index("</svg>")]
    assert picture.count("<rect") == 3 * len(CHARGED_ATTACKS)
    assert "Exact copies: 4% false alarms, 62% when 5% were copied, 100% when 20% were copied." in picture
    assert "nobody" in part
    assert "nothing that one could have seen" in page(builder, "no holdout")
    uneven = builder.internal({"attacks.linkage.power[1].seen": None})
    part = to_html(Report.of(builder.policy(), uneven, on=builder.TODAY))
    assert part[part.index('id="audit"') :].count("<rect") >= 3 * len(CHARGED_ATTACKS) - 1


def test_bounds_are_rounded_up(builder: ModuleType) -> None:
    exact = builder.internal().value("risk.tpr_at_fpr")
    assert 0.0324 < exact < 0.0326
    for value, shown in ((0.0321000001, "3.3"), (0.032, "3.2"), (0.0399999, "4"), (0.0311, "3.2")):
        changed = builder.internal({"risk.tpr_at_fpr": builder.formula(value)})
        text = to_html(Report.of(builder.policy(), changed, on=builder.TODAY))
        assert f"in at most <strong>{shown}</strong> of 100 tries" in text


@pytest.mark.parametrize("kind", ["fail", "needs_human", "no holdout", "integrity", "empty"])
def test_one_sees_at_once_why_not(builder: ModuleType, kind: str) -> None:
    text = page(builder, kind)
    verdict = text[text.index('<section id="verdict"') : text.index('<section id="worlds"')]
    assert "Why not" in verdict
    assert "Why not" not in page(builder, "pass")
    expected = {
        "fail": ["guarantee.epsilon", "at most 2; observed: <bdi>3.2", "attacks.linkage", "too little data to tell"],
        "needs_human": ["domain.source", "read off the data"],
        "no holdout": ["attacks.membership", "holds nothing at this path"],
        "integrity": ["did not verify"],
        "empty": ["evidence.complete", "missing or empty"],
    }[kind]
    for phrase in expected:
        assert phrase in verdict


@pytest.mark.parametrize("state", MEANINGS)
def test_each_verdict_has_words(builder: ModuleType, state: Any) -> None:
    kind = {"incomplete": "no holdout"}.get(state, state)
    assert words(page(builder, kind)).count(MEANINGS[state].do) == 1
    assert f"<title>{MEANINGS[state].title}: privacy report" in page(builder, kind)


def test_criteria_put_the_ceiling_beside_the_attack(builder: ModuleType) -> None:
    text = page(builder, "pass")
    for criterion in CRITERIA:
        part = text[text.index(f'<section id="{criterion.id}"') :]
        part = part[: part.index("Not tested")]
        assert re.search("[Pp]roven ceiling", part), criterion.id
    assert text.count("Positive control: a deliberately leaky copy") == len(CHARGED_ATTACKS)
    assert text.count('aria-labelledby="fig-ceiling-') == len(CHARGED_ATTACKS)
    assert "Linkage on real rows" not in text
    internal = page(builder, "internal")
    for title in ("Linkage", "Exact copies", "Nearest record", "Membership", "Singling out", "Attribute inference"):
        assert f"{title} on real rows, without noise" in internal


def test_what_a_guarantee_allows_on_real_rows_is_rounded_to_the_safe_side(builder: ModuleType) -> None:
    allowed = {
        "review.linkage.ceiling": 0.123412,
        "review.nearest_record.most": 0.123412,
        "review.nearest_record.least": -0.123412,
        "review.reconstruction.no_ceiling": "nothing is proven",
    }
    changed = {path: builder.internal_number(value, n=None) for path, value in allowed.items()}
    policy = builder.policy()
    text = to_html(Report.of(policy, builder.internal(changed), on=builder.TODAY, edition="internal"))
    for title, shown in (
        ("Most that the guarantee allows on people whose rows were used", "0.1235"),
        ("Most that the guarantee allows the difference to be", "0.1235"),
        ("Least that it allows", "\N{MINUS SIGN}0.1235"),
        ("No ceiling, because", "<bdi>nothing is proven</bdi>"),
    ):
        assert re.search(rf"<th scope=\"row\">{title}</th><td[^>]*>{shown}</td>", text), title


def test_noisy_rates_without_intervals_still_have_their_figure(builder: ModuleType) -> None:
    """Then the difference is drawn with its interval; a rate below zero and a lost ceiling are no nonsense."""
    rates = {
        "attacks.linkage.fit_rate": builder.charged(0.014),
        "attacks.linkage.control_rate": builder.charged(-0.032),
    }
    changed = rates | {"attacks.linkage.bound": builder.charged(0.0)}
    text = to_html(Report.of(builder.policy(), builder.internal(changed), on=builder.TODAY))
    part = text[text.index('<section id="linkability"') : text.index('<section id="inference"')]
    assert 'id="fig-ceiling-linkage"' in part
    assert "difference: \u22120.25%, interval \u22124.3% to 3.8%. No ceiling." in part
    assert "none: the noise hides what to compare with" in part
    assert "proven ceiling" not in part
    assert "-" not in "".join(re.findall(r' (?:width|height|r)="([^"]*)"', part))
    some = to_html(Report.of(builder.policy(), builder.internal(rates), on=builder.TODAY))
    assert "difference: \u22120.25%, interval \u22124.3% to 3.8%. Proven ceiling: 17%." in some
    lost = builder.internal({"attacks.linkage.fit_rate": None})
    assert 'id="fig-ceiling-linkage"' not in to_html(Report.of(builder.policy(), lost, on=builder.TODAY))


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.17), (-0.043, 0.17), (0.0, 1.0), (-1.0, 1.0), (0.0, 1e-6), (0.0, 0.0)]
)
def test_axes_hold_what_they_must(low: float, high: float) -> None:
    ticks = _ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low
    assert ticks[-1] >= high
    assert ticks == sorted(set(ticks))
    assert 0.0 in ticks


def test_only_the_internal_edition_has_the_banner_and_the_review(builder: ModuleType) -> None:
    shareable, internal = page(builder, "pass"), page(builder, "internal")
    assert "Internal edition." in internal
    assert 'id="review"' in internal
    assert "Internal edition." not in shareable
    assert 'id="review"' not in shareable
    assert shareable.count("P3") == 1, "named in the list of classes, and nowhere else"


def test_figures_that_decide_nothing_are_in_the_internal_edition_alone(builder: ModuleType) -> None:
    shareable, internal = words(page(builder, "pass")), words(page(builder, "internal"))
    for said in (
        "Linkage: further figures, which decide nothing",
        "precision, most confident tenth",
        "AUC, closeness, best row (0.5 if nothing leaked)",
        "250 control persons in a half cannot teach it",
    ):
        assert said in internal, said
        assert said not in shareable, said


def test_the_unit_and_the_relation_are_worded(builder: ModuleType) -> None:
    assert "Think of one row of the table." in words(page(builder, "row"))
    assert "somebody else’s rows stood in their place" in words(page(builder, "replace"))
    household = builder.internal({path: builder.declared("household") for path in ("unit.entity", "guarantee.unit")})
    assert "Think of one household, Alex." in words(to_html(Report.of(builder.policy(), household, on=builder.TODAY)))


def test_the_first_page_says_that_a_claim_is_a_claim(builder: ModuleType) -> None:
    """Where it states the bound, and where it answers what is promised; a release of our own says nothing of it."""
    evidence = Evidence(builder.claimed(builder.tree())).with_disclosure()
    report = Report.of(builder.policy(), evidence, on=builder.TODAY)
    text = to_html(report)
    worlds, glance, after = (text.index(f'<section id="{id}"') for id in ("worlds", "glance", "not-decided"))
    said = "If the claim of smartnoise-synth 1.0.8 is true, which nobody here has proved, then whatever anyone does"
    assert said in words(text[worlds:glance])
    assert "Claimed by another tool, proved by nobody here." in words(text[glance:after])
    assert "**What follows holds only if the claim of " in to_markdown(report)
    ours = Report.of(builder.policy(), Evidence(builder.tree()).with_disclosure(), on=builder.TODAY)
    assert "nobody here" not in to_html(ours) + to_markdown(ours)


def test_a_raised_limit_stands_on_the_first_page(builder: ModuleType) -> None:
    text = page(builder, "amended")
    assert "The lifetime limit was raised" in text[: text.index('<section id="worlds"')]


def test_what_is_not_measured_says_why(builder: ModuleType) -> None:
    leaf = Leaf(None, "P2", "s", missing="the noise left too few persons")
    text = to_html(Report.of(builder.policy(), builder.internal({"attacks.linkage.excess": leaf}), on=builder.TODAY))
    assert text.count("he noise left too few persons") >= 2
    assert "Not measured for this edition." in page(builder, "no holdout")
    assert page(builder, "no holdout").count("a release without a holdout has nobody to compare with") == 4


def test_a_human_rule_is_shown_as_open(builder: ModuleType) -> None:
    policy = Policy.parse(builder.policy().text + '\n[[human]]\nrole = "controller"\nstatement = "release-decision"\n')
    text = words(to_html(Report.of(policy, builder.internal(), on=builder.TODAY)))
    assert "Signed statements that the policy asks for: 0 of 1." in text


# ---- hostile names -------------------------------------------------------------------------------------------------


def test_hostile_names_do_no_harm(builder: ModuleType) -> None:
    """The same elements, whatever the names; nothing hidden, nothing endless, nothing that reorders a line."""
    walker, calm = (
        Walker(page(builder, "hostile")),
        Walker(
            to_html(
                Report.of(
                    builder.policy(),
                    builder.internal(
                        columns=[(f"c{i}", *rest) for i, (_, *rest) in enumerate(builder.hostile_columns())]
                    ),
                    on=builder.TODAY,
                    edition="internal",
                )
            )
        ),
    )
    assert [tag for tag, _, _ in walker.elements] == [tag for tag, _, _ in calm.elements]
    text = page(builder, "hostile")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text)
    assert "<script" not in text
    assert "<img" not in text
    assert "x" * 100 not in text
    assert "(10,240 characters)" in text
    assert "⟨U+202E⟩" in text
    assert len(text) < 2 * len(page(builder, "internal"))


def test_hostile_text_anywhere_does_no_harm(builder: ModuleType) -> None:
    """Every text leaf and every text of the policy, not only names."""
    bad = "<script>alert(1)</script>\x1b[31m\u202e{{7*7}}</style></svg>"
    toml = '"""' + bad.replace("\x1b", "\\u001b") + '"""'
    evidence = builder.internal()
    for path, leaf in list(evidence.leaves()):
        if isinstance(leaf.value, str) and path not in (
            "created_at",
            "review_on",
            "ledger.genesis",
            "unit.neighbours",
            "disclosure.leaves",
        ):
            evidence = evidence.with_leaf(path, Leaf(bad, leaf.cls, bad))
        if isinstance(leaf.value, tuple):
            evidence = evidence.with_leaf(path, Leaf((bad, bad), leaf.cls, bad))
    policy = Policy.parse(
        f'schema = "dpsynth.policy/1"\nname = "p"\nversion = {toml}\nreason = {toml}\ncatalog = [{toml}]\n'
        f'[[rule]]\nid = "r"\nevidence = "source.table"\nstage = "release"\none_of = [{toml}]\nreason = {toml}\n'
    )
    for edition in ("shareable", "internal"):
        text = to_html(Report.of(policy, evidence, on=builder.TODAY, edition=edition))
        Walker(text)
        assert "<script" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "49" not in re.findall(r"alert\(1\).{0,60}", text)[0]
        assert text.count("</style>") == 1


# ---- colours -------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_every_text_can_be_read_on_its_ground() -> None:
    style = (files("reports.render") / "templates" / "report.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", style))
    pairs = [
        ("ink", "paper"),
        ("soft", "paper"),
        ("blue", "paper"),
        ("soft", "wash"),
        ("paper", "fail"),
        ("paper", "ink"),
    ]
    for state in ("pass", "fail", "incomplete", "human"):
        pairs += [(state, "paper"), (state, f"{state}-wash"), ("ink", f"{state}-wash"), ("soft", f"{state}-wash")]
    for front, ground in pairs:
        assert contrast(colours[front], colours[ground]) >= 4.5, (front, ground)
    assert contrast("#9a3412", "#ffffff") >= 4.5
    assert contrast("#9aa3ad", "#ffffff") < 4.5, "the measure can fail"
