"""OUT/cube_faces: what is written, and what the records of it say."""

from __future__ import annotations

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.errors import BadImage
from sfm.geometry.poses import rotation_angle_deg
from sfm.images.index import check_unchanged, read_images_index
from sfm.options import ImageOptions
from sfm.rigs import faces_folder as F
from sfm.rigs.cube_faces import DIRECTIONS, face_focal, face_rotation, face_side
from tests.support import panorama_scene as scene

WIDTH = 256


def prepared(tmp_path, masks=None, others=()):
    folder = scene.write_panoramas(tmp_path / "images", 2, WIDTH)
    for name in others:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene.pinhole(scene.poses()[0], 120, 90, 100.0)).save(folder / name)
    records, _ = read_images_index(folder, ImageOptions(masks=masks))
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    return F.write_faces(folder, out, records, frozenset({"0.png", "1.png"}), masks), out


def test_every_face_is_an_image_with_exactly_known_intrinsics(tmp_path):
    found, out = prepared(tmp_path)
    side = face_side(WIDTH)
    assert found.num_panoramas == 2
    assert len(found.records) == 12
    assert [r.name for r in found.records] == sorted(f"{face}/{i}.jpg" for face in DIRECTIONS for i in range(2))
    for record in found.records:
        assert (record.width, record.height) == (side, side) == Image.open(out / "cube_faces" / record.name).size
        assert record.camera.model == "PINHOLE"
        assert record.camera.has_focal_prior
        assert F.is_face(record)
        assert record.camera.params.tolist() == [face_focal(side)] * 2 + [side / 2] * 2
        check_unchanged(out / "cube_faces", record, None)  # its digest is the file's
    assert len({record.camera.group for record in found.records}) == 6  # COLMAP: a camera of a rig is one of its own
    assert sorted(path.name for path in out.iterdir()) == ["cube_faces"]
    assert "2 panoramas, 12 cube faces" in F.describe(found)


def test_a_panorama_is_a_rig_of_its_faces_as_colmap_reads_it(tmp_path):
    found, out = prepared(tmp_path)
    (rig,) = F.panorama_rigs(found.records)
    assert rig.fixed
    assert rig.is_central
    assert rig.names == {record.name for record in found.records}
    assert rig.frames[1] == tuple(f"{face}/1.jpg" for face in DIRECTIONS)
    (config,) = pycolmap.read_rig_config(out / "cube_faces" / "rig_config.json")
    for face, theirs in zip(DIRECTIONS, config.cameras, strict=True):
        assert theirs.image_prefix == f"{face}/"
        assert theirs.ref_sensor == (face == "front")
        if face != "front":
            pose = theirs.cam_from_rig.matrix()
            assert rotation_angle_deg(pose[:, :3] @ face_rotation(face).T) < 1e-6
            assert not pose[:, 3].any()


def test_masks_of_panoramas_become_masks_of_faces(tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.full((WIDTH // 2, WIDTH), 255, np.uint8)
    mask[WIDTH // 4 :] = 0
    Image.fromarray(mask).save(masks / "0.png.png")
    found, out = prepared(tmp_path, masks)
    below = np.asarray(Image.open(out / "cube_face_masks" / "down" / "0.jpg.png"))
    above = np.asarray(Image.open(out / "cube_face_masks" / "up" / "0.jpg.png"))
    assert (below == 0).all()
    assert (above == 255).all()
    assert below.shape == (face_side(WIDTH),) * 2
    assert not (out / "cube_face_masks" / "up" / "1.jpg.png").exists()
    for record in found.records:
        check_unchanged(out / "cube_faces", record, out / "cube_face_masks")


def test_other_images_are_copied_beside_the_faces_and_keep_their_cameras(tmp_path):
    found, out = prepared(tmp_path, others=("front/0.jpg", "phone/a.png"))
    names = [record.name for record in found.records]
    assert len(names) == len(set(names)) == 14
    assert {"front/0.jpg", "phone/a.png"} <= set(names)
    assert "front/0.png.jpg" in names  # the face gives way
    other = next(record for record in found.records if record.name == "phone/a.png")
    assert not F.is_face(other)
    assert other.camera.model == "SIMPLE_RADIAL"
    assert (out / "cube_faces" / "phone/a.png").read_bytes() == (tmp_path / "images" / "phone/a.png").read_bytes()
    assert sum(len(rig.names) for rig in F.panorama_rigs(found.records)) == 12


def test_what_was_there_before_is_replaced(tmp_path):
    (tmp_path / "out" / "cube_faces" / "old").mkdir(parents=True)
    _, out = prepared(tmp_path)
    assert not (out / "cube_faces" / "old").exists()


def test_an_image_that_has_changed_is_named(tmp_path):
    folder = scene.write_panoramas(tmp_path / "images", 2, WIDTH)
    records, _ = read_images_index(folder, ImageOptions())
    Image.fromarray(scene.panorama(1, WIDTH)).save(folder / "0.png")
    with pytest.raises(BadImage, match=r"0\.png: has changed"):
        F.write_faces(folder, tmp_path, records, frozenset({"0.png", "1.png"}), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
