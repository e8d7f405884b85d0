from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.scale import finished

# writes a file of its own into OUT
PROGRAM = "import sys, pathlib; out = pathlib.Path(sys.argv[2]); out.mkdir(exist_ok=True); "
PROGRAM += "(out / f'{len(list(out.iterdir()))}.txt').write_text('')"


def test_a_run_that_was_stopped_goes_on_and_a_finished_one_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images, folder, command = tmp_path / "images", tmp_path / "part" / "run", (sys.executable, "-c", PROGRAM)

    def stopped(*given):
        folder.mkdir(parents=True)
        (folder / "0.txt").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(scale, "run_measured", stopped)
    with pytest.raises(KeyboardInterrupt):
        finished(command, images, folder, [])
    monkeypatch.undo()
    run = finished(command, images, folder, [])
    assert run.resumed
    assert run.minutes.endswith("+")
    assert len(list(folder.iterdir())) == 2  # nothing was deleted
    assert finished(command, images, folder, []) == run
    assert len(list(folder.iterdir())) == 2
    other = finished(command, images, folder, ["--other"])
    assert not other.resumed
    assert len(list(folder.iterdir())) == 1  # made anew
