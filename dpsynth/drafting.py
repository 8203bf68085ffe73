"""Proposes a schema for a file, which leaves open what a person does not fill in from public knowledge.

Types and roles are guesses from column names and storage types, which are public, and a guess errs towards dropping or
protecting a column. Bounds, bins and values are left to discovery, which costs budget. Then the first rows are looked at:
a column of values that look like identifiers or free text is proposed to be dropped, and what numbers, dates and "yes" or
"no" look like decides between the types that a name leaves open, their format and their decimals; nothing else follows
from the rows. No value, bound, category or count is ever printed. But which columns look like what is a fact about the
rows: such a draft is as private as they are until a person has gone through it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpsynth import sources
from dpsynth.dates import TIMES, Clock
from dpsynth.errors import DataFileError, OperationError
from dpsynth.figures import Figures
from dpsynth.identifiers import look
from dpsynth.reading import first_rows
from dpsynth.reading.first_rows import Glance
from dpsynth.reading.header import csv_header, is_parquet, open_parquet
from dpsynth.reading.storage import storage_kind
from dpsynth.schema import Read
from dpsynth.schema.quoting import is_plain, quoted
from dpsynth.schema.to_toml import toml_value
from dpsynth.schema.vocabulary import FORMAT, MAX_DECIMALS, NUMERIC, TYPES
from dpsynth.sources import Data, is_address
from dpsynth.table import arrow_texts

ROWS = 2000
"""How many rows are looked at, at most."""

_LONGEST = 1000  # characters of a value that are looked at: a longer one is no name, number or date

_DELIMITERS = (",", ";", "\t", "|")
_SAVES = "declare what is public: it saves budget"
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
_MIDNIGHT = re.compile(r".* 00:00:00(\.0+)?Z?")
_LEADING_ZERO = re.compile(r"[-+]?0\d+")
_EPOCH = re.compile(
    r"[12]\d{9}(\d{3})?"
)  # seconds or milliseconds since 1970; finer ones are beyond what is discovered
_LEAST_ROWS = 20  # with a value; fewer say nothing about how numbers are written
_MOST_DECIMALS = 4  # that are proposed; more are taken for a continuous column
_FIGURES = tuple(
    (before, apart, mark, after)
    for before, after in (
        ("", ""), ("", " %"), ("", "%"), ("$", ""), ("£", ""), ("€", ""), ("¥", ""), ("₹", ""), ("", " €"), ("", "€"),
        ("US$", ""), ("USD ", ""), ("EUR ", ""), ("GBP ", ""), ("CHF ", ""), ("", " USD"), ("", " EUR"), ("", " CHF"),
        ("R$ ", ""), ("kr ", ""), ("", " kr"), ("", " zł"),
    )
    for apart, mark in ((",", "."), (".", ","), (" ", ","), ("\u00a0", ","), ("\u202f", ","), ("'", "."), ("\u2019", "."))
)  # fmt: skip
"""What stands before a number, between its thousands, before its decimals and behind it."""
_BEHIND = re.compile(r"[^0-9].*")
_DATE_FORMATS = (
    "%Y-%m-%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d", "%b %d, %Y",
    "%d %b %Y", "%B %d, %Y", "%d %B %Y", "%d-%b-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y",
)  # fmt: skip
_TIME_FORMATS = ("T%H:%M:%S", " %H:%M:%S", "T%H:%M:%S.%f", " %H:%M:%S.%f", "T%H:%M:%S%z", " %H:%M", " %I:%M %p")
_MOST_FORMATS = 4
_CODED = frozenset(("zip", "postal", "postcode", "icd", "diagnosis", "diag", "procedure", "cpt", "naics"))
"""Names of codes whose first characters are a coarser code, of which many persons share one."""
_YES_NO = (
    (("Y", "y", "Yes", "yes", "YES"), ("N", "n", "No", "no", "NO")),
    (("T", "t", "True", "true", "TRUE"), ("F", "f", "False", "false", "FALSE")),
)
"""How people spell true and false."""
_LOOKS_LIKE_A_VALUE = re.compile(
    r"\s*|[-+]?[\d.,]+([eE][-+]?\d+)?%?|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*|.*@.*|\d{2}:\d{2}.*"
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PERSON = _words(
    "person patient customer client user member subject participant employee student teacher citizen resident tenant "
    "household family child father mother spouse contact respondent borrower applicant beneficiary enrollee insured"
)
_NAMED = _PERSON | _words("name full first last middle given family sur maiden nick")
_NUMBERED = _PERSON | _words(
    "account card credit debit passport licence license driver insurance policy claim order encounter record case "
    "transaction trans device session loan birth disp ticket reference national invoice tax medical hospital social security serial plate vehicle phone row"
)
_ALWAYS_IDENTIFIERS = _words(
    "email mail phone telephone mobile cell fax ssn nino iban bic swift passport mrn nhs vin imei uuid guid username "
    "login surname firstname lastname fullname forename address street url website homepage ip ipaddr mac gps "
    "latitude longitude lat lon coordinates geohash fingerprint signature photo index0 unnamed"
)
_TEXTS = _words(
    "note notes comment comments description text remark remarks narrative message free memo transcript agent"
)
_BIRTHS = _words("dob birth birthdate birthday born")
_DATES = _BIRTHS - {"birth", "born"} | _words("date admitted discharged")
_MOMENTS = _words("timestamp datetime time created updated")
_EPOCHS = _MOMENTS | _words("epoch unix")
_SPANS = _words("in to spent since until between per days hours minutes seconds")
_CATEGORIES = _words(
    "sex gender race ethnicity hispanic country nationality state region province county city district site zip "
    "postcode postal marital married type code class category group status occupation job title industry plan language "
    "religion party department product icd diagnosis diag specialty method reason purpose"
)
_ORDINALS = _words("grade level stage severity rating rank quartile quintile decile education degree")
_BOOLEANS = _words("is has flag")
_INTEGERS = _words(
    "age count num number n visits admissions children members persons size rooms year years months month days day "
    "hours minutes quantity qty"
)
_NUMBERS = _words(
    "income salary wage amount price cost charge charges balance expense expenses dollars rate ratio pct percent score "
    "index weight height bmi temperature pressure dose distance duration loss gain debt value mean average"
)
_QUASI = _words(
    "age sex gender race ethnicity hispanic birth birthdate birthday dob zip postcode postal city county state region "
    "province district country site nationality education degree occupation job title industry employer marital married "
    "household family children language year school veteran"
)
_SENSITIVE = _words(
    "income salary wage diagnosis diag disease icd health medical medication drug treatment therapy symptom disability "
    "hiv mental pregnancy pregnant genetic religion party union sexual orientation crime conviction debt balance loan "
    "credit score expense expenses cost charge charges visits admission admissions hospital test result lab alcohol "
    "smoker smoking bmi pressure"
)


def draft(data: Data, *, unit: str | None = None, names_only: bool = False) -> str:
    """A schema in TOML with `status = "draft"`, to be filled in and signed off by a person.

    Args:
        data: A `.csv` or `.parquet` file, or the address of a database table (`dpsynth.sources`).
        unit: The column that says to whom a row belongs; None when the unit is a row.
        names_only: Whether to look at no row.
    Raises:
        DataFileError: it cannot be opened, its first line does not look like a header, its names cannot be used,
            or `unit` is none of them.
        OperationError: rows are to be looked at, and the libraries that recognise numbers are not installed.
    Privacy: without `names_only` the draft says of each column whether its first values look like identifiers or free
        text. It is as private as the rows until a person has gone through it.
    """
    if is_address(data):
        stored, table = sources.columns(str(data))
        shown, read = f"the table {quoted(table, 200)}", None
        columns = [(field.name, storage_kind(field.type)) for field in stored]
    else:
        path = Path(data)
        shown, table = quoted(str(path), 200), path.stem
        columns, read = _columns(path, shown)
    names = [name for name, _ in columns]
    _check_names(names, shown, is_csv=read is not None)
    if unit is not None and unit not in names:
        raise DataFileError(f"{shown} has no column {quoted(unit)} to say whose row it is: name one of its columns")
    seen = {} if names_only else _seen(data, read)
    lines = _head(table, unit, names_only=not seen)
    if read is not None:
        lines += [
            "[read]",
            f"delimiter = {toml_value(read.delimiter)}",
            f"encoding  = {toml_value(read.encoding)}",
            'missing   = [""]  # every text that means "missing", such as "NA"',
            "",
        ]
    for name, kind in columns:
        proposal = _proposal(name, kind, seen.get(name, Glance([], 0)), is_unit=name == unit)
        lines += ["[[column]]", f"name    = {toml_value(name)}", *proposal, ""]
    return "\n".join(lines)


def _columns(path: Path, shown: str) -> tuple[list[tuple[str, str | None]], Read | None]:
    """Names and storage kinds of a file's columns, and how it is to be read if it is CSV."""
    try:
        parquet = is_parquet(path)
        with path.open("rb") as file:
            if parquet:
                return [
                    (field.name, storage_kind(field.type)) for field in open_parquet(file, shown).schema_arrow
                ], None
            read = _dialect(path)
            return [(name, "csv") for name in csv_header(file, read, shown)], read
    except FileNotFoundError:
        raise DataFileError(f"the data file {shown} does not exist") from None
    except OSError:
        raise DataFileError(f"the data file {shown} cannot be opened") from None


