"""What the command line says when a command ends in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import click
import pytest

from dpsynth.addresses import without_passwords
from dpsynth.cli import main

ENDS: dict[type[BaseException], tuple[int, str]] = {
    KeyboardInterrupt: (130, "interrupted"),
    OSError: (6, "system refused"),
    ZeroDivisionError: (6, "internal error (ZeroDivisionError)"),
}


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("name", main.dpsynth_command.commands)
def test_the_end_of_a_command_says_what_became_of_the_budget(
    name: str, end: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a release reserves something, and the demo, which makes one."""
    with mock.patch.object(main.dpsynth_command, "main", side_effect=end):
        code = main.run([name, "release"])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (ENDS[end][0], 1)
    assert ENDS[end][1] in said
    assert ("what was reserved stays charged" in said) == (name in ("release", "demo"))
    assert ("`dpsynth ledger show`" in said) == (name == "ledger")
    assert ("nothing was charged" in said) == (name not in ("release", "demo", "ledger"))


def test_commands_that_reserve_are_those_with_a_ledger() -> None:
    """A command that takes a ledger and is not listed would say that nothing was charged."""
    with_ledger = {
        name
        for name, command in main.dpsynth_command.commands.items()
        if any("--ledger" in parameter.opts for parameter in command.params)
    }
    assert with_ledger | {"demo"} == set(main.RESERVING)


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that lead to it."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from leaves(below, (*path, name))
    else:
        yield path, command


SECRET = "postgresql://somebody:hunter2@server.invalid/budget?ledger=x"
EVERY = dict(leaves(main.dpsynth_command))


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_a_surplus_word_is_not_quoted(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is: somebody may have typed a password, or the address of a ledger, one place too far."""
    words = []
    for parameter in EVERY[path].params:
        if isinstance(parameter, click.Argument) or parameter.required:
            value = "-" if isinstance(parameter.type, click.File) else "1"
            if isinstance(parameter.type, click.Choice):
                value = next(iter(parameter.type.choices))
            words += [value] if isinstance(parameter, click.Argument) else [parameter.opts[0], value]
    assert main.run([*path, *words, "hunter2", SECRET]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert (
        told.err
        == f"dpsynth: there are more words than `dpsynth {' '.join(path)}` takes: `dpsynth {' '.join(path)} --help` says which\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        (SECRET,),
        ("ledger", SECRET),
        ("ledger", f"--{SECRET}"),
        ("gate", SECRET),
        ("verify", SECRET),
        ("verify", ".", "--against", SECRET),
        ("report", ".", "--out", SECRET, "--format", SECRET),
        ("gate", ".", "--policy", SECRET),
        ("gate", ".", f"--policy={SECRET}"),
        ("sample", SECRET, "--rows", "10", "--out", "x.csv"),
        ("sample", ".", f"--rows={SECRET}", "--out", "x.csv"),
        ("schema", "check", SECRET),
        ("schema", "draft", SECRET.replace("//", "/")),
        ("ledger", "show", SECRET.replace("postgresql", "mysql")),
        ("ledger", "verify", "x.ledger", "--against", SECRET),
        ("key", "show", SECRET),
        ("release", "x.csv", "--schema", SECRET, "--ledger", "x", "--epsilon", "1", "--delta", "1e-6", "--out", "y"),
        ("release", "x.csv", "--schema", "x", "--ledger", "x", "--epsilon", SECRET, "--delta", "1e-6", "--out", "y"),
        ("attack", "--train", "a.csv", "--control", "b.csv", "--synthetic", "c.csv", "--schema", SECRET),
    ],
    ids=lambda words: words[0][:10],
)
def test_a_password_in_the_wrong_place_is_never_shown(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert main.run(list(words)) != 0
    told = capsys.readouterr()
    assert told.err.startswith("dpsynth: ")
    assert told.err.count("\n") == 1
    assert "hunter2" not in told.err + told.out


@pytest.mark.parametrize("password", [r"h\unter2", "h unter2", "h  unter2", "h\u200bunter2", "h'\"unter2", "h@unter2"])
def test_a_password_is_not_shown_however_it_is_quoted(password: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A message may hold it as a literal, in which some letters are spelled otherwise than they were typed."""
    address = f"postgresql://user:{password}@server/b"
    for words in ([address], ["ledger", address], ["sample", ".", "--rows", address], ["verify", address]):
        assert main.run(words) == 2
        assert "unter2" not in capsys.readouterr().err
    assert main.run(["verify", "postgresql://server/b?user=u&pass%77ord=hunter2"]) == 2
    assert "unter2" not in capsys.readouterr().err


def test_a_message_is_otherwise_left_as_it_is() -> None:
    for text, places in (
        ("visits.csv does not exist", ["visits.csv", "--schema", "hunter2"]),
        ("postgresql://server/b is not a ledger", ["ledger", "show", "postgresql://server/b"]),
        ("a:b@c does not exist", ["a:b@c"]),
    ):
        assert without_passwords(text, places) == text
