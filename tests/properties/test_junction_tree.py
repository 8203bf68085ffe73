"""The engine against brute force on models small enough to write down whole: calibration, messages, sampling."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dpsynth.errors import IntegrityError
from dpsynth.mechanisms.base import Measurement
from dpsynth.models.graphical import GraphicalModel
from dpsynth.models.junction_tree import Edge, JunctionTree
from dpsynth.privacy import Cost
from dpsynth.schema import Schema

FALSE_ALARM = 1e-9  # of a statistical check on a fresh seed; the seeds here are fixed

Floats = npt.NDArray[np.float64]
Columns = tuple[int, ...]
Graph = tuple[list[int], list[Columns]]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sizes of one to five columns, and groups of them."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    subsets = st.sets(st.integers(0, len(sizes) - 1), min_size=1, max_size=3)
    return sizes, [tuple(sorted(group)) for group in draw(st.lists(subsets, max_size=6))]


def joint(sizes: Sequence[int], cliques: Sequence[Columns], factors: Sequence[Floats]) -> tuple[float, Floats]:
    """log Z and the probability of every cell of the whole table: the slow and obvious way."""
    log_table = np.zeros(sizes)
    for clique, factor in zip(cliques, factors, strict=True):
        log_table = log_table + factor.reshape([size if i in clique else 1 for i, size in enumerate(sizes)])
    log_total = np.logaddexp.reduce(log_table.ravel())
    return float(log_total), np.exp(log_table - log_total)


def marginal(table: Floats, columns: Columns) -> Floats:
    return table.sum(axis=tuple(i for i in range(table.ndim) if i not in columns))


# ---- the tree ------------------------------------------------------------------------------------------------------


@given(graphs())
@settings(max_examples=60)
def test_a_junction_tree_is_one(graph: Graph) -> None:
    sizes, groups = graph
    tree = JunctionTree(sizes, groups)
    for group in groups:
        assert set(group) <= set(tree.cliques[tree.holder(group)])
    assert set().union(*tree.cliques) == set(range(len(sizes)))
    assert all(not set(a) <= set(b) for a in tree.cliques for b in tree.cliques if a != b)
    assert len(tree.edges) == len(tree.cliques) - 1
    reached = {0}  # each edge comes after its parent's, so one pass down reaches everything
    for edge in tree.edges:
        assert edge.parent in reached
        reached.add(edge.child)
        assert set(edge.shared) == set(tree.cliques[edge.child]) & set(tree.cliques[edge.parent])
    assert reached == set(range(len(tree.cliques)))
    for column in range(len(sizes)):  # running intersection: the cliques of a column hang together
        holders = [i for i, clique in enumerate(tree.cliques) if column in clique]
        links = [edge for edge in tree.edges if column in edge.shared]
        assert len(links) == len(holders) - 1


@given(st.integers(2, 9), st.data())
@settings(max_examples=60)
def test_a_spanning_tree_of_pairs_needs_no_larger_clique(columns: int, data: st.DataObject) -> None:
    pairs = [tuple(sorted((column, data.draw(st.integers(0, column - 1))))) for column in range(1, columns)]
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=columns, max_size=columns))
    tree = JunctionTree(sizes, pairs)
    assert sorted(tree.cliques) == sorted(pairs)
    assert tree.cells == sum(sizes[a] * sizes[b] for a, b in pairs)


def test_a_cycle_is_triangulated_at_the_least_price() -> None:
    tree = JunctionTree([2, 50, 2, 50], [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert sorted(tree.cliques) == [(0, 1, 2), (0, 2, 3)]  # the chord joins the two small columns
    with pytest.raises(ValueError, match="no clique"):
        tree.holder((1, 3))


# ---- calibration ---------------------------------------------------------------------------------------------------


@given(graphs(), st.sampled_from([0.1, 3.0, 300.0]), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_marginals_equal_brute_force(graph: Graph, spread: float, seed: int) -> None:
    sizes, groups = graph
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(seed)
    factors = [rng.normal(scale=spread, size=shape) for shape in tree.shapes]
    log_total, marginals = tree.calibrate(factors)
    want_total, table = joint(sizes, tree.cliques, factors)
    assert log_total == pytest.approx(want_total, rel=1e-12, abs=1e-9)
    for clique, cells in zip(tree.cliques, marginals, strict=True):
        np.testing.assert_allclose(cells, marginal(table, clique), rtol=1e-8, atol=1e-13)
        assert cells.sum() == pytest.approx(1, abs=1e-9)


@given(graphs(), st.permutations(range(5)), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_the_order_of_columns_has_no_effect_on_marginals(graph: Graph, order: list[int], seed: int) -> None:
    """Columns are renamed: the same factors on the renamed columns give the same probabilities."""
    sizes, groups = graph
    new = {column: rank for rank, column in enumerate(c for c in order if c < len(sizes))}
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(seed)
    factors = [rng.normal(size=shape) for shape in tree.shapes]
    log_total, _ = tree.calibrate(factors)
    _, table = joint(sizes, tree.cliques, factors)
    old = sorted(new, key=lambda column: new[column])
    renamed = JunctionTree([sizes[column] for column in old], [tuple(sorted(new[c] for c in g)) for g in tree.cliques])
    moved = [np.zeros(shape) for shape in renamed.shapes]
    for clique, factor in zip(tree.cliques, factors, strict=True):
        there = tuple(sorted(new[column] for column in clique))
        axes = [clique.index(old[column]) for column in there]
        holder = renamed.holder(there)
        moved[holder] += factor.transpose(axes).reshape(renamed.view(holder, there))
    renamed_total, cells = renamed.calibrate(moved)
    assert renamed_total == pytest.approx(log_total, abs=1e-9)
    for clique, found in zip(renamed.cliques, cells, strict=True):
        np.testing.assert_allclose(found, marginal(table.transpose(old), clique), rtol=1e-8, atol=1e-13)


# ---- messages along a walk ------------------------------------------------------------------------------------------


@given(graphs(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_cells_that_are_ruled_out_have_no_probability(graph: Graph, seed: int) -> None:
    """Exactly none, in whatever clique a column set was laid, and the rest is as brute force has it."""
    sizes, groups = graph
    tree, rng = JunctionTree(sizes, groups), np.random.default_rng(seed)
    potentials = []
    for group in groups:
        shape = [sizes[column] for column in group]
        possible = (rng.random(shape) < 0.7) | (np.indices(shape).sum(axis=0) == 0)  # one row is always possible
        potentials.append((group, np.where(possible, rng.normal(size=shape), -np.inf)))
    _, cells = tree.calibrate(tree.factors([*potentials, *potentials]))  # twice ruled out is not ruled out more
    with np.errstate(divide="ignore"):
        table = joint(sizes, groups, [2 * potential for _, potential in potentials])[1]
    for clique, found in zip(tree.cliques, cells, strict=True):
        np.testing.assert_allclose(found, marginal(table, clique), rtol=1e-8, atol=1e-13)
        for group, potential in potentials:
            if set(group) <= set(clique):
                assert not marginal_of(clique, found, group)[np.isneginf(potential)].any()


def marginal_of(clique: Columns, cells: Floats, columns: Columns) -> Floats:
    return marginal(cells, tuple(clique.index(column) for column in columns))


@given(graphs())
@settings(max_examples=60)
def test_a_tour_walks_around_the_tree(graph: Graph) -> None:
    """Every edge down once and up once later, each step from the clique where the last one ended, and home at last."""
    tree = JunctionTree(*graph)
    tour, place = tree.tour(), 0
    for edge, down in tour:
        assert place == (edge.parent if down else edge.child)
        place = edge.child if down else edge.parent
    assert place == 0
    steps = [(edge.child, down) for edge, down in tour]
    assert len(set(steps)) == len(steps) == 2 * len(tree.edges)
    assert all(steps.index((edge.child, True)) < steps.index((edge.child, False)) for edge in tree.edges)


def shared_counts(tree: JunctionTree, beliefs: Sequence[Floats], edge: Edge) -> tuple[Floats, Floats]:
    """What the child and the parent say about the columns that both have."""
    child, parent = (marginal_of(tree.cliques[i], beliefs[i], edge.shared) for i in (edge.child, edge.parent))
    return child, parent


@given(graphs(), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_message_leaves_two_neighbours_in_agreement(graph: Graph, down: bool, seed: int) -> None:
    tree, rng = JunctionTree(*graph), np.random.default_rng(seed)
    for edge in tree.edges:
        before = [rng.gamma(0.3, 100, size=shape) * (rng.random(shape) < 0.9) for shape in tree.shapes]
        after = [table.copy() for table in before]
        tree.pass_on(edge, after, down=down)
        source, target = (edge.parent, edge.child) if down else (edge.child, edge.parent)
        assert all(np.array_equal(after[i], before[i]) for i in range(len(before)) if i != target)
        told, was = shared_counts(tree, before, edge)[::-1] if down else shared_counts(tree, before, edge)
        now = marginal_of(tree.cliques[target], after[target], edge.shared)
        np.testing.assert_allclose(now, np.where(was > 0, told, 0), rtol=1e-9)
        assert np.all(np.isfinite(after[target]))
        assert np.array_equal(after[source], before[source])


@given(graphs(), st.data(), st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_two_tours_carry_a_change_anywhere_to_everybody(graph: Graph, data: st.DataObject, seed: int) -> None:
    """A clique that changes when the first tour arrives: then home to the root, and with the second tour to all. The
    tables are those of the changed product."""
    tree, rng = JunctionTree(*graph), np.random.default_rng(seed)
    factors = [rng.normal(size=shape) for shape in tree.shapes]
    _, beliefs = tree.calibrate(factors)
    changed = data.draw(st.integers(0, len(tree.cliques) - 1))
    change = rng.normal(size=tree.shapes[changed])
    for tour in range(2):
        if tour == changed == 0:
            beliefs[0] *= np.exp(change)
        for edge, down in tree.tour():
            tree.pass_on(edge, beliefs, down=down)
            if tour == 0 and down and edge.child == changed:
                beliefs[changed] *= np.exp(change)
    factors[changed] = factors[changed] + change
    for edge in tree.edges:
        np.testing.assert_allclose(*shared_counts(tree, beliefs, edge), rtol=1e-9)
    for found, want in zip(beliefs, tree.calibrate(factors)[1], strict=True):
        np.testing.assert_allclose(found / found.sum(), want, rtol=1e-8, atol=1e-14)


def test_a_chain_of_a_thousand_columns_is_no_depth() -> None:
    tree = JunctionTree([2] * 1_000, [(n, n + 1) for n in range(999)])
    assert len(tree.edges) == 998
    assert len(tree.tour()) == 2 * 998
    log_total, cells = tree.calibrate([np.zeros((2, 2))] * 999)
    assert log_total == pytest.approx(1_000 * math.log(2))
    np.testing.assert_allclose(cells, 0.25, rtol=1e-9)


# ---- sampling ------------------------------------------------------------------------------------------------------

MakeSchema = Callable[..., Schema]


def _model(make_schema: MakeSchema, sizes: list[int], groups: list[Columns], *, spread: float = 1.2) -> GraphicalModel:
    tree = JunctionTree(sizes, groups)
    rng = np.random.default_rng(sum(sizes))
    potentials = [
        (clique, rng.normal(scale=spread, size=s)) for clique, s in zip(tree.cliques, tree.shapes, strict=True)
    ]
    return GraphicalModel(
        schema=make_schema(sizes), measurements=(), total=100.0, tree=tree, potentials=tuple(potentials)
    )


def fit_p_value(codes: npt.NDArray[np.int32], columns: Columns, table: Floats) -> float:
    """Chi-square of sampled counts against the model's probabilities, rare cells joined."""
    chances = marginal(table, columns)
    counts = np.zeros(chances.shape, dtype=int)
    np.add.at(counts, tuple(codes[:, column] for column in columns), 1)
    expected, seen = chances.ravel() * len(codes), counts.ravel()
    order = np.argsort(expected)
    start = int(np.searchsorted(np.cumsum(expected[order]), 200))
    expected = np.append(expected[order[start + 1 :]], expected[order[: start + 1]].sum())
    seen = np.append(seen[order[start + 1 :]], seen[order[: start + 1]].sum())
    return float(stats.chi2.sf(((seen - expected) ** 2 / expected).sum(), max(1, len(expected) - 1)))