def _seen(data: Data, read: Read | None) -> dict[str, Glance]:
    """The first values of each column."""
    try:
        import phonenumbers  # noqa: F401 - found missing here, before a row is read
        import stdnum  # noqa: F401
    except ImportError:
        raise OperationError(
            "looking at values needs python-stdnum and phonenumbers: install them, or add --names-only"
        ) from None
    found = sources.glance(str(data), ROWS) if is_address(data) else first_rows.glance(Path(data), read, ROWS)
    return {name: Glance([text[:_LONGEST] for text in seen.texts], seen.rows) for name, seen in found.items()}


def _head(table: str, unit: str | None, *, names_only: bool) -> list[str]:
    table = table if table.strip() and is_plain(table) else "table"
    who = (
        f'unit       = {{ entity = "person", column = {toml_value(unit)} }}  # add max_rows: rows of one person that count'
        if unit is not None
        else '# unit     = { entity = "person", column = "...", max_rows = ... }  # without it, a row is the unit'
    )
    origin = (
        ["# A draft from column names and storage types; no row was read."]
        if names_only
        else [
            "# A draft from column names and storage types, and a look at the first rows, of which it says only what they look",
            "# like. That is a fact about the rows: the draft is as private as they are until you have gone through it.",
        ]
    )
    return [
        *origin,
        '# Correct the guesses. What says "discover" a release finds under its own budget. What you declare instead, from',
        "# public knowledge (a codebook, a form, a law) or as round bounds chosen without looking at the data, saves budget.",
        f"schema     = {toml_value(FORMAT)}",
        'status     = "draft"  # release refuses until this line is removed',
        f"table      = {toml_value(table)}",
        'neighbours = "add_remove"  # or "replace"',
        who,
        '# basis    = "..."  # where bounds and values come from; printed in the report',
        "",
    ]


