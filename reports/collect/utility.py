"""The section on utility: how far synthetic rows lie from noisy measurements, and what they do not serve."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from dpsynth import Schema
from dpsynth.schema.vocabulary import DISCOVER
from reports.collect.leaves import p0
from reports.collect.run import Run
from reports.evidence import Leaf
from reports.paths import MOST_PAIRS
from reports.utility import Distance, Group

_MOST_NAMED = 8  # groups, or pairs, in one sentence
_FAR_OFF, _ROUGH = 0.1, 0.2  # total variation


def utility_section(run: Run) -> dict[str, Any]:
    """Distances from what was measured, groups, and uses that the table does not serve."""
    src = "total variation distance of synthetic shares from noisy measured shares"
    expected = "expected absolute noise, from sigma and the noisy total"
    ones = [d for d in run.distances if len(d.columns) == 1]
    pairs = [d for d in run.distances if len(d.columns) == 2]
    names = run.schema.names
    out: dict[str, Any] = {
        "columns": [
            {
                "name": p0(names[d.columns[0]], "schema"),
                "tv": Leaf(d.tv, "P1", src),
                "noise": Leaf(d.noise, "P1", expected),
            }
            for d in ones
        ],
        "pairs": [
            {
                "first": p0(names[d.columns[0]], "schema"),
                "second": p0(names[d.columns[1]], "schema"),
                "tv": Leaf(d.tv, "P1", src),
                "noise": Leaf(d.noise, "P1", expected),
            }
            for d in _worst(pairs)
        ],
        "groups": [_group(group, run.schema) for group in run.groups],
        "unfit": Leaf(_unfit(run), "P1", "noisy measurements, and which were made"),
    }
    if run.unit_distance is not None:
        out["unit_rows"] = Leaf(
            run.unit_distance, "P1", "total variation distance of synthetic rows per unit from noisy counts"
        )
    if ones:
        out["tv1"] = Leaf(sum(d.tv for d in ones) / len(ones), "P1", f"mean {src}, single columns")
    else:
        out["tv1"] = Leaf(None, "P1", src, missing="the synthesizer measured no column that could be compared")
    if pairs:
        out["tv2"] = Leaf(
            sum(d.tv for d in pairs) / len(pairs), "P1", f"mean {src}, measured pairs, after rare cells were merged"
        )
    return out


def _worst(pairs: Sequence[Distance]) -> list[Distance]:
    """The pairs that came out worst, the worst first."""
    return sorted(pairs, key=lambda d: (-d.tv, d.columns))[:MOST_PAIRS]


def _group(group: Group, schema: Schema) -> dict[str, Leaf]:
    src = "noisy count of the group and noisy total"
    return {
        "column": p0(schema.names[group.column], "schema"),
        "value": Leaf(value_of(schema, group.column, group.cell), "P1", "discovered with noise")
        if schema.modelled[group.column].source == DISCOVER
        else p0(value_of(schema, group.column, group.cell), "schema"),
        "measured": Leaf(group.measured, "P1", src),
        "synthetic": Leaf(group.synthetic, "P1", "synthetic rows"),
        "noise": Leaf(group.noise, "P1", "sigma over the noisy total"),
        "inflation": Leaf(
            group.inflation, "P1", "sigma / sqrt(2 pi) over the noisy total: the mean of noise cut at zero"
        ),
        "drowned": Leaf(group.drowned, "P1", src),
    }


def value_of(schema: Schema, column: int, cell: int) -> str:
    """What a cell of a modelled column is called."""
    declared = schema.modelled[column]
    return "missing" if cell == declared.missing_code else declared.labels[cell]


def _unfit(run: Run) -> tuple[str, ...]:
    """Uses that the synthetic table does not serve, from what was measured and how well. Class P1."""
    out = [
        "Decisions about a single person: no synthetic row is anyone.",
        "Tests of significance that take the rows as a random sample of people: the rows come from a model with noise in "
        "it, so such intervals are too narrow.",
    ]
    out += _relations(run)
    drowned = [group for group in run.groups if group.drowned]
    if drowned:
        named = [
            f"{run.schema.names[g.column]} = {value_of(run.schema, g.column, g.cell)}" for g in drowned[:_MOST_NAMED]
        ]
        more = f", and {len(drowned) - len(named)} more" if len(drowned) > len(named) else ""
        out.append(
            f"Numbers about groups whose noise is more than a tenth of their size: {'; '.join(named)}{more}. What noise "
            "adds to them or takes from them is, relative to their size, more than for anyone else."
        )
    two = [d for d in run.distances if len(d.columns) == 2]
    rough = sorted((d for d in two if d.noise > _ROUGH), key=lambda d: (-d.noise, d.columns))
    if rough:
        out.append(
            "Single cells of pairs that were measured roughly, where noise alone is expected to move more than a fifth of "
            f"the shares: {_pairs(rough, run.schema)}."
        )
    off = [d for d in _worst(two) if d.tv - d.noise > _FAR_OFF]
    if off:
        out.append(
            "Analyses of pairs that lie farther from what was measured than noise explains, by more than a tenth of the "
            f"shares: {_pairs(off, run.schema)}."
        )
    return tuple(out)


def _relations(run: Run) -> list[str]:
    """What was measured of relations between columns, and what nobody here can say about them."""
    columns = len(run.schema.sizes)
    if columns > 1 and (run.claim is not None or run.cost.extra):
        learner = "the other program" if run.claim is not None else "the network"
        return [
            "Conclusions about how columns hang together, unless a reader has checked them in another way: "
            f"{learner} learned from whole rows, no relation was measured here, and nothing says which ones it kept."
        ]
    out = []
    pairs = {pair for d in run.distances for pair in combinations(sorted(set(d.columns)), 2)}
    possible = columns * (columns - 1) // 2
    if possible > len(pairs):
        out.append(
            f"Conclusions about how two columns hang together, where the pair was not measured: {len(pairs)} of "
            f"{possible} pairs were, and the others follow only as far as those imply them."
        )
    if columns > 2:
        triples = len({d.columns for d in run.distances if len(d.columns) > 2})
        measured = (
            f"sets of three or more that were measured together: {triples}"
            if triples
            else "none were measured together"
        )
        out.append(
            "Conclusions about three or more columns together, unless a reader has checked them in another way: "
            f"{measured}."
        )
    return out


def _pairs(found: Sequence[Distance], schema: Schema) -> str:
    named = [" with ".join(schema.names[column] for column in d.columns) for d in found[:_MOST_NAMED]]
    return "; ".join(named) + (f", and {len(found) - len(named)} more" if len(found) > len(named) else "")
