"""Every planted leak is found by the attacks that ought to find it, and by the right ones only.

Default sizes are small, so that the whole page takes seconds; the slow tests repeat it with positive controls and with
persons who have several rows. Seeds are fixed; on six fresh seeds each, every leak named here was found by every attack
listed for it.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from attacks import ATTACKS, run_suite
from dpsynth import PersonRecords, ReviewSample

ALL = set(ATTACKS)
STRONG = ALL - {"singling_out"}
EXPECTED = {
    "B1": ALL,
    "B2": ALL,
    "B2 cells": STRONG,
    "B4 10%": STRONG,
    "B4 30%": {"exact_match", "nearest_record", "membership", "linkage"},
    "B5": STRONG,
    "B6 5%": {"exact_match", "nearest_record"},
    "B8": {"exact_match"},
    "B9": {"exact_match", "linkage", "attribute_inference"},
    "B11": {"exact_match", "nearest_record", "membership"},
}


@pytest.mark.parametrize("leak", EXPECTED)
def test_leaks_are_found(tables: ModuleType, leak: str) -> None:
    rng = np.random.default_rng(11)
    sample, fresh = tables.split(tables.population(800, rng), rng), tables.population(400, rng).records
    findings = tables.found(sample, tables.LEAKS[leak](sample, fresh, rng))
    assert tables.leaks(findings) >= EXPECTED[leak]


@pytest.mark.parametrize("leak", ["B2", "B4 30%", "B6 5%"])
def test_leaks_of_persons_with_several_rows_are_found(tables: ModuleType, leak: str) -> None:
    rng = np.random.default_rng(12)
    sample, fresh = tables.split(tables.population(600, rng, rows=4), rng), tables.population(300, rng, rows=4).records
    findings = tables.found(sample, tables.LEAKS[leak](sample, fresh, rng))
    assert tables.leaks(findings) >= {"exact_match", "nearest_record"}
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
    rng = np.random.default_rng(15)
    sample = tables.split(tables.population(800, rng), rng)
    findings = tables.found(sample, tables.LEAKS["B9"](sample, sample.fit.records, rng))
    variants = findings["exact_match"].variants
    assert abs(variants["values, all columns"].estimate) < 0.05
    assert variants["values, quasi-identifiers and sensitive columns"].estimate > 0.5
    assert findings["linkage"].variants["all sensitive values by quasi-identifiers"].estimate > 0.5


def test_a_filter_against_close_rows_leaves_a_hole(tables: ModuleType) -> None:
    """B15: the rows nearest to fitted persons were removed, so synthetic rows avoid them. No other attack sees it."""
    rng = np.random.default_rng(16)
    sample, fresh = tables.split(tables.population(1600, rng), rng), tables.population(3000, rng).records
    findings = tables.found(sample, tables.filtered(sample, fresh))
    assert tables.leaks(findings) == {"nearest_record"}
    assert findings["nearest_record"].headline(two_sided=True)[2].high < 0.5


def test_a_copy_of_a_table_that_everybody_shares_shows_no_person(tables: ModuleType) -> None:
    """B3: with few combinations of values, persons held back match as often as fitted ones. Matching is then no leak.

    What remains is that the copy's counts are exactly those of the fit side, which may show by a trifle.
    """
    rng = np.random.default_rng(17)
    sample = tables.split(tables.population(1200, rng), rng)

    def flat(side: PersonRecords) -> PersonRecords:
        columns = side.records.columns
        gone = {name: np.zeros(len(side.records)) for name in ("age", "income", "balance", "cost")}
        few = {name: columns[name] % 2 for name in ("region", "school")}
        return PersonRecords(
            records=tables.changed(side.records, **gone, **few), person=side.person, persons=side.persons
        )

    everybody = ReviewSample(fit=flat(sample.fit), control=flat(sample.control))
    findings = tables.found(everybody, everybody.fit.records)
    assert tables.leaks(findings) <= {"nearest_record"}
    assert abs(findings["nearest_record"].variants["all rows"].estimate - 0.5) < 0.03
    for finding in findings.values():
        for name, measure in finding.variants.items():
            assert abs(measure.estimate - measure.chance) < 0.08, name


def test_the_most_extreme_record_is_at_least_listed(tables: ModuleType) -> None:
    """B7: no statistic of this suite need see one leaked outlier; the listing must, every time."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        sample, fresh = tables.split(tables.population(600, rng), rng), tables.population(300, rng).records
        leaky = tables.one_outlier(sample, fresh, 1)
        assert tables.found(sample, leaky, only=("exact_match",))["exact_match"].warning


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4])
def test_every_leak_fails_the_whole_suite(tables: ModuleType, rows: int) -> None:
    """With positive controls and all corrections: each leak of the page is shown by some attack, each control seen."""
    for leak, generator in tables.LEAKS.items():
        rng = np.random.default_rng(18)
        sample = tables.split(tables.population(1600 // rows, rng, rows=rows), rng)
        fresh = tables.population(800 // rows, rng, rows=rows).records
        results = run_suite(sample, generator(sample, fresh, rng))
        if leak != "B6 1%":  # too few rows here; see above
            assert results.leaks, leak
            assert results["exact_match"].judge(at_most=0.1) == "fail", leak
        for result in results:
            assert result.positive_control is not None
            assert result.positive_control.detected, (leak, result.id)
