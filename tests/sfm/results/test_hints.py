"""What is proposed next can be done: the paths are there, the commands are those of the programs."""

import shlex
from pathlib import Path

from sfm.results.hints import after_export, next_steps


def test_after_a_run_the_splat_programs_are_named_with_real_paths(tmp_path):
    out = tmp_path / "my out"
    steps = dict(next_steps(tmp_path / "photos", out, "loftr"))
    for format in ("nerfstudio", "undistorted"):
        command = f"loftr-sfm export {shlex.quote(str(out))} {format}"
        assert shlex.quote(str(out / format)) in steps[command]


def test_after_an_export_a_trainer_gets_the_folder_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = str(tmp_path / "a b")
    (line,) = after_export("nerfstudio", Path("a b"))[1:]
    assert shlex.split(line)[:4] == ["ns-train", "splatfacto", "--data", folder]
    lines = [shlex.split(line) for line in after_export("undistorted", Path("a b"))[1:]]
    assert lines[0][:4] == ["python", "train.py", "-s", folder]
    assert lines[1][:7] == ["python", "simple_trainer.py", "default", "--data_dir", folder, "--data_factor", "1"]
    assert after_export("ply", Path("a b")) == []
