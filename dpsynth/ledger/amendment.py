"""Amendments: what an approver signs to raise a cap, bound to one ledger at one head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from dpsynth.canonical import canonical, from_canonical
from dpsynth.errors import UsageError
from dpsynth.ledger.entries import Anchor, cap_of, is_text, require
from dpsynth.privacy import Cap
from dpsynth.signing import PublicKey

KIND: Final = "application/vnd.dpsynth.amendment+json"
SCHEMA: Final = "dpsynth.amendment/1"
_TEXTS: Final = ("population", "reason", "approver", "requested_by")


@dataclass(frozen=True, kw_only=True)
class Amendment:
    """A higher cap, as its approver sees it.

    Args:
        population: Whose cap it is.
        after: The head of the ledger that it follows: a signature is good there, once, and nowhere else.
        before, cap: The cap that holds and the one that shall.
        reason, approver, requested_by: Why, who answers for it, and who asked ("" if nobody says).
    Raises:
        ValueError: the cap is not higher, a text is not printable, or one person asks and approves.
    """

    population: str
    after: Anchor
    before: Cap
    cap: Cap
    reason: str
    approver: str
    requested_by: str

    def __post_init__(self) -> None:
        require(all(is_text(getattr(self, name), empty=name == "requested_by") for name in _TEXTS), "text")
        require(self.cap == self.before.raised(self.cap.epsilon), "a cap only goes up")
        require(not is_same_person(self.approver, self.requested_by), "a second person")

    @property
    def body(self) -> bytes:
        """What is signed: all of it, as canonical JSON."""
        texts = {name: getattr(self, name) for name in _TEXTS}
        caps = {"cap_before": self.before.to_json(), "cap": self.cap.to_json()}
        return canonical({"schema": SCHEMA, "after": self.after.to_json()} | texts | caps)

    @classmethod
    def parse(cls, body: bytes) -> Amendment:
        """The inverse of `body`.

        Raises:
            UsageError: the text is not one that `body` makes.
        """
        try:
            data: Any = from_canonical(body)
            after = Anchor(data["after"]["ledger_id"], data["after"]["seq"], data["after"]["head"])
            made = cls(
                after=after,
                before=cap_of(data["cap_before"]),
                cap=cap_of(data["cap"]),
                **{name: data[name] for name in _TEXTS},
            )
            require(made.body == body, "another text")
        except (UsageError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            raise UsageError(
                "this is not the text of an amendment: make it with dpsynth ledger amend --to-sign"
            ) from None
        return made

    def signer(self, signature: str, keys: Iterable[str]) -> str:
        """Which of these public keys made the signature; "" if none did."""
        return next((key for key in keys if PublicKey.parse(key).verifies(signature, kind=KIND, body=self.body)), "")


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are spelled alike but for case, blanks and punctuation; no name is nobody's."""
    letters = ["".join(letter for letter in name.casefold() if letter.isalnum()) for name in (one, other)]
    return bool(one and other) and letters[0] == letters[1]
