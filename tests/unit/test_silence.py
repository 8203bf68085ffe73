"""Several releases in one process are silent until the last has ended, and then the caller's warnings are back."""

from __future__ import annotations

import threading
import warnings

import pytest

from dpsynth.silence import no_warnings


def test_the_first_to_end_does_not_make_the_others_speak(capfd: pytest.CaptureFixture[str]) -> None:
    shown = warnings.showwarning
    entered, joined, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with no_warnings():
            entered.set()
            joined.wait(10)
        ended.set()

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        thread = threading.Thread(target=first)
        thread.start()
        assert entered.wait(10)
        with no_warnings():
            joined.set()
            assert ended.wait(10)
            assert warnings.showwarning is not shown
            warnings.warn("about the rows", stacklevel=1)
        thread.join()
        assert list(warnings.filters) == filters
    assert warnings.showwarning is shown
    assert "about the rows" not in capfd.readouterr().err
