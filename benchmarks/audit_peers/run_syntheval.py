"""syntheval: its privacy metrics with a holdout where they take one. Rows with gaps are dropped, as it offers to do."""

from __future__ import annotations

import contextlib
import io

from serving import Case, serve
from syntheval import SynthEval


def check(case: Case) -> tuple[dict[str, float], None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        tool = SynthEval(
            case.fit,
            holdout_dataframe=case.control,
            cat_cols=case.categories,
            missing_directive="drop",
            verbose=False,
            enable_plots=False,
            console="off",
        )
        tool.evaluate(case.synthetic, dcr={}, nndr={}, hit_rate={}, eps_risk={}, mia={"num_eval_iter": 3})
    raw = tool._raw_results
    return {
        "dcr": -float(raw["dcr"]["mDCR"]),
        "nndr": float(raw["nndr"]["priv_loss"]),
        "hit_rate": float(raw["hit_rate"]["hit rate"]),
        "eps_risk": float(raw["eps_risk"]["priv_loss"]),
        "mia": float(next(value for key, value in raw["mia"].items() if "recall" in key.lower())),
    }, None


if __name__ == "__main__":
    serve(check)
