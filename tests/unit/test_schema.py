"""The schema: every key parses, every mistake is one sentence that names the column and the key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpsynth.errors import IncompleteSchema, SchemaError, UsageError
from dpsynth.privacy import PrivacyUnit
from dpsynth.schema import Column, Read, Schema
from dpsynth.schema.quoting import quoted

FULL = """
schema       = "dpsynth.schema/1"
table        = "rand-hie"
neighbours   = "replace"
unit         = { entity = "person", column = "zper", max_rows = 5, synthetic = true }
basis        = "published design"
rows_at_most = 25000

[read]
delimiter = ";"
encoding  = "latin-1"
missing   = ["", "NA"]

[[column]]
name    = "xage"
type    = "number"
minimum = 0
maximum = 65
bins    = 16
role    = "quasi_identifier"

[[column]]
name    = "coins"
type    = "category"
values  = ["0", "25", "50", "95"]
missing = true
source  = "data"
unknown = "other"
role    = "other"
basis   = "looked up"

[[column]]
name  = "level"
type  = "ordinal"
values = ["low", "high"]

[[column]]
name  = "female"
type  = "boolean"
true  = ["1", "yes"]
false = ["0", "no"]
missing = true

[[column]]
name     = "money"
type     = "number"
edges    = [0, 0.01, 10.5]
decimals = 2

[[column]]
name = "visits"
type = "integer"
minimum = 0
maximum = 9
unknown = "drop_row"

[[column]]
name   = "zper"
type   = "identifier"
format = "uuid"
role   = "direct_identifier"