def _proposal(name: str, kind: str | None, glance: Glance, *, is_unit: bool) -> list[str]:
    """The keys of one column, and comments where something is left to do.

    What its values look like can turn a column into one that is dropped; into one that is not, only numbers that count
    time since 1970, in a column whose name says so.
    """
    words = _split(name)
    if is_unit:
        return ['type    = "identifier"  # the unit column', 'role    = "direct_identifier"']
    type_ = _type(words, kind)
    is_epoch = bool(words & _EPOCHS) and type_ != "identifier" and _are_epochs(glance)
    seen = look(glance) if glance.texts and kind not in TIMES and not is_epoch else None
    looks = f"; looks like {seen.words}" if seen is not None else ""
    if type_ == "identifier" or (seen is not None and seen.type == "identifier"):
        fakes = [f'# format = "{seen.format}"  # fakes in place of it'] if seen is not None and seen.format else []
        return [f'type    = "identifier"  # dropped{looks}', *fakes, 'role    = "direct_identifier"']
    if type_ == "text" or seen is not None:
        why = looks or (": nested values and durations are not supported" if kind is None else "")
        return [f'type    = "text"  # dropped{why}', *_role(words)]
    type_ = "integer" if is_epoch else _by_values(type_, words, kind, glance)
    figures = _figures(glance) if kind in ("csv", "text") and type_ not in TIMES else None
    if figures is not None:
        type_ = "number" if Figures(figures).decimals else "integer"
    spellings = _spellings(glance) if kind in ("csv", "text") and type_ in ("category", "boolean") else []
    type_ = "boolean" if spellings else type_
    lines = [f"type    = {toml_value(type_)}{_remark(type_, kind, is_epoch=is_epoch)}"]
    if type_ in NUMERIC:
        lines += [f'minimum = "discover"  # or {_SAVES}', 'maximum = "discover"', 'bins    = "discover"']
        if figures is not None:
            lines += [f"format  = {toml_value(figures)}  # how 1234 is written"]
        elif type_ == "number" and (decimals := _decimals(glance)):
            lines += [f"decimals = {decimals}  # as the first values have them; or remove"]
        if type_ in TIMES and kind in ("csv", "text"):
            lines += [_date_formats(type_, glance)]
    elif type_ == "category":
        lines += [f'values  = "discover"  # or {_SAVES}']
        if words & _CODED:
            lines += [
                "# prefix  = 3  # to count the first characters only: the region of a postcode, the group of a diagnosis"
            ]
    elif type_ == "ordinal":
        lines += ["# values  = []  # from low to high"]
    elif spellings:
        lines += spellings
    elif kind != "boolean":
        lines += ['# true    = ["1"]', '# false   = ["0"]']
    return [*lines, "missing = true  # or remove", *_role(words)]


