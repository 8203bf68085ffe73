"""Reading policies: strict, and no rule of the release stage about an internal number."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from dpsynth.errors import UsageError
from dpsynth.ledger import Anchor
from reports import Policy
from reports.paths import PATHS, REVIEW_PATHS
from reports.policy import Pinned, shipped

HEAD = 'schema = "dpsynth.policy/1"\nname = "p"\nversion = "1"\nreason = "because"\n'


def rule(**changes: Any) -> str:
    keys = {
        "id": '"a"',
        "evidence": '"guarantee.epsilon"',
        "stage": '"release"',
        "at_most": "1.0",
        "reason": '"why"',
    } | changes
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items() if value is not None)


KEY = "ed25519:" + base64.b64encode(bytes([7] * 32)).decode()
OTHER = "ed25519:" + base64.b64encode(bytes([9] * 32)).decode()


def waiver(**changes: Any) -> str:
    """A waiver of the rule `a`, and the table around it."""
    top = {"allowed": "true", "max_days": "90", "approvers": '["office"]', "never": "[]"}
    keys = {"id": '"a"', "reason": '"r"', "approver": '"office"', "granted": "2026-11-01", "expires": "2026-12-01"}
    if "rule" in changes:
        keys["id"] = f'"{changes.pop("rule")}"'
    top |= {name: changes.pop(name) for name in list(changes) if name in top}
    lines = [f"{name} = {value}" for name, value in top.items()]
    return "\n".join(
        ["[waivers]", *lines, "[[waivers.rule]]", *(f"{k} = {v}" for k, v in (keys | changes).items()), ""]
    )


def test_the_smallest_policy() -> None:
    policy = Policy.parse(HEAD + rule())
    assert (policy.name, policy.rules[0].threshold, policy.rules[0].side) == ("p", 1.0, None)
    assert policy.human == ()
    assert not policy.waivers.allowed


def test_shipped_policies_can_be_read() -> None:
    assert "internal-test" in shipped()
    for name in shipped():
        policy = Policy.load(name)
        assert policy.name == name
        assert all(len(rule.reason) > 15 for rule in policy.rules)
        assert policy.stage("release")
        assert policy.stage("review")


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "my policy.toml"
    path.write_text(HEAD + rule(), encoding="utf-8")
    assert Policy.load(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert Policy.load(str(path)) == Policy.load(path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not toml", "TOML"),
        (HEAD, "no rule"),
        (HEAD.replace("policy/1", "policy/2") + rule(), "schema"),
        (HEAD.replace('name = "p"\n', "") + rule(), "name"),
        (HEAD.replace('reason = "because"\n', "") + rule(), "reason"),
        (HEAD.replace('version = "1"', "version = 1") + rule(), "version"),
        (HEAD + "extra = 1\n" + rule(), "not known: 'extra'"),
        (HEAD + rule(severity='"high"'), "not known: 'severity'"),
        (HEAD + rule(reason=None), "reason"),
        (HEAD + rule(reason='"  "'), "reason"),
        (HEAD + rule(id=None), "id"),
        (HEAD + rule(id='"two words"'), "letters"),
        (HEAD + rule(stage='"both"'), "stage"),
        (HEAD + rule(at_most=None), "exactly one"),
        (HEAD + rule(at_least="0.0"), "exactly one"),
        (HEAD + rule(at_most="nan"), "finite"),
        (HEAD + rule(at_most="inf"), "finite"),
        (HEAD + rule(at_most='"1"'), "finite"),
        (HEAD + rule(at_most="1" + "0" * 400), "finite"),
        (HEAD + rule(at_most="-1" + "0" * 400), "finite"),
        (HEAD + rule(at_most="1e300"), "finite"),
        (HEAD + rule(at_most="1" + "0" * 5000), "TOML"),
        (HEAD + rule(evidence='"ledger.attempts"', at_most=None, equals="1" + "0" * 400), "kind"),
        (HEAD + rule(at_most="true"), "finite"),
        (HEAD + rule(evidence='"guarantee.epsilo"'), "no evidence"),
        (HEAD + rule(evidence='"guarantee"'), "no evidence"),
        (HEAD + rule(evidence='"columns[].name"', at_most=None, equals='"x"'), "no evidence"),
        (HEAD + rule(evidence='"columns[0].name"', at_most=None, equals='"x"'), "no evidence"),
        (HEAD + rule(evidence='"review.membership.excess"'), "internal"),
        (HEAD + rule(evidence='"review.membership.auc"', stage='"review"'), "no evidence"),
        (HEAD + rule(side='"middle"'), "side"),
        (HEAD + rule(evidence='"ledger.verified"'), "number"),
        (HEAD + rule(evidence='"ledger.verified"', at_most=None, equals="1"), "kind"),
        (HEAD + rule(evidence='"ledger.verified"', at_most=None, equals='"true"'), "kind"),
        (HEAD + rule(evidence='"guarantee.unit"', at_most=None, equals="true"), "kind"),
        (HEAD + rule(evidence='"guarantee.unit"', at_most=None, one_of="[]"), "one_of"),
        (HEAD + rule(evidence='"guarantee.unit"', at_most=None, one_of="[1]"), "one_of"),
        (HEAD + rule(evidence='"guarantee.unit"', at_most=None, one_of='["a"]', side='"low"'), "side"),
        (HEAD + rule(evidence='"limits"', at_most=None, equals="[]"), "kind"),
        (HEAD + rule() + rule(), "same id"),
        (HEAD + "[rule]\nid = 1", "written"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\n", "statement"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\nname = 'n'\n", "not known"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\nkey = 'ed25519:AAAA'\n", "public key"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\nkey = [1]\n", "public key"),
        (HEAD + rule() + f"[[human]]\nrole = 'dpo'\nstatement = 's'\nkey = ['{KEY}', '{KEY}']\n", "twice"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\ncovers = ['ledger.integrity']\n", "no person"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\ncovers = ['release.gated']\n", "no person"),
        (HEAD + rule() + "[[human]]\nrole = 'dpo'\nstatement = 's'\n" * 2, "twice"),
        (HEAD + rule() + "[[human]]\nrole = 'a b'\nstatement = 's'\n", "letters"),
        (HEAD + "signers = ['me']\n" + rule(), "public key"),
        (HEAD + rule() + "[waivers]\nallowed = 1\n", "true or false"),
        (HEAD + rule() + f"[waivers.keys]\nboss = '{KEY}'\n", "not among the approvers"),
        (HEAD + rule() + waiver(allowed="false"), "does not allow"),
        (HEAD + rule() + waiver(rule="b"), "no such rule"),
        (HEAD + rule(stage='"review"', evidence='"review.membership.excess"') + waiver(), "no such rule"),
        (HEAD + rule() + waiver(never='["a"]'), "never waived"),
        (HEAD + rule(evidence='"ledger.verified"', at_most=None, equals="true") + waiver(), "never waived"),
        (HEAD + rule() + waiver(approvers='["other"]'), "among the approvers"),
        (HEAD + rule() + waiver(max_days="10"), "longer than max_days"),
        (HEAD + rule() + waiver(expires="2026-10-01"), "ends before"),
        (HEAD + rule() + waiver(expires='"2026-12-01"'), "without quotes"),
        (HEAD + rule() + waiver(expires="2026-12-01T00:00:00"), "without quotes"),
        (HEAD + rule() + waiver(reason='" "'), "reason"),
        (HEAD + rule() + waiver(who='"me"'), "not known"),
        (HEAD + rule() + waiver() + waiver().partition("[[waivers.rule]]")[2].join(["[[waivers.rule]]", ""]), "twice"),
        (HEAD + rule() + "[waivers]\nmax_days = -1\n", "days"),
        (HEAD + rule() + f"[waivers]\nmax_days = 1{'0' * 400}\n", "days"),
        (HEAD + rule() + "[waivers]\nforever = true\n", "not known"),
        (HEAD + "catalog = 'gdpr'\n" + rule(), "list of texts"),
    ],
)
def test_a_policy_that_breaks_a_rule_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        Policy.parse(text)
    assert "\n" not in str(caught.value)


def test_a_policy_with_a_shipped_name_and_another_text_is_told(tmp_path: Path) -> None:
    for name in shipped():
        policy = Policy.load(name)
        assert not policy.impersonates
        same = tmp_path / "same.toml"
        same.write_text(policy.text, encoding="utf-8")
        assert not Policy.load(same).impersonates
        assert Policy.parse(policy.text + "\n# a word more\n").impersonates
        assert Policy.parse(policy.text.replace("at_most  = ", "at_most  = 1", 1)).impersonates
        renamed = policy.text.replace(f'name    = "{name}"', 'name    = "ours"')
        assert not Policy.parse(renamed).impersonates
    assert not Policy.parse(HEAD + rule()).impersonates


@pytest.mark.parametrize("name", ["no-such-policy", "/", "../internal-test", "a\0b"])
def test_a_policy_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="internal-test"):
        Policy.load(name)


@pytest.mark.parametrize("path", sorted(REVIEW_PATHS))
def test_no_rule_of_the_release_stage_reads_an_internal_path(path: str) -> None:
    test = {"flag": {"equals": "true"}}.get(REVIEW_PATHS[path].kind, {"at_most": "1.0"})
    Policy.parse(HEAD + rule(evidence=f'"{path}"', stage='"review"', **({"at_most": None} | test)))
    with pytest.raises(UsageError, match="internal"):
        Policy.parse(HEAD + rule(evidence=f'"{path}"', **({"at_most": None} | test)))


def test_every_declared_path_can_be_shared_or_is_internal() -> None:
    """A path whose classes include P3 could feed a release rule by mistake; there is none outside `review`."""
    assert all(rule.classes <= {"P0", "P1", "P2"} for rule in PATHS.values())
    assert all(rule.classes == {"P3"} for rule in REVIEW_PATHS.values())
    assert not PATHS.keys() & REVIEW_PATHS.keys()


def test_human_and_waivers_are_read() -> None:
    text = (
        HEAD
        + rule()
        + '[[human]]\nrole = "controller"\nstatement = "release-decision"\n'
        + '[waivers]\nallowed = true\nmax_days = 90\napprovers = ["privacy-office"]\nnever = ["ledger.integrity"]\n'
    )
    policy = Policy.parse(text)
    assert (policy.human[0].keys, policy.human[0].covers, policy.signers, policy.waivers.rules) == ((), (), (), ())
    assert (policy.human[0].role, policy.waivers.max_days, policy.waivers.never) == (
        "controller",
        90,
        ("ledger.integrity",),
    )


def test_keys_covers_signers_and_waivers_are_read() -> None:
    text = (
        HEAD
        + f'signers = ["{KEY}"]\n'
        + rule()
        + f'[[human]]\nrole = "dpo"\nstatement = "s"\nkey = "{KEY}"\ncovers = ["unit.person", "a"]\n'
        + waiver()
        + f'[waivers.keys]\noffice = ["{OTHER}"]\n'
    )
    policy = Policy.parse(text)
    assert [key.text for key in (*policy.signers, *policy.human[0].keys)] == [KEY] * 2
    assert [key.text for key in policy.waivers.keys_of("office")] == [OTHER]
    assert policy.human[0].covers == ("unit.person", "a")
    assert policy.human[0].rule_id == "human.dpo.s"
    assert policy.waivers.keys_of("nobody") == ()
    assert (policy.waivers.rules[0].statement, policy.waivers.rules[0].expires.isoformat()) == (
        "waiver.a",
        "2026-12-01",
    )


# ---- which ledger, and whose hands ---------------------------------------------------------------------------------

HASH = "ab" * 32
NAMED = 'id = "one"\npopulation = "clinic-a"\n'


def test_the_ledger_is_read() -> None:
    assert Policy.parse(HEAD + rule()).ledger == Pinned()
    text = f'[ledger]\nrequired = true\n{NAMED}anchor = {{ seq = 12, head = "{HASH}" }}\namenders = "{KEY}"\n'
    ledger = Policy.parse(HEAD + text + rule()).ledger
    assert (ledger.required, ledger.id, ledger.population) == (True, "one", "clinic-a")
    assert ledger.anchor == Anchor("one", 12, HASH)
    assert [key.text for key in ledger.amenders] == [KEY]
    assert Policy.parse(HEAD + "[ledger]\nrequired = true\n" + rule()).ledger == Pinned(required=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ledger]\nneeded = true\n", "a key that is not known"),
        ('[ledger]\nrequired = "yes"\n', "required is true or false"),
        ("[ledger]\nrequired = 1\n", "required is true or false"),
        ('[ledger]\nid = "one"\n', "id and population go together"),
        ('[ledger]\npopulation = "clinic-a"\n', "id and population go together"),
        ('[ledger]\nid = ""\npopulation = "clinic-a"\n', "needs id"),
        ('[ledger]\nid = "one"\npopulation = 7\n', "needs population"),
        (f'[ledger]\nanchor = {{ seq = 1, head = "{HASH}" }}\n', "an anchor needs the id"),
        (f'[ledger]\n{NAMED}anchor = "{HASH}"\n', "anchor is a table"),
        (f'[ledger]\n{NAMED}anchor = {{ head = "{HASH}" }}\n', "an anchor is"),
        (f"[ledger]\n{NAMED}anchor = {{ seq = 1 }}\n", "an anchor is"),
        (f'[ledger]\n{NAMED}anchor = {{ seq = -1, head = "{HASH}" }}\n', "an anchor is"),
        (f'[ledger]\n{NAMED}anchor = {{ seq = true, head = "{HASH}" }}\n', "an anchor is"),
        (f'[ledger]\n{NAMED}anchor = {{ seq = 1.0, head = "{HASH}" }}\n', "an anchor is"),
        (f'[ledger]\n{NAMED}anchor = {{ seq = 1, head = "{HASH.upper()}" }}\n', "an anchor is"),
        (f'[ledger]\n{NAMED}anchor = {{ seq = 1, head = "{HASH}", where = "x" }}\n', "a key that is not known"),
        ('[ledger]\namenders = "somebody"\n', "amenders is a public key"),
        ("ledger = 7\n", "ledger is a table"),
    ],
)
def test_a_ledger_table_that_says_too_little_or_too_much(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Policy.parse(HEAD + text + rule())


def hand(role: str, statement: str, *keys: str) -> str:
    return f'[[human]]\nrole = "{role}"\nstatement = "{statement}"\nkey = {json.dumps(keys)}\n'


@pytest.mark.parametrize(
    "text",
    [
        hand("controller", "decision", KEY) + hand("dpo", "advice", KEY),
        hand("controller", "decision", OTHER, KEY) + hand("dpo", "advice", KEY),
        hand("controller", "decision", KEY) + waiver() + f'[waivers.keys]\noffice = "{KEY}"\n',
        waiver(approvers='["office", "board"]') + f'[waivers.keys]\noffice = "{KEY}"\nboard = ["{OTHER}", "{KEY}"]\n',
    ],
)
def test_one_key_for_two_roles_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="one key to two roles"):
        Policy.parse(HEAD + rule() + text)


def test_one_role_may_say_two_things_with_one_key() -> None:
    policy = Policy.parse(HEAD + rule() + hand("dpo", "advice", KEY) + hand("dpo", "decision", KEY, OTHER))
    assert [len(human.keys) for human in policy.human] == [1, 2]