[[column]]
name = "remarks"
type = "text"
"""


def schema_of(column: str, *, head: str = "") -> Schema:
    return Schema.parse(f'schema = "dpsynth.schema/1"\ntable = "t"\n{head}\n[[column]]\n{column}')


def refusal(column: str, *, head: str = "") -> str:
    with pytest.raises(SchemaError) as caught:
        schema_of(column, head=head)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in message
    assert not message.endswith(".")
    return message


def test_every_key_of_the_design_parses():
    schema = Schema.parse(FULL)
    assert schema.unit == PrivacyUnit(entity="person", max_rows=5, neighbours="replace")
    assert schema.unit_column == "zper"
    assert schema.rows_at_most == 25000
    assert schema.read == Read(delimiter=";", encoding="iso8859-1", missing=("", "NA"))
    assert schema.names == ("xage", "coins", "level", "female", "money", "visits")
    assert [column.name for column in schema.dropped] == ["zper", "remarks"]
    assert schema.file_names == ("xage", "coins", "level", "female", "money", "visits", "zper", "remarks")
    assert schema.sizes == (16, 6, 2, 3, 2, 10)
    assert schema.from_data() == ["coins"]
    assert schema.basis_gaps() == []
    assert schema.blanks() == []
    schema.require_complete()
    assert schema.index("coins") == 1
    assert schema.column("zper").format == "uuid"


def test_cells_come_in_the_order_values_other_missing():
    coins = Schema.parse(FULL).column("coins")
    assert coins.labels == ("0", "25", "50", "95", "other")
    assert (coins.other_code, coins.missing_code, coins.size) == (4, 5, 6)
    female = Schema.parse(FULL).column("female")
    assert (female.labels, female.other_code, female.missing_code) == (("false", "true"), None, 2)


def test_synthetic_rows_have_the_modelled_columns_and_no_unit():
    schema = Schema.parse(FULL)
    released = schema.released()
    assert released.columns == schema.modelled
    assert released.file_names == schema.names
    assert (released.unit_column, released.unit.entity) == (None, "row")
    assert (released.sizes, released.read) == (schema.sizes, schema.read)


def test_written_rows_have_fakes_too():
    schema = Schema.parse(FULL)
    assert [column.name for column in schema.filled] == ["zper"]
    assert [column.name for column in schema.lost] == ["remarks"]
    written = schema.written()
    assert written.file_names == ("xage", "coins", "level", "female", "money", "visits", "zper")
    assert (written.names, written.unit_column, written.synthetic_units) == (schema.names, None, False)
    assert schema.released().file_names == schema.names


def test_synthetic_units_come_first_where_their_column_is_not_declared():
    flag, name = Column(name="a", type="boolean", per_unit=True), Column(name="n", type="identifier", format="name")
    unit = {"entity": "person", "unit_column": "who", "max_rows": 2}
    schema = Schema(table="t", columns=(flag, name), synthetic_units=True, **unit)
    assert schema.file_names == ("a", "n", "who")
    assert schema.written().file_names == ("who", "a", "n")
    assert schema.released().modelled == (replace(flag, per_unit=None),)
    assert Schema.parse(schema.to_toml()) == schema
    real = Schema(table="t", columns=(replace(flag, per_unit=None), name), **unit)
    assert real.written().file_names == ("a", "n")
    assert "synthetic" not in real.to_toml()
    with pytest.raises(SchemaError, match="column must name"):
        Schema(table="t", columns=(name, replace(flag, per_unit=None)), synthetic_units=True)


def test_the_unit_column_has_fakes_only_where_units_are_synthetic():
    with pytest.raises(SchemaError, match="format of the unit column needs"):
        Schema.parse(FULL.replace(", synthetic = true", ""))


def test_what_a_file_writes_is_what_it_reads():
    schema = Schema.parse(FULL)
    again = Schema.parse(schema.to_toml())
    assert again == schema
    assert again.digest == schema.digest
    assert again.to_toml() == schema.to_toml()


def test_the_digest_follows_the_meaning():
    schema = Schema.parse(FULL)
    assert len(schema.digest) == 64
    assert Schema.parse(FULL.replace("maximum = 65", "maximum = 65.0  # years")).digest == schema.digest
    changes = [
        ('"NA"', '"N/A"'),
        ("max_rows = 5", "max_rows = 4"),
        ("published", "unpublished"),
        ("bins    = 16", "bins = 15"),
    ]
    digests = {Schema.parse(FULL.replace(old, new)).digest for old, new in changes}
    assert len(digests | {schema.digest}) == len(changes) + 1


def test_a_row_is_the_unit_unless_a_column_says_otherwise():
    schema = schema_of('name = "a"\ntype = "boolean"')
    assert schema.unit == PrivacyUnit(entity="row", max_rows=1, neighbours="add_remove")
    assert schema.unit_column is None


def test_the_unit_column_need_not_be_a_column_of_its_own():
    schema = schema_of('name = "a"\ntype = "boolean"', head='unit = {entity = "person", column = "who", max_rows = 2}')
    assert schema.file_names == ("a", "who")
    assert schema.dropped == ()


def test_unknown_follows_missing():
    assert schema_of('name = "a"\ntype = "boolean"').column("a").unknown == "drop_row"
    assert schema_of('name = "a"\ntype = "boolean"\nmissing = true').column("a").unknown == "missing"


@pytest.mark.parametrize(
    ("keys", "size"),
    [
        ('type = "integer"\nminimum = 1\nmaximum = 64', 64),
        ('type = "integer"\nminimum = 1\nmaximum = 65', 32),
        ('type = "integer"\nminimum = 7\nmaximum = 7', 1),
        ('type = "number"\nminimum = 0\nmaximum = 1', 32),
        ('type = "number"\nminimum = 0\nmaximum = 1\ndecimals = 1', 11),
        ('type = "number"\nminimum = 0\nmaximum = 1\nmissing = true', 33),
        ('type = "number"\nedges = [0, 18, 40, 65]', 3),
        ('type = "category"\nvalues = ["a"]', 1),
        ('type = "boolean"', 2),
    ],
)
def test_sizes(keys, size):
    assert schema_of(f'name = "a"\n{keys}').sizes == (size,)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('type = "date"\nminimum = 5', ["minimum must be a date", "2020-01-31"]),
        ('type = "date"\nminimum = "2021-02-29"', ["minimum must be a date"]),
        ('type = "date"\nminimum = 2020-01-31T12:00:00', ["minimum must be a date"]),
        ('type = "date"\nedges = ["2020-01-01", "2019-01-01"]', ["edges must increase"]),
        ('type = "date"\nminimum = "2020-01-01"\nmaximum = "2019-01-01"', ["minimum must lie below maximum"]),
        ('type = "date"\nformat = "%Y-%m"', ["format", "the whole date"]),
        ('type = "date"\nformat = "%Y-%m-%d %H"', ["format", "datetime"]),
        ('type = "date"\nformat = "%y-%m-%d"\nminimum = "1960-01-01"\nmaximum = "1999-01-01"', ["format", "%y"]),
        ('type = "date"\nformat = "%y-%m-%d"\nminimum = "1970-01-01"\nmaximum = "2068-12-31"', []),
        ('type = "date"\ndecimals = 2', ["decimals does not apply", "date"]),
        ('type = "datetime"\nformat = "%Y-%m-%d"', ["format", "the hour"]),
        ('type = "datetime"\nformat = "%Y-%m-%d %H:%M"\nminimum = 2020-01-31T12:00:30', ["minimum", "whole minute"]),
        ('type = "datetime"\nformat = "%A %Y-%m-%d %H:%M"', ["format must be made of"]),
        ('type = "integer"\nminimum = 0\nmaximum = 999\natoms = [1000]', ["the atom 1000", "between"]),
        ('type = "number"\nminimum = 0\nmaximum = 9\ndecimals = 1\natoms = [0.25]', ["the atom 0.25", "1 decimals"]),
        ('type = "category"\natoms = [1]', ["atoms does not apply"]),
        ('type = "ordinal"\nvalues = ["a"]\nprefix = 1', ["prefix does not apply", "ordinal"]),
        ('type = "category"\nvalues = ["a"]\nprefix = 0', ["prefix", "at least 1"]),
        ('type = "category"\nvalues = ["a"]\nprefix = 201', ["prefix", "at most 200"]),
        ('type = "category"\nvalues = ["021", "0213"]\nprefix = 3', ["values", "no longer than prefix"]),
        ('type = "float"', ["type must be"]),
        ('type = 3', ["type must be"]),
        ('type = "ordinal"\nvalues = "discover"', ["values", "cannot be discovered"]),
        ('type = "number"\nedges = "discover"', ["edges", "cannot be discovered"]),
        ('type = "number"\nedges = [0, 1]\nbins = "discover"', ["edges", "discover"]),
        ('type = "category"\nvalues = "discover"\nunknown = "drop_row"', ["unknown", "rare"]),
        ('type = "category"\nvalues = "discover"\nrole = "direct_identifier"', ["identifies a person"]),
        ('type = "category"\nvalues = ["a"]\ndiscover = ["values"]', ["unknown key"]),
        ('type = "category"\nvalues = []', ["values", "empty"]),
        ('type = "category"\nvalues = ["a", "a"]', ["values", "twice"]),
        ('type = "category"\nvalues = [1, 2]', ["values", "quotes"]),
        ('type = "category"\nvalues = "abc"', ["values", "list"]),
        ('type = "category"\nvalues = ["a", "  "]', ["values", "empty"]),
        ('type = "category"\nvalues = ["a", "b\\u0007"]', ["values", "control characters"]),
        ('type = "category"\nvalues = ["a\\nb"]', ["values", "control characters"]),
        ('type = "category"\nvalues = ["a", "\\u202eb"]', ["values", "direction"]),
        ('type = "category"\nvalues = ["a", "other"]\nunknown = "other"', ["unknown", '"other"']),
        ('type = "boolean"\ntrue = ["1"]', ["true and false"]),
        ('type = "boolean"\ntrue = ["1"]\nfalse = ["1"]', ["true and false", "share"]),
        ('type = "boolean"\nunknown = "other"', ["unknown", "boolean"]),
        ('type = "boolean"\nunknown = "missing"', ["unknown", "missing = true"]),
        ('type = "boolean"\nunknown = "keep"', ["unknown must be"]),
        ('type = "boolean"\nmissing = "yes"', ["missing must be true or false"]),
        ('type = "boolean"\nrole = "secret"', ["role must be"]),
        ('type = "boolean"\nsource = "guess"', ["source must be"]),
        ('type = "boolean"\nbasis = ""', ["basis", "empty"]),
        ('type = "boolean"\nminimum = 0', ["minimum does not apply", "boolean"]),
        ('type = "integer"\ndecimals = 2', ["decimals does not apply", "integer"]),
        ('type = "number"\nvalues = ["a"]', ["values does not apply", "number"]),
        ('type = "number"\nformat = "x"', ["format of a number must show how 1234 is written"]),
        ('type = "text"\nunknown = "drop_row"', ["unknown does not apply"]),
        ('type = "number"\nminimum = 1\nmaximum = 1', ["minimum must lie below maximum"]),
        ('type = "number"\nminimum = 2\nmaximum = 1', ["minimum must lie below maximum"]),
        ('type = "integer"\nminimum = 2\nmaximum = 1', ["minimum must lie below maximum"]),
        ('type = "number"\nminimum = nan\nmaximum = 1', ["minimum", "finite"]),
        ('type = "number"\nminimum = 0\nmaximum = inf', ["maximum", "finite"]),
        ('type = "number"\nminimum = "0"', ["minimum must be a number"]),
        ('type = "number"\nminimum = true', ["minimum must be a number"]),
        (f'type = "number"\nminimum = 1{"0" * 400}', ["minimum", "finite"]),
        ('type = "integer"\nminimum = 0.5\nmaximum = 3', ["minimum", "whole"]),
        ('type = "integer"\nminimum = 0\nmaximum = 9007199254740994', ["maximum", "whole"]),
        ('type = "number"\nminimum = 0\nmaximum = 1\nbins = 0', ["bins", "at least 1"]),
        ('type = "number"\nminimum = 0\nmaximum = 1\nbins = 2.5', ["bins", "whole"]),
        ('type = "number"\nminimum = 0\nmaximum = 1\nbins = 100000', ["bins", "65536"]),
        ('type = "integer"\nminimum = 0\nmaximum = 9\nbins = 11', ["bins (11)", "10 values"]),
        ('type = "number"\nedges = [0]', ["edges", "two"]),
        ('type = "number"\nedges = [0, 2, 2]', ["edges", "increase"]),
        ('type = "number"\nedges = [0, 2, 1]', ["edges", "increase"]),
        ('type = "number"\nedges = [0, 2]\nbins = 2', ["bins and edges"]),
        ('type = "number"\nedges = [0, 2]\nminimum = 1', ["minimum", "first edge"]),
        ('type = "number"\nedges = [0, 2]\nmaximum = 3', ["maximum", "last edge"]),
        ('type = "number"\nedges = [0, 0.001, 1]\ndecimals = 2\nminimum = 0', []),
        ('type = "number"\nedges = [0, 0.011, 0.012, 1]\ndecimals = 2', ["0.011", "no value"]),
        ('type = "integer"\nedges = [0, 1, 1.5, 1.7, 3]', ["1.5", "no value"]),
        ('type = "number"\nminimum = 0\nmaximum = 1\ndecimals = -1', ["decimals", "0 to 15"]),
        ('type = "number"\nminimum = 0\nmaximum = 1e9\ndecimals = 15', ["too wide"]),
        ('type = "number"\nminimum = 0.001\nmaximum = 0.002\ndecimals = 2', ["no number with 2 decimals"]),
        ('type = "number"\nminimum = 1\nmaximum = 1.0000000000000002\nbins = 4', ["too narrow"]),
        ('type = "boolean"\ncolour = "red"', ["unknown key 'colour'"]),
        ('type = "identifier"\nformat = "e-mail"', ["format must be one of name", "# for a digit"]),
        ('type = "identifier"\nformat = ""', ["format", "empty"]),
        ('type = "identifier"\nformat = "A#\\\\"', ["format", "backslash"]),
        ('type = "identifier"\nformat = "\\\\#\\\\?"', ["format must be one of"]),
        ('type = "identifier"\nformat = "city"\nunique = true', ["unique", "city"]),
        ('type = "identifier"\nformat = "###"\nunique = 1', ["unique must be true or false"]),
        ('type = "identifier"\nunique = true', ["declare its format"]),
        ('type = "identifier"\nformat = "###"\nlocale = "de_DE"', ["locale", "pattern"]),
        ('type = "identifier"\nformat = "name"\nlocale = "German"', ["locale", "de_DE"]),
        ('type = "boolean"\nunique = true', ["unique does not apply", "boolean"]),
        ('type = "boolean"\nper_unit = true', ["per_unit", "synthetic = true"]),
        ('type = "boolean"\nper_unit = "yes"', ["per_unit must be true or false"]),
        ('type = "text"\nper_unit = true', ["per_unit does not apply"]),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_by_name(keys, words):
    if not words:
        schema_of(f'name = "a"\n{keys}')
        return
    message = refusal(f'name = "a"\n{keys}')
    assert "column 'a'" in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("head", "word"),
    [
        ('status = "final"', "status"),
        ('neighbours = "both"', "neighbours must be add_remove or replace"),
        ("rows_at_most = 0", "rows_at_most"),
        ("rows_at_most = true", "rows_at_most"),
        ('colour = "red"', "unknown key 'colour'"),
        ("unit = 3", "unit"),
        ('unit = { entity = "person" }', "unit: column must be declared"),
        ('unit = { column = "a", max_rows = 2 }', "unit: entity must be declared"),
        ('unit = { entity = "person", column = "a", max_rows = 2, size = 3 }', "unknown key 'size'"),
        ('unit = { entity = "person", column = "who", max_rows = 0 }', "max_rows"),
        ('unit = { entity = "row", column = "who", max_rows = 2 }', "entity"),
        ('unit = { entity = "person", column = "a", max_rows = 2 }', "identifier"),
        (
            'unit = { entity = "person", column = "who", max_rows = 2, synthetic = 1 }',
            "synthetic must be true or false",
        ),
        ("unit = { synthetic = true }", "unit: entity must be declared"),
        ('[read]\nquote = "x"', "unknown key 'quote'"),
        ('[read]\ndelimiter = ""', "delimiter"),
        ('[read]\ndelimiter = "::"', "delimiter"),
        ("[read]\ndelimiter = '\"'", "delimiter"),
        ('[read]\ndelimiter = "\\n"', "delimiter"),
        ('[read]\ndelimiter = "5"', "delimiter"),
        ('[read]\nencoding = "utf-16"', "encoding"),
        ('[read]\nencoding = "rot13"', "encoding"),
        ('[read]\nencoding = "no such thing"', "encoding"),
        ("[read]\nencoding = 3", "encoding"),
        ('[read]\nmissing = "NA"', "missing"),
        ('[read]\nmissing = ["NA", "NA"]', "missing"),
        ('[[constraint]]\nrule = "a > 1"', "constraint 1: 'a' at character 1 is a boolean"),
    ],
)
def test_a_wrong_table_key_is_refused_by_name(head, word):
    assert word in refusal('name = "a"\ntype = "boolean"', head=head)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "schema ="),
        ("x = [", "not valid TOML"),
        ('schema = "dpsynth.schema/2"', "dpsynth.schema/1"),
        ('schema = "dpsynth.schema/1"', "table"),
        ('schema = "dpsynth.schema/1"\ntable = 3\n', "table"),
        ('schema = "dpsynth.schema/1"\ntable = ""\n', "table"),
        ('schema = "dpsynth.schema/1"\ntable = "a\\u001bb"\n', "table"),
        ('schema = "dpsynth.schema/1"\ntable = "t"', "at least one [[column]]"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\ncolumn = 3', "[[column]]"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\ncolumn = [3]', "[[column]]"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\n[[column]]\ntype = "text"', "name must be declared"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\n[[column]]\nname = "x"', "type must be declared"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\n[[column]]\nname = ""\ntype = "text"', "name must not be empty"),
        ('schema = "dpsynth.schema/1"\ntable = "t"\n[[column]]\nname = 7\ntype = "text"', "name must be text"),
        ('schema = "dpsynth.schema/1"\n' + "x = " + "[" * 5000 + "]" * 5000, "not valid TOML"),
        ("x = " + "9" * 5000, "not valid TOML"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused(text, word):
    with pytest.raises(SchemaError) as caught:
        Schema.parse(text)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_column_is_declared_once():
    with pytest.raises(SchemaError, match="column 'a' must be declared once only"):
        schema_of('name = "a"\ntype = "text"\n[[column]]\nname = "a"\ntype = "boolean"')


def test_files_that_are_no_schema_are_refused(tmp_path):
    with pytest.raises(SchemaError, match="does not exist"):
        Schema.load(tmp_path / "absent.toml")
    with pytest.raises(SchemaError, match="cannot be read"):
        Schema.load(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SchemaError, match="UTF-8"):
        Schema.load(tmp_path / "binary.toml")


def test_a_byte_order_mark_and_windows_line_ends_are_harmless(tmp_path):
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert Schema.load(tmp_path / "s.toml") == Schema.parse(FULL)


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "Select ", "größe(cm)", "a.b", '"', "a,b", "x" * 10_000]
)
def test_names_that_look_dangerous_are_kept_as_they_are(name):  # fmt: skip
    column = Column(name=name, type="category", values=(name.strip() + "!",))
    schema = Schema(table=name.strip(), columns=(column,))
    assert Schema.parse(schema.to_toml()) == schema


@pytest.mark.parametrize(
    "character", ["\x00", "\x1b", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\ufeff", "\ud800"]
)
def test_names_that_control_a_screen_are_refused(character):  # fmt: skip
    name = f"a{character}b"
    for make in (
        lambda: Column(name=name, type="text"),
        lambda: Column(name="a", type="category", values=(name,)),
        lambda: (
            Column(name="a", type="text", basis=name) if not character.isspace() else Column(name=name, type="text")
        ),
        lambda: Schema(table=name, columns=(Column(name="a", type="text"),)),
        lambda: Schema(table="t", columns=(Column(name="a", type="text"),), entity="p", unit_column=name, max_rows=1),
        lambda: Read(missing=(name,)),
    ):
        with pytest.raises(SchemaError, match="control characters") as caught:
            make()
        assert character not in str(caught.value)


def test_a_message_quotes_a_hostile_key_on_one_printable_line():
    message = refusal('name = "a"\ntype = "text"\n"x\\u001b[31m\\n' + "y" * 500 + '" = 1')
    assert message.isprintable()
    assert len(message) < 200
    assert quoted("a\x1b\u202e'") == "'a\\x1b\\u202e''"


def test_a_text_that_the_reader_would_take_for_something_else_is_refused():
    for keys in ('type = "category"\nvalues = ["NA", "b"]', 'type = "boolean"\ntrue = ["1"]\nfalse = ["NA"]'):
        assert "missing marks" in refusal(f'name = "a"\n{keys}', head='[read]\nmissing = ["", "NA"]')


@pytest.mark.parametrize("keys", ['values = ["A"]\nunknown = "other"', 'values = "discover"'])
def test_other_is_a_category_or_a_missing_mark_and_not_both(keys):
    wrong = f'name = "a"\ntype = "category"\n{keys}'
    assert 'take "other" out of the missing marks' in refusal(wrong, head='[read]\nmissing = ["", "other"]')
    schema_of('name = "a"\ntype = "category"\nvalues = ["A"]', head='[read]\nmissing = ["", "other"]')


def test_a_text_that_the_file_cannot_hold_is_refused():
    for keys in ('name = "größe"\ntype = "text"', 'name = "a"\ntype = "category"\nvalues = ["ü"]'):
        assert "encoding" in refusal(keys, head='[read]\nencoding = "ascii"')


def test_cell_limits():
    many = tuple(map(str, range(60_000)))
    columns = tuple(Column(name=f"c{i}", type="category", values=many) for i in range(18))
    with pytest.raises(SchemaError, match="1080000 cells"):
        Schema(table="t", columns=columns)
    with pytest.raises(SchemaError, match="column 'a'"):
        Column(name="a", type="category", values=tuple(map(str, range(70_000))))


def test_a_draft_is_refused_before_its_blanks():
    blank = 'name = "a"\ntype = "number"\n[[column]]\nname = "b"\ntype = "category"'
    draft = schema_of(blank, head='status = "draft"')
    with pytest.raises(IncompleteSchema, match="is a draft") as caught:
        draft.require_complete()
    assert caught.value.exit_code == 7
    assert draft.blanks() == ["column 'a' has no minimum", "column 'a' has no maximum", "column 'b' has no values"]
    with pytest.raises(IncompleteSchema, match="column 'a' has no minimum"):
        draft.require_complete(may_be_draft=True)
    with pytest.raises(IncompleteSchema, match="column 'a' has no minimum"):
        replace(draft, status=None).require_complete()
    with pytest.raises(IncompleteSchema):
        _ = draft.sizes


def test_a_unit_without_max_rows_is_a_blank():
    schema = schema_of('name = "a"\ntype = "boolean"', head='unit = { entity = "person", column = "who" }')
    assert schema.blanks() == ["the unit has no max_rows"]
    with pytest.raises(IncompleteSchema, match="max_rows"):
        _ = schema.unit
    assert Schema.parse(schema.to_toml()) == schema


def test_nothing_to_model_is_a_blank():
    assert schema_of('name = "a"\ntype = "text"').blanks() == ["no column is of a type that is modelled"]


def test_basis_gaps_are_those_of_modelled_columns():
    columns = (
        Column(name="a", type="boolean"),
        Column(name="b", type="boolean", basis="codebook"),
        Column(name="c", type="text"),
    )
    assert Schema(table="t", columns=columns).basis_gaps() == ["a"]
    assert Schema(table="t", columns=columns, basis="law").basis_gaps() == []


def test_a_basis_is_one_line():
    assert Column(name="a", type="text", basis=" two\n  lines\t").basis == "two lines"


def test_schema_errors_are_usage_errors():
    assert issubclass(SchemaError, UsageError)
    with pytest.raises(KeyError):
        Schema.parse(FULL).column("absent")
    with pytest.raises(ValueError, match="not in"):
        Schema.parse(FULL).index("zper")
