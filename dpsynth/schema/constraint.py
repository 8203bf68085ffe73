"""Constraint: a public rule between columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dpsynth.errors import SchemaError
from dpsynth.schema.checks import expression_of, mapping, refuse, require_known, sentence_of
from dpsynth.schema.to_toml import stated

if TYPE_CHECKING:
    from dpsynth.expressions import Expression


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """A public rule between columns, which every synthetic row keeps. `dpsynth.constraints` says what it may say.

    Args:
        rule: What no row may contradict; or else
        implies: {"if": ..., "then": ...}: rows for which the first is true, and of which the second is not false.
        basis: Where the rule comes from.
    """

    rule: str | None = None
    implies: Mapping[str, str] | None = None
    basis: str | None = None

    def __post_init__(self) -> None:
        if (self.rule is None) == (self.implies is None):
            raise SchemaError("it must have either a rule or implies = { if = ..., then = ... }")
        if self.rule is not None:
            object.__setattr__(self, "rule", expression_of(self.rule, "rule"))
        else:
            implies = mapping(self.implies, "implies")
            require_known(implies, ("if", "then"), "implies")
            for key in ("if", "then"):
                if key not in implies:
                    refuse("implies", f"{key} must be declared")
            object.__setattr__(self, "implies", {key: expression_of(implies[key], key) for key in ("if", "then")})
        if self.basis is not None:
            object.__setattr__(self, "basis", sentence_of(self.basis, "[[constraint]]", "basis"))

    @property
    def expression(self) -> Expression:
        """What no row may contradict; without "if", or with "then"."""
        from dpsynth.expressions import Not, Or, parse  # that module builds on this one

        if self.implies is None:
            return parse(str(self.rule))
        return Or((Not(parse(self.implies["if"])), parse(self.implies["then"])))

    @property
    def text(self) -> str:
        """The rule in one line, for people."""
        return str(self.rule) if self.implies is None else f"if {self.implies['if']} then {self.implies['then']}"

    def plain(self) -> dict[str, Any]:
        """What the TOML says, in one spelling."""
        return stated({"rule": self.rule, "implies": self.implies, "basis": self.basis})
