"""Threads that do not hold up an error or Ctrl-C."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType


class Workers(ThreadPoolExecutor):
    """A ThreadPoolExecutor that is left at once when something is raised: what was not begun is dropped.

    Without that, leaving it works off all that was submitted first.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)