SHAPES: dict[str, tuple[list[int], list[Columns]]] = {
    "star": ([3, 4, 5, 3], [(0, 1), (0, 2), (0, 3)]),
    "chain": ([4, 3, 3, 4], [(0, 1), (1, 2), (2, 3)]),
    "two trees": ([3, 4, 2, 5], [(0, 1), (2, 3)]),
    "apart": ([5, 3, 4], []),
    "triples": ([2, 3, 3, 2, 3], [(0, 1, 2), (1, 2, 3), (1, 4)]),
    "one column": ([6], []),
    "constants": ([1, 4, 1, 3], [(0, 1), (1, 2), (2, 3)]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_pair_of_sampled_columns_follows_the_model(name: str, make_schema: MakeSchema) -> None:
    """Measured pairs, and the sibling and distant pairs that nobody measured: they follow from the model too."""
    model = _model(make_schema, *SHAPES[name])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    codes = model.sample(40_000, rng=np.random.default_rng(5)).codes
    for columns in [*combinations(range(table.ndim), 1), *combinations(range(table.ndim), 2)]:
        assert fit_p_value(codes, columns, table) > FALSE_ALARM, columns
    assert fit_p_value(codes, tuple(range(table.ndim)), table) > FALSE_ALARM


class _Unshuffled:
    """A generator that never changes an order: the fault that ties siblings to each other."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def integers(self, low: int, high: int, size: int, dtype: type, *, endpoint: bool) -> npt.NDArray[np.uint64]:
        return np.zeros(size, dtype=np.uint64)

    def random(self, count: int) -> Floats:
        return self._rng.random(count)


def test_siblings_that_share_an_order_are_noticed(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    codes = model.sample(40_000, rng=_Unshuffled(5)).codes  # type: ignore[arg-type]
    assert min(fit_p_value(codes, pair, table) for pair in ((1, 2), (1, 3), (2, 3))) < FALSE_ALARM
    assert min(fit_p_value(codes, pair, table) for pair in ((0, 1), (0, 2), (0, 3))) > FALSE_ALARM


def test_a_model_that_is_a_little_off_is_noticed(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["chain"])
    codes = model.sample(40_000, rng=np.random.default_rng(5)).codes
    _, table = joint(model.tree.sizes, model.tree.cliques, [factor * 0.9 for factor in model.factors])
    assert fit_p_value(codes, (0, 1), table) < FALSE_ALARM


@pytest.mark.parametrize("rows", [1, 7, 500])
def test_counts_of_a_clique_are_off_by_less_than_a_row_a_cell(rows: int, make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["apart"])
    codes = model.sample(rows, rng=np.random.default_rng(5)).codes
    for clique, cells in zip(model.tree.cliques, model.probabilities(), strict=True):
        counts = np.bincount(codes[:, clique[0]], minlength=len(cells))
        assert np.all(np.abs(counts - rows * cells) < 1)


def test_the_place_of_a_row_says_nothing(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    codes = model.sample(40_000, rng=np.random.default_rng(7)).codes
    half = np.repeat([0, 1], 20_000)
    for column, size in enumerate(model.tree.sizes):
        table = np.zeros((2, size))
        np.add.at(table, (half, codes[:, column]), 1)
        assert stats.chi2_contingency(table).pvalue > FALSE_ALARM
        next_one = np.zeros((size, size))
        np.add.at(next_one, (codes[:-1, column], codes[1:, column]), 1)
        assert stats.chi2_contingency(next_one).pvalue > FALSE_ALARM


def test_a_single_row_follows_the_model_too(make_schema: MakeSchema) -> None:
    """The start of the systematic sampling is random: a fixed one would never draw what is expected less than once."""
    model = _model(make_schema, *SHAPES["chain"])
    _, table = joint(model.tree.sizes, model.tree.cliques, model.factors)
    rng = np.random.default_rng(3)
    codes = np.concatenate([model.sample(1, rng=rng).codes for _ in range(600)])
    for columns in ((0,), (1,), (2,), (3,), (0, 1), (1, 2), (2, 3)):
        assert fit_p_value(codes, columns, table) > FALSE_ALARM
    middle = np.concatenate([model.sample(1, rng=_Unshuffled(seed)).codes for seed in [1] * 600])  # type: ignore[arg-type]
    assert fit_p_value(middle, (0,), table) < FALSE_ALARM


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("name", SHAPES)
def test_few_rows_can_be_sampled_too(name: str, rows: int, make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES[name], spread=500.0)  # most probabilities underflow to nothing
    table = model.sample(rows, rng=np.random.default_rng(1))
    assert len(table) == rows
    assert table.codes.shape == (rows, len(model.tree.sizes))
    assert np.all(table.codes >= 0)
    assert np.all(table.codes < np.array(model.tree.sizes))


def test_impossible_combinations_are_never_sampled(make_schema: MakeSchema) -> None:
    model = _model(make_schema, [3, 3, 3], [(0, 1), (1, 2)])
    potentials = [(clique, np.where(np.eye(3, dtype=bool), 0.0, -800.0)) for clique in model.tree.cliques]
    codes = replace(model, potentials=tuple(potentials)).sample(9_000, rng=np.random.default_rng(2)).codes
    assert np.array_equal(codes[:, 0], codes[:, 1])
    assert np.array_equal(codes[:, 1], codes[:, 2])


def test_sampling_repeats_with_its_generator_and_not_otherwise(make_schema: MakeSchema) -> None:
    model = _model(make_schema, *SHAPES["star"])
    first, again, other = (model.sample(50, rng=np.random.default_rng(seed)).codes for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# ---- on disk -------------------------------------------------------------------------------------------------------


def _measured(columns: Columns, values: npt.ArrayLike, sigma: float) -> Measurement:
    square = Fraction(sigma).limit_denominator(1000) ** 2
    return Measurement(columns=columns, values=np.asarray(values, np.int64), sigma_squared=square, cost=Cost.zero())


def _fitted(make_schema: MakeSchema) -> GraphicalModel:
    measurements = [
        _measured((0,), [30, 70], 2.5),
        _measured((1,), [20, 50, 29], 2.5),
        _measured((0, 1), [[10, 15, 6], [9, 33, 24]], 3.5),
    ]
    return GraphicalModel.fitted(make_schema([2, 3]), measurements, groups=[(0, 1)])


def test_a_saved_model_comes_back(make_schema: MakeSchema, tmp_path: Path) -> None:
    model = _fitted(make_schema)
    model.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["model.json", "model.npz"]
    again = GraphicalModel.load(tmp_path / "model", model.schema)
    assert again.total == model.total
    assert again.tree.cliques == model.tree.cliques
    for one, other in zip(again.factors, model.factors, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(again.measurements, model.measurements, strict=True):
        assert (one.columns, one.sigma_squared, one.cost) == (other.columns, other.sigma_squared, other.cost)
        assert np.array_equal(one.values, other.values)
    assert np.array_equal(
        again.sample(40, rng=np.random.default_rng(1)).codes, model.sample(40, rng=np.random.default_rng(1)).codes
    )


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _pickle(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    content["potential_0"] = np.array([{"a": 1}], dtype=object)
    np.savez(path, **content)


def _spoil(name: str, value: float) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        with np.load(path) as arrays:
            content = dict(arrays)
        content[name] = np.full_like(content[name], value)
        np.savez(path, **content)

    return work


def _change(key: str, value: object) -> Callable[[Path], None]:
    def work(path: Path) -> None:
        facts = json.loads(path.with_name("model.json").read_text())
        path.with_name("model.json").write_text(json.dumps(facts | {key: value}))

    return work


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no arrays": Path.unlink,
    "no facts": lambda path: path.with_name("model.json").unlink(),
    "empty arrays": lambda path: path.write_bytes(b""),
    "arrays cut short": _cut,
    "arrays that are text": lambda path: path.write_text("not a zip file"),
    "a pickle among the arrays": _pickle,
    "facts that are no JSON": lambda path: path.with_name("model.json").write_text("{"),
    "facts that are a list": lambda path: path.with_name("model.json").write_text("[]"),
    "facts that are not text": lambda path: path.with_name("model.json").write_bytes(b"\xff\xfe\x00"),
    "another format": _change("format", "dpsynth.model/9"),
    "other cliques": _change("cliques", [[0], [1]]),
    "coarse columns of another table": _change("coarse", [{"column": 7, "groups": [0, 0]}]),
    "coarse columns with holes": _change("coarse", [{"column": 1, "groups": [0, 2, 2]}]),
    "potentials of no clique": _change("potentials", [[5]] * 3),
    "potentials in another shape": _change("potentials", [[1], [0], [0, 1]]),
    "a column too many": _change("cliques", [[0, 5]]),
    "cliques of text": _change("cliques", "01"),
    "noise that divides by zero": _change(
        "measurements", [{"columns": [0], "sigma_squared": "1/0", "rho": "0"}] * 3
    ),
    "measurements that are numbers": _change("measurements", [1, 2, 3]),
    "a total of nothing": _change("total", None),
    "a total that is no number": _change("total", float("nan")),
    "a negative total": _change("total", -5.0),
    "potentials that are no numbers": _spoil("potential_0", np.nan),
    "potentials that are infinite": _spoil("potential_0", np.inf),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused_in_one_sentence(damage: str, make_schema: MakeSchema, tmp_path: Path) -> None:
    model = _fitted(make_schema)
    model.save(tmp_path / "model")
    DAMAGE[damage](tmp_path / "model" / "model.npz")
    with pytest.raises(IntegrityError) as caught:
        GraphicalModel.load(tmp_path / "model", model.schema)
    assert caught.value.exit_code == 5
    assert caught.value.__suppress_context__


def test_a_model_of_another_schema_is_refused(make_schema: MakeSchema, tmp_path: Path) -> None:
    _fitted(make_schema).save(tmp_path / "model")
    with pytest.raises(IntegrityError):
        GraphicalModel.load(tmp_path / "model", make_schema([2, 4]))
