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


def judge(account: Account, problem: str | None, against: Sequence[Anchor], seen: Anchor | None) -> VerifyReport:
    """Judge a replayed ledger against anchors, and against the head this process has seen."""
    problems, checked, not_checked = [], [], []
    if problem is not None:
        problems.append(problem)
        not_checked.append(f"everything after entry {account.seq}" if account.heads else "every entry")
    else:
        checked.append(f"{len(account.heads)} entries: every hash and link, the order of their kinds, every sum")
        if seen is not None and not account.contains(seen):
            problems.append(f"entry {seen.seq}, which this process has seen, is gone: the file was cut or replaced")
    matched = {-1}
    for anchor in dict.fromkeys(against):
        if account.contains(anchor):
            checked.append(f"entry {anchor.seq} is the one that an anchor names, and so is all before it")
            matched.add(anchor.seq)
        elif account.heads and anchor.ledger_id != account.ledger_id:
            problems.append(f"an anchor (entry {anchor.seq}) belongs to another ledger")
        elif anchor.seq <= account.seq:
            problems.append(f"entry {anchor.seq} is not the one that an anchor names: the history was rewritten")
        elif problem is None:
            problems.append(
                f"entry {anchor.seq}, which an anchor names, is missing: the file was cut or restored from a backup"
            )
        else:
            not_checked.append(f"the anchor of entry {anchor.seq}, which lies behind the damage")
    if problem is None and max(matched) < account.seq:
        not_checked.append(
            f"whether entries {max(matched) + 1} to {account.seq} are all and the original ones: no given anchor is "
            "that recent, and a file cut short or recomputed as a whole has a valid chain"
        )
    for deposit, witness in account.deposits:
        if deposit not in against:
            not_checked.append(f"the head of entry {deposit.seq} that was deposited with {witness}: it was not given")
    return VerifyReport(
        ok=not problems, problems=tuple(problems), checked=tuple(checked), not_checked=tuple(not_checked)
    )
