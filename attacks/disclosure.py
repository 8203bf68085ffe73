"""Disclosure control's figures: whom quasi-identifiers find in the synthetic table, and among how many they stand.

These are about uniqueness, not about leakage: they ask how many persons share the quasi-identifiers of somebody whose
combination the synthetic table shows. A faithful table of strangers shows rare combinations as well, so each figure
stands beside the same figure for persons held back, and only the difference can come from their rows.

A person's class are the persons with the same cells of all quasi-identifiers: f in the sample, the fitted persons, F in
the population. Somebody held back is counted as if added to the sample. Nobody knows the population: it has at least the
persons of both sides, who stand in for it, so figures with F are upper bounds; those with f are so too where attacks look
at a random part of the persons. A person with several rows is judged by the most exposed one. A class that the synthetic
table does not show exposes nobody.

* prosecutor: the attacker knows that the person is in the sample and is right once in f times;
* journalist: the attacker knows the population and is right once in F times;
* marketer: the share of all persons whom an attacker finds who tries everybody, the mean of 1 / F;
* identity disclosure: found, and something uncommon is learned (`_learned`).

The customary threshold of 0.09 is for the probability of re-identification in data that are made public: European
Medicines Agency, Policy 0070; Health Canada, public release of clinical information.

Sources: El Emam, Guide to the De-Identification of Personal Health Information, CRC Press 2013 (the three attackers, as
    the manual of Protegrity Anonymization, "Risk metrics", restates them); El Emam, Mosquera, Bass, J. Med. Internet
    Res. 22 (2020) e23139: the larger of the sum of L I R / f over the persons of the population and the mean of L I R / F
    over those of the sample. I says whether the combination occurs in the synthetic table, R whether something new is
    learned there, and L, the adjustment for errors and failed verification that can only lower the figure, is taken as 1.
    Checked: the notation against Table 4 of that paper (PMC7704280), the two sums and the rule for R against the code of
    Yan et al., Nat. Commun. 13 (2022) 7609 (yy6linda/synthetic-ehr-benchmarking); the paper's own equations could not
    be read.
"""

from __future__ import annotations

import numpy as np

from attacks.figures import Figures, compared
from attacks.people import BoolVector, FloatVector, Group, IntVector, People, Rows, joined, keys

CUSTOMARY = 0.09


def disclosure(people: People, synthetic: Rows, known: list[int], secret: list[int]) -> Figures:
    """The figures, each for fitted persons and persons held back.

    Args:
        people: Whose quasi-identifiers the attacker knows.
        known: Where the quasi-identifiers stand.
        secret: Where the columns stand in which something can be learned.
    """
    pool = joined(people.fit, people.control)
    member = np.arange(pool.persons) < people.fit.persons
    mine, theirs = keys(pool.rows.cells[:, known], synthetic.cells[:, known])
    found = np.isin(mine, theirs)
    in_sample, in_population = _classes(mine, pool.person, member)
    learned = _learned(pool, synthetic, mine, theirs, secret, people.fit.rows)

    def worst(risk: FloatVector) -> FloatVector:
        return np.round(pool.best(np.where(found, risk, 0.0)), 9)

    prosecutor, journalist = worst(1 / in_sample), worst(1 / in_population)
    share = people.fit.persons / pool.persons
    disclosed = (worst(share * learned / in_sample), worst(learned / in_population))
    larger = max(disclosed, key=lambda risk: float(risk[member].mean()))
    customary = f"{CUSTOMARY:g} is customary"
    return {
        f"uniqueness, prosecutor risk, mean, at most ({customary})": compared(prosecutor, member),
        f"uniqueness, prosecutor risk above {CUSTOMARY:g}, at most": compared(_above(prosecutor), member),
        f"uniqueness, journalist risk above {CUSTOMARY:g}, at most": compared(_above(journalist), member),
        f"uniqueness, marketer risk, at most ({customary})": compared(journalist, member),
        f"identity disclosure, at most ({customary})": compared(larger, member),
    }


def _above(risk: FloatVector) -> FloatVector:
    return (risk > CUSTOMARY).astype(np.float64)


def _classes(kind: IntVector, person: IntVector, member: BoolVector) -> tuple[FloatVector, FloatVector]:
    """How many persons have each row's combination: in the sample with this person, and on both sides; shape (rows,)."""
    persons = np.unique(np.stack([kind, person], axis=1), axis=0)
    kinds = 1 + int(kind.max(initial=0))
    fitted = np.bincount(persons[member[persons[:, 1]], 0], minlength=kinds)
    both = np.bincount(persons[:, 0], minlength=kinds)
    return (fitted[kind] + ~member[person]).astype(np.float64), both[kind].astype(np.float64)


def _learned(
    pool: Group, synthetic: Rows, mine: IntVector, theirs: IntVector, secret: list[int], sample: Rows
) -> FloatVector:
    """Whether a synthetic row of the same combination has a sensitive cell of the row that under half of the sample have."""
    new = np.zeros(len(mine), dtype=bool)
    for place in secret:
        cells = pool.rows.cells[:, place]
        common = np.bincount(sample.cells[:, place], minlength=synthetic.columns[place].size) / len(sample)
        own, offered = keys(np.stack([mine, cells], axis=1), np.stack([theirs, synthetic.cells[:, place]], axis=1))
        new |= np.isin(own, offered) & (common[cells] < 0.5)
    return new.astype(np.float64)
