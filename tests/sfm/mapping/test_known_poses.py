"""known_poses: the model's files, their hash, and what is wrong with them in one line (mapping: test_mapping)."""

import pytest

from sfm.colmap.model_reader import model_digest
from sfm.errors import BadFile
from sfm.mapping import known_poses
from tests.support.mapping_scene import NAMES


@pytest.mark.parametrize("kind", ["binary", "text"])
def test_both_kinds_of_models_are_read(mapped, tmp_path, kind):
    model = mapped[1].models[0]
    model.write_binary(tmp_path) if kind == "binary" else model.write_text(tmp_path)
    known = known_poses.read_known_model(tmp_path)
    assert sorted(known.image(i).name for i in known.reg_image_ids()) == NAMES


def test_the_digest_is_of_the_content(mapped, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        mapped[1].models[0].write_text(folder)
    first, same = (model_digest(folder) for folder in folders)
    assert first == same
    (folders[1] / "images.txt").write_text((folders[1] / "images.txt").read_text().replace("dir/1", "dir/x"))
    assert model_digest(folders[1]) != first


def test_missing_and_damaged_models_are_one_clear_line(mapped, tmp_path):
    with pytest.raises(BadFile, match="is no COLMAP model; give a folder"):
        model_digest(tmp_path / "absent")
    mapped[1].models[0].write_binary(tmp_path)
    whole = (tmp_path / "images.bin").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 64):
        (tmp_path / "images.bin").write_bytes(damaged)
        with pytest.raises(BadFile, match="not a readable COLMAP model") as error:
            known_poses.read_known_model(tmp_path)
        assert "\n" not in str(error.value)
