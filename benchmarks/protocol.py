"""What is compared: distances of marginals, a classifier's AUC, and NIST's k-marginal score. Cell codes in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from benchmarks.tables import SOURCES, Codes, Split
from reports.utility import grouping

Columns = tuple[int, ...]
TRIPLES = 64
SMALLEST_GROUP = 500  # real rows


def marginals(columns: int) -> dict[int, list[Columns]]:
    """The column sets that are compared, by how many columns they have: all, all, and 64 random triples."""
    triples = list(combinations(range(columns), 3))
    chosen = np.random.default_rng(0).choice(len(triples), size=min(TRIPLES, len(triples)), replace=False)
    return {
        1: list(combinations(range(columns), 1)),
        2: list(combinations(range(columns), 2)),
        3: [triples[i] for i in chosen],
    }


def shares(codes: Codes, columns: Columns, sizes: Sequence[int]) -> npt.NDArray[np.float64]:
    """The share of rows in each cell of a marginal, flat; all zero without rows."""
    shape = [sizes[column] for column in columns]
    cells = np.ravel_multi_index([codes[:, column] for column in columns], shape)
    return np.bincount(cells, minlength=math.prod(shape)) / max(1, len(codes))


def mean_distance(real: Codes, synthetic: Codes, sizes: Sequence[int], sets: Sequence[Columns]) -> float:
    """Mean total variation distance over marginals, in [0, 1]."""
    return float(np.mean([np.abs(shares(real, s, sizes) - shares(synthetic, s, sizes)).sum() / 2 for s in sets]))


def k_marginal(real: Codes, synthetic: Codes, sizes: Sequence[int], *, k: int = 3) -> float:
    """NIST's k-marginal score, 0 (worst) to 1000: 1000 (1 - mean total variation distance) over all sets of k columns.

    Source: NIST, SDNist report tool, `KMarginalScore`: (2 - mean L1 distance) * 500. NIST draws 50 column sets and bins
    numbers at the data's percentiles; here every set counts, in the declared domain.
    """
    return 1000 * (1 - mean_distance(real, synthetic, sizes, list(combinations(range(len(sizes)), k))))


def auc(train: Codes, test: Codes, *, target: int, positive: int, categorical: Sequence[bool]) -> float:
    """Area under the ROC curve of gradient boosting (random_state 0), learned on `train`, asked about `test`.

    Args:
        target: The column to predict, and `positive` the cell to find.
        categorical: For every column, whether its cells are categories; the others are taken as ordered.
    Returns:
        0.5 where `train` has one class only, because nothing can be learned from it.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score

    wanted = train[:, target] == positive
    if wanted.all() or not wanted.any():
        return 0.5
    features = [column for column in range(train.shape[1]) if column != target]
    model = HistGradientBoostingClassifier(
        random_state=0, categorical_features=[bool(categorical[column]) for column in features]
    )
    model.fit(train[:, features], wanted)
    return float(roc_auc_score(test[:, target] == positive, model.predict_proba(test[:, features])[:, 1]))


def score(split: Split, synthetic: Codes) -> dict[str, float | None]:
    """All that the protocol asks of a table: tv1, tv2, tv3, coverage, group_tv, and auc and kmarginal where they apply."""
    sets, source, schema = marginals(len(split.sizes)), SOURCES[split.name], split.schema
    out: dict[str, float | None] = {
        f"tv{ways}": mean_distance(split.train, synthetic, split.sizes, sets[ways]) for ways in sets
    }
    out["coverage"] = coverage(split.train, synthetic, split.sizes, sets[3])
    out["group_tv"] = worst_group(split, synthetic)
    out["auc"] = out["kmarginal"] = None
    if source.target is not None:
        column, label = source.target
        out["auc"] = auc(
            synthetic,
            split.holdout,
            target=schema.index(column),
            positive=schema.column(column).labels.index(label),
            categorical=[not c.is_numeric and c.type != "ordinal" for c in schema.modelled],
        )
    if source.k_marginal:
        out["kmarginal"] = k_marginal(split.train, synthetic, split.sizes)
    return out


def coverage(real: Codes, synthetic: Codes, sizes: Sequence[int], sets: Sequence[Columns]) -> float:
    """Diversity: of the cells that real rows have, the part that synthetic rows have too; mean over marginals."""
    both = [(shares(real, s, sizes) > 0, shares(synthetic, s, sizes) > 0) for s in sets]
    return float(np.mean([(mine & theirs).sum() / max(1, mine.sum()) for mine, theirs in both]))


def worst_group(split: Split, synthetic: Codes) -> float | None:
    """The largest mean distance of single columns inside a group of people with at least 500 real rows.

    Groups are the values of quasi-identifiers and sensitive columns with at most 12 values, as in the report.
    """
    found = []
    for column in grouping(split.schema):
        others = [(other,) for other in range(len(split.sizes)) if other != column]
        for cell in range(split.sizes[column]):
            real, made = (codes[codes[:, column] == cell] for codes in (split.train, synthetic))
            if len(real) >= SMALLEST_GROUP:
                found.append(mean_distance(real, made, split.sizes, others))
    return max(found, default=None)


def bootstrap(split: Split) -> Codes:
    """As many training rows, drawn with replacement: the floor that sampling alone sets."""
    return split.train[np.random.default_rng(0).integers(len(split.train), size=len(split.train))]


def independent(split: Split) -> Codes:
    """Every column of the training rows shuffled on its own: exact one-way marginals, no dependence."""
    rng = np.random.default_rng(0)
    return np.column_stack([rng.permutation(column) for column in split.train.T])


REFERENCES = {"train": lambda split: split.train, "bootstrap": bootstrap, "shuffled": independent}
