"""Models on disk: which kind a folder holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeAlias

from dpsynth.errors import IntegrityError
from dpsynth.models import network
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.network import NetworkModel
from dpsynth.models.rows import refuse_rows_only
from dpsynth.schema import Schema

StoredModel: TypeAlias = GraphicalModel | NetworkModel


def load_model(folder: Path, schema: Schema) -> StoredModel:
    """Reads what `save` of any of our models wrote.

    Raises:
        UsageError: another program made the rows, and there is no model.
        IntegrityError: the folder does not hold a model for this schema.
    """
    refuse_rows_only(folder)
    try:
        kind = json.loads((folder / "model.json").read_text(encoding="utf-8"))["format"]
    except (OSError, ValueError, LookupError, TypeError):
        raise IntegrityError("the model in this release cannot be read: check it with `dpsynth verify`") from None
    return (NetworkModel if kind == network.FORMAT else GraphicalModel).load(folder, schema)