def _by_values(type_: str, words: frozenset[str], kind: str | None, glance: Glance) -> str:
    """The type, where the name leaves it open and values decide.

    Texts that are plain numbers are numbers, unless the name says what they classify, or one begins with a zero that a
    number would lose. Numbers that are all whole are integers, also where a gap made storage call them floats.
    """
    if kind == "datetime" and glance.texts and all(map(_MIDNIGHT.fullmatch, glance.texts)):
        return "date"
    if kind not in ("csv", "text", "float") or not _are_numbers(glance):
        return type_
    if type_ in TIMES or (type_ == "category" and words & _MOMENTS and words & _SPANS):
        type_ = _type(words - _DATES - _MOMENTS, kind)
        type_ = "number" if type_ in ("category", "ordinal", "boolean") else type_
    elif type_ == "category" and not words & _CATEGORIES and not any(map(_LEADING_ZERO.fullmatch, glance.texts)):
        type_ = "number"
    whole = all("." not in text for text in glance.texts) and (kind != "float" or glance.rows >= _LEAST_ROWS)
    return ("integer" if whole else "number") if type_ in ("integer", "number") else type_


def _are_numbers(glance: Glance) -> bool:
    """Whether values are plain numbers, and not dates without signs between their parts, such as 20200131."""
    texts = [text.strip() for text in glance.texts]
    plain = bool(texts) and all(_NUMBER.fullmatch(text) for text in texts)
    return plain and not all(len(text) in (8, 12, 14) and text.startswith(("1", "2")) for text in texts)


def _are_epochs(glance: Glance) -> bool:
    """Whether values are whole numbers of the size of a time since 1970."""
    return bool(glance.texts) and all(_EPOCH.fullmatch(text.strip()) for text in glance.texts)


def _decimals(glance: Glance) -> int:
    """How many decimals plain numbers show at most; 0 where that says little, or where they are too many to be written."""
    texts = [text for text in glance.texts if text not in ("inf", "-inf")]
    if glance.rows < _LEAST_ROWS or not all(_NUMBER.fullmatch(text.strip()) for text in texts):
        return 0
    most = max((len(text.strip().partition(".")[2]) for text in texts), default=0)
    return most if most <= _MOST_DECIMALS else 0


def _spellings(glance: Glance) -> list[str]:
    """The usual spellings of true and false, all of them, where values are spelled so; nothing where they are not."""
    told = {text.strip() for text in glance.texts}
    for true, false in _YES_NO:
        if told <= {*true, *false} and not told.isdisjoint(true) and not told.isdisjoint(false):
            return [f"true    = {toml_value(true)}", f"false   = {toml_value(false)}"]
    return []


def _figures(glance: Glance) -> str | None:
    """How all values are written as numbers; None where they are plain numbers, or none."""
    texts = [text.strip() for text in glance.texts]
    if not texts or all(_NUMBER.fullmatch(text) for text in texts):
        return None
    signs, found = set("".join(texts)) - set("0123456789"), []
    for before, apart, mark, after in _FIGURES:
        if not signs <= set(before + after + apart + mark + "-+() "):
            continue
        if not any(text.endswith((after, f"{after})")) and text.lstrip("-+( ").startswith(before) for text in texts):
            continue
        for behind in {0, max(len(_BEHIND.sub("", text.rpartition(mark)[2])) if mark in text else 0 for text in texts)}:
            shown = f"{before}1{apart if apart in signs else ''}234{mark + '0' * behind if behind else ''}{after}"
            fits = behind <= MAX_DECIMALS and not any(math.isnan(Figures(shown).parse(text)) for text in texts)
            found += [(behind, shown)] if fits else []
    return min(found, key=lambda form: form[0])[1] if found else None  # 1.234 is more likely a number of thousands


