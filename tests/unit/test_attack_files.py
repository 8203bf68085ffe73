"""What `dpsynth attack` checks in its files before it attacks."""

from __future__ import annotations

import pytest

from dpsynth import Column, Records, Schema, UsageError
from dpsynth.cli.attack import _check_apart
from dpsynth.reading import RawRows

SCHEMA = Schema(table="t", columns=(Column(name="a", type="boolean"),), entity="person", unit_column="id", max_rows=1)


def rows(*ids: str) -> RawRows:
    return RawRows(Records.empty(SCHEMA), [one.encode() for one in ids])


@pytest.mark.parametrize(
    ("train", "control"),
    [
        ("0", "0"),
        ("0", "0.0"),
        ("0.0", "-0"),
        ("007", "7.0"),
        ("7", " 7 "),
        ("120", "1.2e+02"),
        ("9007199254740993", "9007199254740993.00"),
        ("p1", "p1 "),
    ],
)
def test_a_person_in_both_files_is_seen_however_the_id_is_written(train: str, control: str) -> None:
    for one, other in ((train, control), (control, train)):
        with pytest.raises(UsageError, match="same unit"):
            _check_apart(rows("x", one), rows("y", other))


@pytest.mark.parametrize(
    ("train", "control"),
    [
        ("7", "70"),
        ("p1", "P1"),
        ("p07", "p7"),
        ("9007199254740992", "9007199254740993"),  # one float64
        ("1e99999999999", "2e99999999999"),
        ("nan", "inf"),
        ("", "0"),
    ],
)
def test_others_are_apart(train: str, control: str) -> None:
    _check_apart(rows(train), rows(control))
