"""The sources of randomness: secret ones that nobody can seed, copy or carry elsewhere, and public ones."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dpsynth import randomness
from dpsynth.errors import BoundToProcess, PrivacyRefusal
from dpsynth.mechanisms.discrete_gaussian import DiscreteGaussian
from dpsynth.mechanisms.noisy_max import NoisyMax
from dpsynth.randomness import Private, SystemRng, attack_generator, sampling_generator

FALSE_ALARM = 1e-9  # chance that a perfect source fails one of the statistical checks below, which are fresh each run
ROOT = Path(randomness.__file__).parents[1]


def test_words_come_straight_from_the_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def urandom(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    monkeypatch.setattr(os, "urandom", urandom)
    assert SystemRng().words(2).tolist() == [0x0706050403020100, 0x0F0E0D0C0B0A0908]
    assert SystemRng().key() == bytes(range(32))
    assert asked == [16, 32]  # as many bytes as are used: no buffer that a fork could duplicate


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_as_many_words_as_asked_for(count: int) -> None:
    words = SystemRng().words(count)
    assert (words.shape, words.dtype) == ((count,), np.uint64)


def test_every_bit_of_a_word_is_a_fair_coin() -> None:
    """64 bits and 63 pairs of neighbouring bits, each an exact binomial test, and Bonferroni's correction."""
    count = 20_000
    words = SystemRng().words(count)
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    heads = [*bits.sum(axis=0), *(bits[:, 1:] ^ bits[:, :-1]).sum(axis=0)]
    assert min(stats.binomtest(int(h), count, 0.5).pvalue for h in heads) * len(heads) > FALSE_ALARM
    assert len(np.unique(words)) == count  # a repeated word: probability 1e-11
    stuck = bits.copy()
    stuck[:, 17] |= (np.arange(count) % 10 == 0).astype(np.uint64)  # one bit that is true in 55 %: noticed
    assert stats.binomtest(int(stuck[:, 17].sum()), count, 0.5).pvalue < FALSE_ALARM


def test_two_sources_differ_and_keys_are_fresh() -> None:
    assert not np.array_equal(SystemRng().words(4), SystemRng().words(4))
    source = SystemRng()
    assert not np.array_equal(source.words(4), source.words(4))
    keys = {source.key() for _ in range(50)}
    assert len(keys) == 50
    assert all(len(key) == 32 for key in keys)


CARRIERS: list[Callable[[object], object]] = [
    copy.copy,
    copy.deepcopy,
    *(lambda private, p=protocol: pickle.dumps(private, p) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)),
    lambda private: copy.deepcopy({"inside": [private]}),
    lambda private: pickle.dumps(("inside", private)),
]


def _curator(make_schema: Any, make_frame: Any, open_curator: Any) -> Any:
    frame = make_frame([(0, 1), (1, 0), (1, 1)], columns=2, who=["a", "b", "b"])
    return open_curator(frame, make_schema([2, 2], max_rows=2), seed=1, holdout=Fraction(1, 2))


