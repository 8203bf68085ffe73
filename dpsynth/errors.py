"""Every exception that dpsynth raises on purpose.

    DpsynthError                exit code
    ├── UsageError              2   wrong usage or bad input
    │   ├── SchemaError         2   the schema file is wrong
    │   └── DataFileError       2   container, header or storage types of a data file are wrong
    ├── PrivacyRefusal          7   refused to protect privacy
    │   ├── BudgetExceeded      7   the cost does not fit what is left
    │   ├── IncompleteSchema    7   a draft, or a fact about a column is still blank
    │   ├── UnitMismatch        7   the ledger protects another unit or relation
    │   ├── AlreadyRan          7   this job was started before
    │   └── BoundToProcess      7   a private object was copied, pickled or used in another process
    ├── IntegrityError          5   a ledger or a release is not what it says
    ├── Contradicted            1   an audit contradicts what a release would promise
    └── OperationError          6   disk, lock, external program, missing system library
        └── LedgerLocked        6   another process holds the ledger

Messages are one sentence that says what to do. They never quote a private value or count.
"""

from __future__ import annotations


class DpsynthError(Exception):
    """Base of every error that dpsynth raises on purpose; `exit_code` is the command's."""

    exit_code = 6


class UsageError(DpsynthError):
    """Wrong usage or bad input: nothing was charged, nothing was written."""

    exit_code = 2


class SchemaError(UsageError):
    """The schema breaks a rule; the message names the column and the key."""


class DataFileError(UsageError):
    """The data file's container, header or storage types do not fit the schema."""


class PrivacyRefusal(DpsynthError):
    """Refused because going on would weaken a privacy promise."""

    exit_code = 7


class BudgetExceeded(PrivacyRefusal):
    """The cost does not fit what is left of a limit."""


class IncompleteSchema(PrivacyRefusal):
    """The schema is a draft or leaves a fact blank that must not be taken from the data."""


class UnitMismatch(PrivacyRefusal):
    """The schema's unit or neighbouring relation is not the one that the ledger protects."""


class AlreadyRan(PrivacyRefusal):
    """A job id names a job that has already started; it cannot run a second time for one charge."""


class BoundToProcess(PrivacyRefusal):
    """A private object was copied, pickled, or used in a process that did not make it."""


class IntegrityError(DpsynthError):
    """A ledger or a release is not what it claims to be."""

    exit_code = 5


class Contradicted(DpsynthError):
    """What an audit showed contradicts what a release would promise."""

    exit_code = 1


class OperationError(DpsynthError):
    """The surroundings failed: disk, lock, another program, a missing system library."""

    exit_code = 6


class LedgerLocked(OperationError):
    """Another process holds the ledger's write lock."""
