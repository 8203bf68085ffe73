"""A release's core as one cold process: data file in, synthetic file out. `speed.py` runs it and measures it from outside.

python -m benchmarks.whole SYNTHESIZER EPSILON SCHEMA.toml DATA OUT FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.heads import forget_ledgers
from benchmarks.peers.exchange import peak_mb
from dpsynth import SYNTHESIZERS, Cap, Curator, Ledger, Schema
from dpsynth.randomness import sampling_generator


def main() -> None:
    name, epsilon, schema_path, data, out, folder = sys.argv[1:]
    forget_ledgers(Path(folder))
    schema, cap = Schema.load(Path(schema_path)), Cap.of(epsilon, "1e-9")
    ledger = Ledger.create(
        Path(folder) / "ledger", population=schema.table, epsilon=epsilon, delta="1e-9", entity=schema.unit.entity
    )
    with ledger.reserve(cap.cost, unit=schema.unit, purpose="benchmark") as reservation:
        curator = Curator.open(Path(data), schema, reservation)
        model = SYNTHESIZERS[name]().fit(curator, budget=cap.cost)
    rng = sampling_generator()
    model.sample(round(model.total), rng=rng).decode(rng=rng).write(Path(out))
    print(json.dumps({"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