@pytest.mark.parametrize("carry", CARRIERS)
def test_private_objects_cannot_be_copied_or_pickled(
    carry: Callable[[object], object], make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    curator = _curator(make_schema, make_frame, open_curator)
    sample = curator.review_sample()
    for private in (SystemRng(), curator, sample, sample.fit, sample.control):
        with pytest.raises(BoundToProcess) as caught:
            carry(private)
        assert isinstance(caught.value, PrivacyRefusal)
        assert caught.value.exit_code == 7


def _try_in_child(uses: list[Callable[[], object]], answers: Any) -> None:
    for use in uses:
        try:
            use()
            answers.send("served")
        except BoundToProcess as error:
            answers.send(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_gets_nothing_and_the_parent_goes_on(
    make_schema: Any, make_frame: Any, open_curator: Any
) -> None:
    """B14: two processes that share a source would add the same noise twice."""
    rng, curator = SystemRng(), _curator(make_schema, make_frame, open_curator)
    noise = DiscreteGaussian(sigma_squared=Fraction(9))
    uses: list[Callable[[], object]] = [
        lambda: rng.words(1),
        rng.key,
        lambda: curator.measure((0,), noise),
        lambda: curator.select([(0,)], [np.zeros(2, dtype=np.int64)], NoisyMax(scale=Fraction(1))),
        lambda: curator.score([(0,)], [np.zeros(2, dtype=np.int64)], noise),
        lambda: curator.coarsen([]),
        lambda: curator.count_successes((), noise),
        lambda: curator.count_unit_sizes(noise),
        curator.review_sample,
    ]
    parent, child = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_try_in_child, args=(uses, child))
    process.start()
    answers = [parent.recv() if parent.poll(20) else "silent" for _ in uses]
    process.join(20)
    assert all("make a new one here" in answer for answer in answers), answers
    assert rng.words(1).shape == (1,)
    assert curator.measure((0,), noise).values.shape == (2,)


def test_threads_may_share_a_curator(make_schema: Any, make_frame: Any, open_curator: Any) -> None:
    """Every answer is charged, and no two threads get the same noise."""
    frame = make_frame([(0, 1), (1, 0), (1, 1)] * 30, columns=2)
    curator, noise = open_curator(frame, make_schema([40, 40]), seed=1), DiscreteGaussian(sigma_squared=Fraction(10**6))
    curator._rng, seen, gate = SystemRng(), [], threading.Barrier(6)

    def ask() -> None:
        gate.wait()
        seen.extend(curator.measure((0, 1), noise).values.tobytes() for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(seen)) == len(seen) == 30 == len(curator._reservation.spent)


def test_a_source_made_in_the_child_serves_the_child() -> None:
    code = "from dpsynth.randomness import SystemRng; print(len(SystemRng().words(3)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "3"


def test_a_private_object_of_any_kind_is_bound() -> None:
    class Secret(Private):
        def __init__(self) -> None:
            super().__init__()
            self.value = 7

    with pytest.raises(BoundToProcess, match="Secret"):
        copy.copy(Secret())
    with pytest.raises(BoundToProcess, match="Secret"):
        pickle.dumps(Secret())


def test_threads_never_see_the_same_words() -> None:
    rng, seen, gate = SystemRng(), [], threading.Barrier(8)

    def draw() -> None:
        gate.wait()
        seen.extend(int(word) for _ in range(200) for word in rng.words(4))

    threads = [threading.Thread(target=draw) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 8 * 200 * 4


def test_nothing_on_the_private_side_takes_a_seed() -> None:
    """B14: whoever can choose or learn a seed can subtract the noise; a seeded source exists under tests/ only."""
    assert list(inspect.signature(SystemRng).parameters) == []
    assert list(inspect.signature(sampling_generator).parameters) == []
    with pytest.raises(TypeError):
        SystemRng(7)  # type: ignore[call-arg]


def test_no_module_of_the_private_side_makes_a_generator() -> None:
    """`randomness.py` is the only file of dpsynth that may; NumPy's generators never touch noise or coins.

    Adapters are scripts for other environments, which cannot import it; what they draw is post-processing.
    """
    banned = (
        "default_rng",
        "RandomState",
        "np.random.seed",
        "import random",
        "PCG64",
        "Philox",
        "MT19937",
        "SystemRandom",
    )
    # the words that name what is drawn from a generator handed in are fine: np.random.Generator is a type
    offenders = {
        str(path.relative_to(ROOT)): word
        for path in (ROOT / "dpsynth").rglob("*.py")
        if path.name != "randomness.py" and path.parent.name != "adapters"
        for word in banned
        if word in path.read_text(encoding="utf-8")
    }
    assert offenders == {}


def test_sampling_is_fresh_each_time_and_attacks_can_be_repeated() -> None:
    assert sampling_generator().integers(2**62) != sampling_generator().integers(2**62)
    first, again = attack_generator(3, 5).integers(2**62, size=4), attack_generator(3, 5).integers(2**62, size=4)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, attack_generator(5, 3).integers(2**62, size=4))
    assert not np.array_equal(first, attack_generator(3).integers(2**62, size=4))


def test_the_seeded_source_of_the_tests_repeats_itself(seeded: type) -> None:
    assert np.array_equal(seeded(1).words(5), seeded(1).words(5))
    assert not np.array_equal(seeded(1).words(5), seeded(2).words(5))
    assert not hasattr(randomness, "SeededRng")


def test_seeded_noise_reaches_every_source(seeded_noise: dict[str, tuple[str, ...]]) -> None:
    """A module that came to make a source of its own would draw fresh noise behind a test that counts on seeds."""
    for name, modules in seeded_noise.items():
        makes = {
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for folder in ("dpsynth", "attacks", "reports")
            for path in (ROOT / folder).rglob("*.py")
            if path.name != "randomness.py" and f"{name}(" in path.read_text(encoding="utf-8")
        }
        assert makes == set(modules)
        for module in modules:
            assert getattr(importlib.import_module(module), name) is not getattr(randomness, name)
