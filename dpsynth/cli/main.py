"""The entry point: commands, and the one place where an error becomes a sentence and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

import click

import dpsynth
from dpsynth.addresses import without_passwords
from dpsynth.cli import attack, audit, demo, ledger, release, report, sample, schema, sign
from dpsynth.cli.talk import say

OK, USAGE, INTERNAL, INTERRUPTED = 0, 2, 6, 130
_SURPLUS = "Got unexpected extra argument"  # click's words, which go on with what was typed
RESERVING = ("release", "demo")
"""The commands that reserve a budget; `ledger` writes to one by itself, and no other command opens one."""


@click.group(epilog="Example: dpsynth demo", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(dpsynth.__version__, prog_name="dpsynth")
def dpsynth_command() -> None:
    """Differentially private synthetic tables, attacked before release, with the evidence a reviewer signs.

    Exit codes: 0 done or pass, 1 fail, 2 wrong usage or bad input, 3 needs a human, 4 incomplete evidence,
    5 integrity, 6 internal error, 7 refused to protect privacy, 130 interrupted.
    """


for command in (
    demo.demo,
    schema.schema,
    release.release,
    sample.sample,
    attack.attack,
    audit.audit,
    report.report,
    report.gate,
    report.verify,
    sign.key,
    sign.attest,
    sign.sign,
    ledger.ledger,
):
    dpsynth_command.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code. Never raises, never prints a traceback.

    A traceback could quote a private value, and a Python default would be exit code 1, which means "fail" here.
    """
    try:
        result = dpsynth_command.main(args=list(arguments), prog_name="dpsynth", standalone_mode=False)
        return result if isinstance(result, int) else OK
    except click.ClickException as error:
        say(f"dpsynth: {without_passwords(_one_line(_usage(error)), arguments)}")
        return USAGE
    except (KeyboardInterrupt, click.Abort, EOFError):
        say(f"dpsynth: interrupted; {_charged(arguments)}")
        return INTERRUPTED
    except dpsynth.DpsynthError as error:
        say(f"dpsynth: {without_passwords(_one_line(str(error)), arguments)}")
        return error.exit_code
    except (BrokenPipeError, SystemExit):  # nobody reads on: what was not said must not look like a verdict
        return INTERNAL
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # found where a path is first looked at: before anything is reserved
            say("dpsynth: a path is longer than the system allows: choose a shorter one")
            return USAGE
        say(f"dpsynth: the system refused: {error.strerror or type(error).__name__}; {_charged(arguments)}")
        return INTERNAL
    except Exception as error:  # the last resort: anything else is a bug, and its text may hold private values
        say(f"dpsynth: internal error ({type(error).__name__}); {_charged(arguments)}: please report it")
        return INTERNAL


def _usage(error: click.ClickException) -> str:
    """What is wrong with the command line. Surplus words are not quoted: one may be a password, or an address with one."""
    message = error.format_message()
    if not message.startswith(_SURPLUS):
        return message
    command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx is not None else "dpsynth"
    return f"there are more words than `{command}` takes: `{command} --help` says which"


def _charged(arguments: Sequence[str]) -> str:
    """What an end in the middle means for the budget: by command alone, because it must not depend on any row."""
    name = next((word for word in arguments if not word.startswith("-")), "")
    if name in RESERVING:
        return "what was reserved stays charged"
    return "`dpsynth ledger show` says what was recorded" if name == "ledger" else "nothing was charged"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))
