"""Every planted leak is found by the attacks that ought to find it; those that one table cannot show are listed.

Default sizes are small, so that the whole page takes seconds; the slow tests measure power on many tables. Seeds are
fixed; on six fresh seeds each, every leak named here was found by every attack listed for it. `benchmarks.validation`
measures the same on more tables, for a document.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from attacks import ATTACKS, run_suite
from attacks.membership import Membership
from attacks.people import People, Rows
from attacks.power import lists_a_row, results_on
from attacks.suite import stream
from dpsynth import Records, ReviewSample

STRONG = {"exact_match", "nearest_record", "membership", "linkage", "attribute_inference"}
EXPECTED = {
    "B1": STRONG | {"singling_out"},
    "B2": STRONG | {"singling_out"},
    "B2 cells": STRONG,
    "B4 10%": STRONG,
    "B4 30%": {"exact_match", "nearest_record", "membership", "linkage"},
    "B5": STRONG,
    "B6 5%": {"exact_match", "nearest_record"},
    "B8": {"exact_match"},
    "B9": {"exact_match", "linkage", "attribute_inference"},
    "B11": {"exact_match", "nearest_record", "membership"},
    "B15": {"nearest_record"},
}
BAR, RUNS, FEWEST = 0.95, 12, 9
"""Of 12 tables a suite with a power of 0.95 sees 9 or more with probability 0.998; one with 0.6 with 0.23."""


def drawn(tables: ModuleType, seed: int, persons: int, *, rows: int = 1) -> tuple[ReviewSample, Records]:
    """Both sides, about half of the persons each, and rows of as many fresh ones."""
    rng = np.random.default_rng(seed)
    return tables.split(tables.population(persons, rng, rows=rows), rng), tables.population(
        persons // 2, rng, rows=rows
    ).records


@pytest.mark.parametrize("leak", ["B1", "B4 30%", "B5", "B6 5%", "B9", "B11"])
def test_leaks_are_found(tables: ModuleType, leak: str) -> None:
    sample, fresh = drawn(tables, 11, 800)
    results = results_on(sample, tables.LEAKS[leak](sample, fresh, np.random.default_rng(11)))
    assert {result.id for result in results if result.leak} >= EXPECTED[leak]


@pytest.mark.parametrize("leak", ["B4 30%", "B6 5%"])
def test_leaks_of_persons_with_several_rows_are_found(tables: ModuleType, leak: str) -> None:
    sample, fresh = drawn(tables, 12, 600, rows=4)
    leaky = tables.LEAKS[leak](sample, fresh, np.random.default_rng(12))
    findings = tables.found(sample, leaky, only=("exact_match", "nearest_record"))
    assert tables.leaks(findings, of=len(ATTACKS)) == {"exact_match", "nearest_record"}
    assert findings["exact_match"].headline()[1] > 0.05


def test_one_row_in_a_hundred_is_found(tables: ModuleType) -> None:
    """B6, 1 %: the area under the curve may miss it, exact match does not."""
    rng = np.random.default_rng(13)
    sample, fresh = tables.split(tables.population(3000, rng), rng), tables.population(1500, rng).records
    findings = tables.found(sample, tables.LEAKS["B6 1%"](sample, fresh, rng), only=("exact_match", "membership"))
    assert "exact_match" in tables.leaks(findings, of=len(ATTACKS))
    assert abs(findings["membership"].figures["AUC, combined"].estimate - 0.5) < 0.05


def test_noise_on_numbers_hides_a_copy_from_word_for_word_matching_only(tables: ModuleType) -> None:
    """B5: no row is equal any more, but cells are, and distances are small."""
    rng = np.random.default_rng(14)
    sample = tables.split(tables.population(600, rng), rng)
    findings = tables.found(sample, tables.LEAKS["B5"](sample, sample.fit.records, rng), only=("exact_match",))
    variants = findings["exact_match"].variants
    assert variants["values, all columns"].estimate == 0
    assert variants["cells, all columns"].estimate > 0.5


def test_a_copied_block_of_columns_is_found_though_whole_rows_are_new(tables: ModuleType) -> None:
    """B9: quasi-identifiers and secrets belong together, the rest was drawn independently."""
    sample, fresh = drawn(tables, 15, 800)
    leaky = tables.LEAKS["B9"](sample, fresh, np.random.default_rng(15))
    findings = tables.found(sample, leaky, only=("exact_match", "linkage"))
    variants = findings["exact_match"].variants
    assert abs(variants["values, all columns"].estimate) < 0.05
    assert variants["values, quasi-identifiers and sensitive columns"].estimate > 0.5
    assert findings["linkage"].variants["all sensitive values by quasi-identifiers"].estimate > 0.5


def test_a_filter_against_close_rows_leaves_a_hole(tables: ModuleType) -> None:
    """B15: the rows nearest to fitted persons were removed, so synthetic rows avoid them: further away than chance."""
    sample, fresh = drawn(tables, 16, 1600)
    leaky = tables.LEAKS["B15"](sample, fresh, np.random.default_rng(16))
    finding = tables.found(sample, leaky, only=("nearest_record",))["nearest_record"]
    assert finding.headline(two_sided=True)[2].high < 0.5


def test_a_copy_of_a_table_that_everybody_shares_shows_no_person(tables: ModuleType) -> None:
    """B3: with few combinations of values, persons held back match as often as fitted ones. Matching is then no leak.

    What remains is that the copy's counts are exactly those of the fit side, which may show by a trifle.
    """
    rng = np.random.default_rng(17)
    sample, fresh = tables.LEAKS["B3"].setting(*drawn(tables, 17, 1200), rng)
    only = ("exact_match", "nearest_record", "linkage", "singling_out")
    findings = tables.found(sample, tables.LEAKS["B3"](sample, fresh, rng), only=only)
    assert abs(findings["nearest_record"].variants["all rows"].estimate - 0.5) < 0.05
    for name in ("exact_match", "linkage", "singling_out"):
        for variant, measure in findings[name].variants.items():
            assert abs(measure.estimate - measure.chance) < 0.08, (name, variant)


def separations(tables: ModuleType, leak: str, seed: int, persons: int) -> dict[str, float]:
    """AUC of each score of the membership attack that is told what was counted, and of nearest record; by its name."""
    sample, fresh = drawn(tables, seed, 2 * persons)
    planted = tables.LEAKS[leak]
    people = People.of(sample, rng=stream(seed, "people"))
    table = Rows.of(planted(sample, fresh, np.random.default_rng(seed))).sorted()
    finding = Membership(focal=planted.focal(sample)).run(people, table, rng=stream(seed, "membership"))
    nearest = ATTACKS["nearest_record"].run(people, table, rng=stream(seed, "nearest_record"))
    found = {name: finding.figures[f"AUC, {name}, best row"].estimate for name in ("measured columns", "closeness")}
    return {**found, "nearest record": nearest.variants["all rows"].estimate}


def test_an_overfitted_tree_is_found_by_what_it_counted(tables: ModuleType) -> None:
    """B10: about 300 fitted persons. Over 40 seeds the AUC was 0.729, spread 0.024: chance of less than 0.6 below 1e-5."""
    sample, fresh = drawn(tables, 20, 600)
    planted = tables.LEAKS["B10 focal"]
    leaky = planted(sample, fresh, np.random.default_rng(20))
    result = run_suite(sample, leaky, focal=planted.focal(sample))["membership"]
    assert result.leak
    assert result.measures["AUC, measured columns, best row"].estimate >= 0.6


def test_an_overfitted_tree_of_more_persons_is_found_though_no_row_is_near(tables: ModuleType) -> None:
    """B10: the mean of 16 tables of about 1,000 fitted persons.

    Over 40 seeds one AUC of the measured columns was 0.618, spread 0.019, so this mean misses 0.6 with a chance below
    1e-3. Of the points for nearest rows fitted persons got 0.515, spread 0.009, and the AUC of distances was 0.520,
    spread 0.015.
    """
    found = [separations(tables, "B10 focal", seed, 1000) for seed in range(40, 56)]
    mean = {name: np.mean([one[name] for one in found]) for name in found[0]}
    assert mean["measured columns"] >= 0.6
    assert mean["nearest record"] < 0.55
    assert mean["closeness"] < 0.55


def test_more_rows_of_the_same_model_leak_more(tables: ModuleType) -> None:
    """B16: half as many rows as about 300 fitted persons, as many, 4 and 16 times as many; the same 6 tables each time.

    Over 40 seeds the steps were 0.038, 0.055 and 0.023, spread 0.019, 0.016 and 0.012, and all together
    0.116, spread 0.025: means of 6 break either rule below with a chance of less than 1e-4.
    """
    mean = [
        np.mean([separations(tables, f"B16 {dose}", seed, 300)["measured columns"] for seed in range(30, 36)])
        for dose in ("n/2", "n", "4n", "16n")
    ]
    assert mean == sorted(mean)
    assert mean[-1] > mean[0] + 0.05


@pytest.mark.parametrize("leak", ["B7", "B7b random", "B7b extreme"])
def test_one_record_is_at_least_listed(tables: ModuleType, leak: str) -> None:
    """No statistic of this suite need see one leaked record; the listing must, every time."""
    for seed in range(3):
        sample, fresh = drawn(tables, seed, 600)
        leaky = tables.LEAKS[leak](sample, fresh, np.random.default_rng(seed))
        assert tables.found(sample, leaky, only=("exact_match",))["exact_match"].warning


def test_a_copy_of_the_control_is_called_that(tables: ModuleType) -> None:
    """B18: no leak of fitted persons, and no one-sided attack says so; but somebody used the control."""
    sample, fresh = drawn(tables, 19, 600)
    results = results_on(sample, tables.LEAKS["B18"](sample, fresh, np.random.default_rng(19)))
    assert not [result.id for result in results if result.leak and not result.two_sided]
    assert "control may have been used" in next(result.note for result in results if result.id == "exact_match")


@pytest.mark.slow
@pytest.mark.parametrize("leak", ["B4 30%", "B6 5%", "B6 1%", "B9", "B11 5", "B15"])
def test_power(tables: ModuleType, leak: str) -> None:
    """By some attack after all corrections, on at least 9 of 12 tables; see `BAR`. 500 or 1,000 persons a side."""
    seen = 0
    for seed in range(100, 100 + RUNS):
        sample, fresh = drawn(tables, seed, 2000 if leak in ("B6 1%", "B15") else 1000)
        results = results_on(sample, tables.LEAKS[leak](sample, fresh, np.random.default_rng(seed)), seed=seed)
        seen += any(result.leak for result in results)
    assert seen >= FEWEST


def test_the_bar_is_what_it_says() -> None:
    assert stats.binom.sf(FEWEST - 1, RUNS, BAR) > 0.995
    assert stats.binom.sf(FEWEST - 1, RUNS, 0.6) < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
def test_the_whole_suite_fails_what_leaks(tables: ModuleType, rows: int) -> None:
    """With positive controls, which all see their copy, and by the judgement that a review uses."""
    for leak in ("B2", "B4 10%", "B6 5%", "B9"):
        sample, fresh = drawn(tables, 18, 1600 // rows, rows=rows)
        results = run_suite(sample, tables.LEAKS[leak](sample, fresh, np.random.default_rng(18)))
        assert results.leaks, leak
        assert results["exact_match"].judge(at_most=0.1) == "fail", leak
        for name in EXPECTED["B2"]:
            control = results[name].positive_control
            assert control is not None, name
            assert control.detected, (leak, name)


def test_what_is_planted_is_named_once() -> None:
    from attacks.planted import HONEST, LEAKS

    assert set(EXPECTED) <= set(LEAKS)
    assert not set(LEAKS) & set(HONEST)
    assert len(ATTACKS) >= len(EXPECTED["B2"])
    assert not lists_a_row(())
