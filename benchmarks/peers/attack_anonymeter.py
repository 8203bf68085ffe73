"""anonymeter: singling out, linkability and inference, each with its control, as its README runs them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator
from audited import QUASI, SECRET, serve

GUESSES, TARGETS = 500, 2000


def _tables(tables: dict[str, Any]) -> dict[str, Any]:
    return {"ori": tables["fit"], "syn": tables["synthetic"], "control": tables["control"]}


def one_column(tables: dict[str, Any]) -> None:
    evaluator = SinglingOutEvaluator(**_tables(tables), n_attacks=GUESSES)
    evaluator.evaluate(mode="univariate")
    evaluator.risk()


def four_columns(tables: dict[str, Any]) -> None:
    evaluator = SinglingOutEvaluator(**_tables(tables), n_attacks=GUESSES, n_cols=4)
    evaluator.evaluate(mode="multivariate")
    evaluator.risk()


def linkability(tables: dict[str, Any]) -> None:
    names = list(tables["fit"].columns)
    sides = names[:QUASI], names[QUASI:]
    targets = min(TARGETS, len(tables["control"]))
    evaluator = LinkabilityEvaluator(**_tables(tables), n_attacks=targets, aux_cols=sides, n_neighbors=1)
    evaluator.evaluate(n_jobs=-1)
    evaluator.risk()


def inference(tables: dict[str, Any]) -> None:
    names = list(tables["fit"].columns)
    secrets = [names[place] for place in SECRET]
    targets = min(TARGETS, len(tables["control"]))
    for secret in secrets:
        known = [name for name in names if name not in secrets]
        evaluator = InferenceEvaluator(
            **_tables(tables), aux_cols=known, secret=secret, n_attacks=targets, regression=secret[0] == "n"
        )
        evaluator.evaluate(n_jobs=-1)
        evaluator.risk()


if __name__ == "__main__":
    serve(
        {
            "singling out, one column": one_column,
            "singling out, four": four_columns,
            "linkability": linkability,
            "inference": inference,
        },
        version=version("anonymeter"),
    )
