"""For all tests."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Whoever starts the suite in the background of a script has Ctrl-C ignored, by us and by all we start; tests press it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
