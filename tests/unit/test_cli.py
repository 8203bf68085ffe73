"""What the command line says when a command ends in the middle."""

from __future__ import annotations

from unittest import mock

import pytest

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
