"""The language of constraints and conditions: a small grammar over columns, parsed and never run as code.

    or      = and {"or" and}                          and  = not {"and" not}
    not     = "not" not | "(" or ")" | claim
    claim   = column ["not"] "in" "(" value {"," value} ")"  |  column "is" ["not"] "missing"
            | side ("==" | "!=" | "<" | "<=" | ">" | ">=") side
    side    = value | column {("+" | "-") column} [("+" | "-") number]
    value   = number | 'text' | "text" | true | false

A column whose name is no plain word, or is a word of the grammar, stands in backticks; a quote or backtick inside its
own kind is doubled. Categories compare with == and != only, ordinals in their declared order, and columns with columns
of the same kind and grid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, NoReturn, TypeAlias

from dpsynth.errors import UsageError
from dpsynth.privacy import exact
from dpsynth.schema.quoting import quoted

Value: TypeAlias = Fraction | str | bool
Op: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]

MAX_TEXT = 10_000  # characters of an expression
MAX_DEPTH = 50  # parentheses and "not" inside each other
MAX_TERMS = 8  # columns of a comparison


@dataclass(frozen=True)
class Place:
    """A column, plus or minus further columns (sign 1 or -1, and name, in the order written), plus a number."""

    column: str
    plus: Fraction = Fraction(0)
    more: tuple[tuple[int, str], ...] = ()

    @property
    def terms(self) -> tuple[tuple[int, str], ...]:
        """All columns with their signs."""
        return ((1, self.column), *self.more)

    def __str__(self) -> str:
        further = "".join(f" {'+' if sign > 0 else '-'} {_name_shown(name)}" for sign, name in self.more)
        shift = f" {'+' if self.plus > 0 else '-'} {shown(abs(self.plus))}" if self.plus else ""
        return _name_shown(self.column) + further + shift


@dataclass(frozen=True)
class Comparison:
    """A column, or a sum of columns, against a value or another such side."""

    left: Place
    op: Op
    right: Place | Value
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.left} {self.op} {shown(self.right)}"


@dataclass(frozen=True)
class Membership:
    """A column among listed values, or not among them."""

    column: str
    values: tuple[Value, ...]
    negated: bool
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        listed = ", ".join(map(shown, self.values))
        return f"{_name_shown(self.column)} {'not in' if self.negated else 'in'} ({listed})"


@dataclass(frozen=True)
class Gap:
    """A column is missing, or is not."""

    column: str
    negated: bool
    at: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{_name_shown(self.column)} is {'not ' if self.negated else ''}missing"


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Expression

    def __str__(self) -> str:
        return f"not {_grouped(self.part)}"


@dataclass(frozen=True)
class And:
    """All parts."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(map(_grouped, self.parts))


