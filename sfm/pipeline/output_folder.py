"""The folder that a run writes: what it may hold, that it can be written, and what is said when a disk fails."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sfm.colmap.model_writer import UNREFINED
from sfm.errors import BadFile
from sfm.results.files import DATABASE, DESCRIPTORS, REPORT, RUN_JSON
from sfm.rigs.folders import FACE_MASKS, FACES
from sfm.system.safe_paths import refuse_links

_SAFE = "what was done is kept: free some space, or see to it that the folder can be written, and run again"

WRITTEN = (  # all that a run writes into its output folder
    *(f"{name}{suffix}" for name in (DATABASE, RUN_JSON, REPORT, DESCRIPTORS) for suffix in ("", ".part")),
    *(f"{DATABASE}.{suffix}" for suffix in ("journal", "lock", "new")),
    *("database.db", "points.ply", "sparse", UNREFINED, ".refinement", FACES, FACE_MASKS),
)


def check_writable(out: Path, written: Iterable[str] = WRITTEN) -> None:
    """BadFile unless files can be made in `out`, which is made where absent. written: all that will be written."""
    if out.exists() and not out.is_dir():
        raise BadFile(f"{out}: is a file; give a folder for the results")
    try:
        out.mkdir(parents=True, exist_ok=True)
        refuse_links(out, written)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise BadFile(f"{out}: cannot be written ({error.strerror}); choose another folder") from None


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """What a disk does that is full or gone while a run writes its results becomes one line."""
    try:
        yield
    except BrokenPipeError:  # of our output, no file
        raise
    except OSError as error:
        raise BadFile(f"{error.filename or out}: {error.strerror or error}; {_SAFE}") from error
    except RuntimeError as error:  # COLMAP's words
        _, is_sqlite, reason = str(error).rpartition("SQLite error: ")
        if not is_sqlite and "database factory" not in str(error):
            raise
        reason = reason if is_sqlite else "disk full?"
        raise BadFile(f"{out / 'database.db'}: cannot be written ({reason}); {_SAFE}") from error
