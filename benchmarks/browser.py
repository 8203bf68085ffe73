"""The system's Chromium, driven by Playwright: no other browser is fetched, and nothing but the page is opened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WIDTHS: Final = (1280, 400)
"""A desk's window and a telephone, in CSS pixels."""
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def installed() -> str | None:
    """The path of the system's Chromium, or None."""
    return next((path for path in map(shutil.which, _NAMES) if path is not None), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with an empty profile of its own, which is gone afterwards.

    Raises:
        FileNotFoundError: this machine has no Chromium.
    """
    from playwright.sync_api import sync_playwright

    path = installed()
    if path is None:
        raise FileNotFoundError("this machine has no Chromium: install it with the system's packages")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(_FLAGS))
        try:
            yield browser
        finally:
            browser.close()
