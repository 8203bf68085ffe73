"""anonymeter: singling out, linkability and inference, each with its control, as its README uses them."""

from __future__ import annotations

from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator
from serving import Case, serve

ATTACKS = 300


def check(case: Case) -> tuple[dict[str, float], bool]:
    tables = {"ori": case.fit, "syn": case.synthetic, "control": case.control}
    few = min(ATTACKS, len(case.fit), len(case.control))
    names = [name for name in case.fit.columns if name not in case.secret]
    half = len(case.fit.columns) // 2
    split = (list(case.fit.columns[:half]), list(case.fit.columns[half:]))
    games = {
        "singling out": SinglingOutEvaluator(**tables, n_attacks=few, n_cols=3, seed=0, max_attempts=100_000),
        "linkability": LinkabilityEvaluator(**tables, aux_cols=split, n_attacks=few, n_neighbors=10),
    }
    for name in case.secret:
        games[f"inference {name}"] = InferenceEvaluator(
            **tables, aux_cols=names, secret=name, regression=name in case.numbers, n_attacks=few
        )
    values, said = {}, False
    for name, game in games.items():
        game.evaluate()
        found = game.results(confidence_level=0.95)
        values[name] = float(found.attack_rate.value - found.control_rate.value)
        said = said or float(found.risk().ci[0]) > 0
    return values, said


if __name__ == "__main__":
    serve(check)
