"""What the chain of a ledger proves, and what only heads kept elsewhere can prove (docs/ledger.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dpsynth.errors import IntegrityError
from dpsynth.ledger.account import Account
from dpsynth.ledger.entries import Anchor, broken
from dpsynth.ledger.store import Store, Transaction


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What verification found: `ok` is the absence of problems, within what was checked."""

    ok: bool
    problems: tuple[str, ...]
    checked: tuple[str, ...]
    not_checked: tuple[str, ...]


def first_id(store: Store) -> str:
    """The id of the ledger in a store; "" where its first entry cannot be read."""
    try:
        row = store.run(lambda entries: entries.row(0), write=False)
        first = Account()
        if row is not None:
            first.take(row)
    except IntegrityError:
        return ""
    return first.ledger_id


def replay(store: Store) -> tuple[Account, str | None]:
    """The account of a store up to its first problem, and that problem."""
    account = Account()

    def work(entries: Transaction) -> None:
        nonlocal account
        account = Account()
        for row in entries.rows():
            account.take(row)
        if account.seq < 0:
            raise broken(0, "it is missing")
        entries.check()

    try:
        store.run(work, write=False)
    except IntegrityError as problem:
        return account, str(problem)
    return account, None


def missing(account: Account, anchor: Anchor) -> str:
    """What is said of an anchor that a ledger does not contain."""
    if anchor.ledger_id != account.ledger_id:
        return f"an anchor (entry {anchor.seq}) belongs to another ledger"
    if anchor.seq <= account.seq:
        return f"entry {anchor.seq} is not the one that an anchor names: the history was rewritten"
    return f"entry {anchor.seq}, which an anchor names, is missing: the file was cut or restored from a backup"


def judge(
    account: Account,
    problem: str | None,
    against: Sequence[Anchor],
    *,
    seen: Anchor | None = None,
    noted: Anchor | None = None,
) -> VerifyReport:
    """Judge a replayed ledger.

    Args:
        account, problem: What `replay` returned.
        against: Heads kept elsewhere.
        seen: The head that this process has seen.
        noted: The head that was noted on this machine, before the replay began.
    """
    problems, checked, not_checked = [], [], []
    matched = {-1}
    if problem is not None:
        problems.append(problem)
        not_checked.append(f"everything after entry {account.seq}" if account.heads else "every entry")
    else:
        checked.append(f"{len(account.heads)} entries: every hash and link, the order of their kinds, every sum")
        if seen is not None and not account.contains(seen):
            problems.append(f"entry {seen.seq}, which this process has seen, is gone: the file was cut or replaced")
        if noted is not None and account.contains(noted):
            checked.append(f"entry {noted.seq} is the one that was last noted on this machine, and so is all before it")
        elif noted is not None:
            problems.append(
                f"entry {noted.seq}, which was noted on this machine, is missing or another: the file was cut, rewritten or "
                "restored from a backup"
            )
    for anchor in dict.fromkeys(against):
        if account.contains(anchor):
            checked.append(f"entry {anchor.seq} is the one that an anchor names, and so is all before it")
            matched.add(anchor.seq)
        elif problem is not None and anchor.seq > account.seq and account.ledger_id in ("", anchor.ledger_id):
            not_checked.append(f"the anchor of entry {anchor.seq}, which lies behind the damage")
        else:
            problems.append(missing(account, anchor))
    if problem is None and max(matched) < account.seq:
        not_checked.append(
            f"whether entries {max(matched) + 1} to {account.seq} are all and the original ones: no given anchor is "
            "that recent, and a file cut short or recomputed as a whole has a valid chain"
        )
    for deposit, witness in account.deposits:
        if deposit not in against:
            not_checked.append(f"the head of entry {deposit.seq} that was deposited with {witness}: it was not given")
    if problem is None and noted is None:
        not_checked.append("the head that was last seen on this machine: none is noted here")
    return VerifyReport(
        ok=not problems, problems=tuple(problems), checked=tuple(checked), not_checked=tuple(not_checked)
    )
