"""dpsynth: differentially private synthetic tables, with a budget that cannot be overspent.

The packages `attacks` and `reports` stand on the names below.
"""

from dpsynth.counting.base import PersonRecords, ReviewSample
from dpsynth.curator import AttackCounts, Curator, PersonTest
from dpsynth.errors import (
    AlreadyRan,
    BoundToProcess,
    BudgetExceeded,
    Contradicted,
    DataFileError,
    DpsynthError,
    IncompleteSchema,
    IntegrityError,
    LedgerLocked,
    OperationError,
    PrivacyRefusal,
    SchemaError,
    UnitMismatch,
    UsageError,
)
from dpsynth.external import Program
from dpsynth.ledger import Anchor, Ledger, LedgerExtract, Reservation, VerifyReport, reserve_all
from dpsynth.mechanisms.base import Measurement
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import NoisyMax
from dpsynth.models.base import Model
from dpsynth.models.graphical import GraphicalModel
from dpsynth.privacy import Cap, Cost, PrivacyUnit, advantage_bound, tpr_bound
from dpsynth.randomness import attack_generator
from dpsynth.reading import check_header
from dpsynth.rehearsal import Rehearsal, read_for_attack
from dpsynth.release import Release
from dpsynth.schema import Column, Constraint, Schema
from dpsynth.synthesizers.base import Implementation, Marginals, Synthesizer
from dpsynth.synthesizers.independent import Independent
from dpsynth.synthesizers.mst import Mst
from dpsynth.synthesizers.registry import EXTERNAL, SYNTHESIZERS
from dpsynth.table import Records, Table
from dpsynth.trial import Trial
from dpsynth.version import __version__

__all__ = [
    "EXTERNAL",
    "SYNTHESIZERS",
    "AlreadyRan",
    "Anchor",
    "AttackCounts",
    "BoundToProcess",
    "BudgetExceeded",
    "Cap",
    "Column",
    "Constraint",
    "Contradicted",
    "Cost",
    "Curator",
    "DataFileError",
    "DiscreteGaussian",
    "DpsynthError",
    "GraphicalModel",
    "Implementation",
    "IncompleteSchema",
    "Independent",
    "IntegrityError",
    "Ledger",
    "LedgerExtract",
    "LedgerLocked",
    "Marginals",
    "Measurement",
    "Model",
    "Mst",
    "NoisyMax",
    "OperationError",
    "PersonRecords",
    "PersonTest",
    "PrivacyRefusal",
    "PrivacyUnit",
    "Program",
    "Records",
    "Rehearsal",
    "Release",
    "Reservation",
    "ReviewSample",
    "Schema",
    "SchemaError",
    "Synthesizer",
    "Table",
    "Trial",
    "UnitMismatch",
    "UsageError",
    "VerifyReport",
    "__version__",
    "advantage_bound",
    "attack_generator",
    "check_header",
    "read_for_attack",
    "reserve_all",
    "tpr_bound",
]