def _date_formats(kind: str, glance: Glance) -> str:
    """The formats that all values have, the commonest first; a remark where those are ISO 8601 or none of ours."""
    left = [text.strip() for text in glance.texts]
    known = _DATE_FORMATS if kind == "date" else [day + time for time in _TIME_FORMATS for day in _DATE_FORMATS]
    found: list[str] = []
    while left and len(found) < _MOST_FORMATS:
        texts = arrow_texts([text if text.isascii() else "" for text in left])
        fitting = {form: ~np.isnan(Clock(kind, form).parse(texts)) for form in known}
        best = max(known, key=lambda form: int(fitting[form].sum()))
        if not fitting[best].any():
            break
        found.append(best)
        left = [text for text, fits in zip(left, fitting[best].tolist(), strict=True) if not fits]
    if left or not found or found == [Clock(kind).written]:
        return f"# format  = {toml_value(Clock(kind).written)}  # as strftime has it"
    if len(found) == 1:
        return f"format  = {toml_value(found[0])}  # as strftime has it"
    return f"formats = {toml_value(found)}  # as strftime has it; the first is the one that is written"


def _remark(type_: str, kind: str | None, *, is_epoch: bool) -> str:
    """What the person who goes through the draft may do with a type."""
    if is_epoch:
        return "  # counts time since 1970"
    if kind == "csv":
        return f"  # or {', '.join(TYPES)}"
    return "  # whole numbers so far, stored with a point; or number" if (type_, kind) == ("integer", "float") else ""


def _role(words: frozenset[str]) -> list[str]:
    if words & _QUASI:
        return ['role    = "quasi_identifier"']
    return ['role    = "sensitive"' if words & _SENSITIVE else 'role    = "other"']


def _type(words: frozenset[str], kind: str | None) -> str:
    """The proposed type; names that point at a person win over everything else, storage over the other names."""
    if _is_identifier(words):
        return "identifier"
    if kind is None or (words & _TEXTS and kind in ("csv", "text")):
        return "text"
    if kind == "datetime" and words & _BIRTHS and not words & _MOMENTS:
        return "date"
    if kind in ("boolean", *TIMES):
        return kind
    if kind in ("csv", "text"):
        if words & _MOMENTS and not words & _SPANS:
            return "datetime"
        if words & _DATES:
            return "date"
    by_name = [("ordinal", _ORDINALS), ("category", _CATEGORIES)]
    if kind == "csv":
        by_name += [("number", _NUMBERS), ("integer", _INTEGERS), ("boolean", _BOOLEANS)]
    if kind in ("csv", "text", "integer", "null"):
        for type_, known in by_name:
            if words & known:
                return type_
    return {"integer": "integer", "float": "number", "decimal": "number"}.get(kind, "category")


def _is_identifier(words: frozenset[str]) -> bool:
    if words & _ALWAYS_IDENTIFIERS:
        return True
    if words & {"name", "names"}:
        return words <= _NAMED | {"names"}
    return bool(words & {"id", "number", "no", "nbr", "nr", "key"} and words & _NUMBERED) or words in ({"id"}, {"key"})


def _split(name: str) -> frozenset[str]:
    """The words of a column name, in lower case: "homePhone_no", "home phone no" and "HOME.PHONE.NO" are the same."""
    parts = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name.replace("e-mail", "email").replace("E-Mail", "email"))
    return frozenset(word for word in re.split(r"[\W_]+", parts.lower()) if word)


def _dialect(path: Path) -> Read:
    """The delimiter and encoding that the first line suggests; nothing after it is looked at."""
    with path.open("rb") as file:
        line = file.readline(2**20)
    try:
        line.decode("utf-8")
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = "cp1252"
    delimiter = max(_DELIMITERS, key=lambda mark: line.count(mark.encode("ascii")))
    return Read(delimiter=delimiter, encoding=encoding)


def _check_names(names: Sequence[str], shown: str, *, is_csv: bool) -> None:
    """Refuses names that cannot be used, and a first line that may be a row: its cells must not end up in a draft."""
    for place, name in enumerate(names, start=1):
        if is_csv and _LOOKS_LIKE_A_VALUE.fullmatch(name):
            raise DataFileError(
                f"the first line of {shown} does not look like a header, because its cell {place} is no name: add a "
                "header, or write the schema by hand"
            )
        if not is_plain(name) or not name.strip():
            raise DataFileError(
                f"column {place} of {shown} has a name without text or with control characters: rename it"
            )
    if len(set(names)) < len(names):
        raise DataFileError(f"{shown} has two columns of the same name: column names must differ")