@dataclass(frozen=True)
class Or:
    """At least one part."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(map(_grouped, self.parts))


Expression: TypeAlias = Comparison | Membership | Gap | Not | And | Or

_WORDS = ("and", "or", "not", "in", "is", "missing", "true", "false")
_OPS: tuple[Op, ...] = ("==", "!=", "<=", ">=", "<", ">")
FLIPPED: dict[Op, Op] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
OPPOSITE: dict[Op, Op] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_PLAIN_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+)*")
_TOKEN = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)"
    rf"|(?P<name>{_PLAIN_NAME.pattern})"
    r"|`(?P<quoted_name>(?:[^`]|``)+)`"
    r"|'(?P<single>(?:[^']|'')*)'"
    r'|"(?P<double>(?:[^"]|"")*)"'
    r"|(?P<sign>==|!=|<=|>=|<|>|[(),+-])"
)
_BLANKS = re.compile(r"\s*")


@dataclass(frozen=True)
class _Token:
    """kind: "number", "name", "text", "word" (of the grammar), "sign" or "end"; at: its place, from 1."""

    kind: str
    text: str
    at: int


def parse(text: str) -> Expression:
    """The expression that a text spells; `str` gives back a text that spells the same.

    Raises:
        UsageError: it spells none; the sentence names the place, counted in characters from 1, and what stands there.
    """
    if len(text) > MAX_TEXT:
        raise UsageError(f"the expression is longer than {MAX_TEXT} characters: shorten it")
    return _Parser(list(_tokens(text))).expression()


def names_in(expression: Expression) -> frozenset[str]:
    """The columns that an expression is about."""
    return frozenset(token.text for token in _tokens(str(expression)) if token.kind == "name")


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while True:
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it always matches
        if at == len(text):
            yield _Token("end", "", at + 1)
            return
        found = _TOKEN.match(text, at)
        if found is None:
            hint = {"=": ": write == to compare", "&": ": write and", "|": ": write or", "!": ": write not"}.get(
                text[at]
            )
            lone = text[at] in "'\"`"
            refuse(text[at], at + 1, ": the quote is not closed" if lone else hint or " is not part of the language")
        kind, inner = found.lastgroup or "", found[found.lastgroup or 0]
        if kind == "quoted_name":
            yield _Token("name", inner.replace("``", "`"), at + 1)
        elif kind in ("single", "double"):
            quote = found[0][0]
            yield _Token("text", inner.replace(quote * 2, quote), at + 1)
        else:
            yield _Token("word" if inner in _WORDS else kind, inner, at + 1)
        at = found.end()


def refuse(token: str, at: int, why: str) -> NoReturn:
    """Raises UsageError about what stands at a place of an expression; without a token, about its end."""
    raise UsageError(f"{quoted(token) if token else 'the end'} at character {at}{why}")


class _Parser:
    """Recursive descent; each method reads what it is called after."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    def expression(self) -> Expression:
        found = self._either()
        token = self._peek()
        if token.kind != "end":
            chained = token.text in _OPS
            refuse(
                token.text, token.at, ": join two comparisons with and" if chained else ": expected and, or, the end"
            )
        return found

    def _either(self) -> Expression:
        parts = [self._both()]
        while self._takes("word", "or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Expression:
        parts = [self._one()]
        while self._takes("word", "and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Expression:
        token = self._peek()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            refuse(token.text, token.at, f" is nested deeper than {MAX_DEPTH} levels")
        if self._takes("word", "not"):
            found: Expression = Not(self._one())
        elif self._takes("sign", "("):
            found = self._either()
            self._must(")")
        else:
            found = self._claim()
        self._depth -= 1
        return found

    def _claim(self) -> Expression:
        start = self._peek().at
        left = self._side()
        if isinstance(left, Place) and not left.plus and not left.more:
            if self._takes("word", "is"):
                negated = self._takes("word", "not")
                self._must("missing")
                return Gap(left.column, negated, start)
            negated = self._takes("word", "not")
            if negated or self._peek().text == "in":
                self._must("in")
                return Membership(left.column, self._values(), negated, start)
        token = self._take()
        op = next((op for op in _OPS if token.kind == "sign" and token.text == op), None)
        if op is None:
            refuse(token.text, token.at, ": expected a comparison such as == or <=, in (...), or is missing")
        right = self._side()
        if isinstance(left, Place):
            return Comparison(left, op, right, start)
        if isinstance(right, Place):
            return Comparison(right, FLIPPED[op], left, start)
        refuse(token.text, token.at, " compares two values: one side must be a column")

    def _values(self) -> tuple[Value, ...]:
        self._must("(")
        values = [self._value()]
        while self._takes("sign", ","):
            values.append(self._value())
        self._must(")")
        return tuple(values)

    def _side(self) -> Place | Value:
        token = self._peek()
        if token.kind != "name":
            return self._value()
        self._take()
        more: list[tuple[int, str]] = []
        while self._peek().kind == "sign" and self._peek().text in "+-":
            factor = 1 if self._take().text == "+" else -1
            added = self._take()
            if added.kind == "number":
                after = self._peek()
                if after.kind == "sign" and after.text in "+-":
                    refuse(after.text, after.at, ": the number of a sum comes last, and is one number")
                return Place(token.text, factor * Fraction(added.text), tuple(more))
            if added.kind != "name":
                refuse(added.text, added.at, ": only a column or a number can be added to a column")
            more.append((factor, added.text))
            if len(more) >= MAX_TERMS:
                refuse(added.text, added.at, f": a comparison has at most {MAX_TERMS} columns")
        return Place(token.text, more=tuple(more))

    def _value(self) -> Value:
        token = self._take()
        negative = token.kind == "sign" and token.text == "-"
        if negative:
            token = self._take()
        if token.kind == "number":
            return -Fraction(token.text) if negative else Fraction(token.text)
        if token.kind == "text" and not negative:
            return token.text
        if token.kind == "word" and token.text in ("true", "false") and not negative:
            return token.text == "true"
        known = token.kind == "word"
        refuse(token.text, token.at, ": a column of that name needs `backticks`" if known else ": expected a value")

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def _takes(self, kind: str, text: str) -> bool:
        found = self._peek().kind == kind and self._peek().text == text
        self._next += found
        return found

    def _must(self, text: str) -> None:
        token = self._take()
        if token.kind not in ("word", "sign") or token.text != text:
            refuse(token.text, token.at, f": expected {text}")


def _grouped(part: Expression) -> str:
    return f"({part})" if isinstance(part, And | Or) else str(part)


def _name_shown(name: str) -> str:
    plain = _PLAIN_NAME.fullmatch(name) and name not in _WORDS
    return name if plain else "`" + name.replace("`", "``") + "`"


def shown(value: Place | Value) -> str:
    """A side of a comparison, as the grammar spells it."""
    if isinstance(value, Place):
        return str(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    digits = next(n for n in range(10_000) if 10**n % value.denominator == 0)  # a decimal fraction: it came from one
    whole, rest = divmod(abs(value.numerator) * 10**digits // value.denominator, 10**digits)
    return ("-" if value < 0 else "") + str(whole) + (f".{rest:0{digits}d}" if digits else "")


def spelled(name: str, op: Op, value: Fraction | float | int | str | bool) -> str:
    """The comparison of a column with a value, as text that `parse` reads."""
    literal: Value = value if isinstance(value, str | bool) else exact(value)
    return str(Comparison(Place(name), op, literal))
