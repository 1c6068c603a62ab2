"""A real browser, where the machine has one."""

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from live_pages import PATIENCE

SHELL = "chromium-headless-shell"  # It has no windows, and takes a fifth to a quarter less of the processor.
CHROMIUM = (SHELL, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, driven by playwright. Skips where one of the two is missing. It ends with its module, because
    the thread has an event loop until then, beside which others cannot run one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra `test`")
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if program is None:
        pytest.skip("needs Chromium: one of " + ", ".join(CHROMIUM))
    flags = ["--mute-audio", "--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"]
    if os.path.basename(program) == SHELL:
        flags.append("--use-fake-ui-for-media-stream")  # It refuses a microphone even where a test has allowed one.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium has no sandbox for root
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def live_server() -> Iterator[Any]:
    """A server of live sound that plays the model `demo`."""
    for package in ("websockets", "prometheus_client"):
        pytest.importorskip(package, reason="needs the extra `serve`")
    from live import served_live

    with served_live() as opened:
        yield opened


@pytest.fixture
def listener(browser: Any) -> Iterator[Any]:
    """What the pages of live sound of one listener share; an error in a page's program fails the test."""
    errors: list[str] = []
    opened = browser.new_context(viewport={"width": 1000, "height": 900}, accept_downloads=True)
    opened.set_default_timeout(PATIENCE)
    opened.on("weberror", lambda error: errors.append(str(error.error)))
    yield opened
    opened.close()
    assert not errors
