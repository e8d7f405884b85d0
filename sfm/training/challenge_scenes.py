"""The training set of the Image Matching Challenge 2022 as sources of pairs.

Its poses are known, its points are not. Where a scene has depth_maps/ID.h5 (as its forerunners had: (H, W) float, of
the scene's unit, 0 unknown), its pairs are dense. Else SIFT's matches are triangulated with the poses, and the tracks
are the ground truth.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pycolmap

from sfm.datasets.imc2022 import Calibration, read_calibration, read_covisible_pairs
from sfm.datasets.training_pairs.depth_pairs import DepthSequence
from sfm.datasets.training_pairs.textures import image_size
from sfm.datasets.training_pairs.track_pairs import TrackScene
from sfm.errors import BadFile
from sfm.geometry.pixels import corner_from_center
from sfm.system.progress import progress_bar

MAX_PAIRS_AN_IMAGE = 20  # that are matched, those that see most of each other
MAX_FEATURES = 6000


def read_challenge(folder: Path, models: Path) -> tuple[tuple[TrackScene, ...], tuple[DepthSequence, ...]]:
    """Scenes with tracks, and those with depth. models: where what is triangulated is kept. BadFile where there is no
    scene."""
    train = folder / "train" if (folder / "train").is_dir() else folder
    scenes = sorted(path.parent for path in train.glob("*/calibration.csv"))
    if not scenes:
        raise BadFile(f"{folder}: no scene of the challenge; give the folder that holds train/SCENE/calibration.csv")
    with_depth = [scene for scene in scenes if (scene / "depth_maps").is_dir()]
    others = [scene for scene in scenes if scene not in with_depth]
    with progress_bar(len(others), desc="triangulating scenes", unit="scene") as bar:
        tracks = []
        for scene in others:
            tracks.append(triangulated(scene, models / scene.name))
            bar.update()
    return tuple(tracks), tuple(depth_sequence(scene) for scene in with_depth)


def _images(scene: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((scene / "images").iterdir()) if path.suffix.lower() in (".jpg", ".png")}


def depth_sequence(scene: Path) -> DepthSequence:
    """A scene with depth maps; images without one are left out."""
    cameras = read_calibration(scene)
    names = [
        name for name in sorted(_images(scene)) if name in cameras and (scene / "depth_maps" / f"{name}.h5").is_file()
    ]
    if not names:
        raise BadFile(f"{scene / 'depth_maps'}: no depth of any calibrated image; give ID.h5 for images/ID.jpg")
    poses = np.tile(np.eye(4), (len(names), 1, 1))
    poses[:, :3] = [cameras[name].cam_from_world for name in names]
    return DepthSequence(
        tuple(_images(scene)[name] for name in names),
        tuple(scene / "depth_maps" / f"{name}.h5" for name in names),
        np.stack([_corner_K(cameras[name]) for name in names]),
        np.linalg.inv(poses).astype(np.float64),
        metric=False,
    )


def _corner_K(calibration: Calibration) -> np.ndarray:
    K = np.array(calibration.K)
    K[:2, 2] = corner_from_center(K[:2, 2])
    return K


def triangulated(scene: Path, output: Path) -> TrackScene:
    """SIFT's tracks with the known poses, kept in output/0 and made once. BadFile where they give none."""
    images = scene / "images"
    if not (output / "0" / "points3D.bin").is_file():
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output) as scratch:
            model = _triangulate(scene, Path(scratch))
            if not model.num_points3D():
                raise BadFile(f"{scene}: its poses fit no matches of its images; leave the scene out")
            (Path(scratch) / "0").mkdir()
            model.write_binary(Path(scratch) / "0")
            (Path(scratch) / "0").rename(output / "0")
    return TrackScene(images, (output / "0",))


def _triangulate(scene: Path, scratch: Path) -> pycolmap.Reconstruction:
    paths, cameras = _images(scene), read_calibration(scene)
    names = [name for name in paths if name in cameras]
    database, pairs = scratch / "database.db", scratch / "pairs.txt"
    extraction = pycolmap.FeatureExtractionOptions()
    extraction.sift.max_num_features = MAX_FEATURES
    pycolmap.extract_features(
        database,
        scene / "images",
        image_names=[paths[name].name for name in names],
        camera_mode=pycolmap.CameraMode.PER_IMAGE,
        extraction_options=extraction,
    )
    pairs.write_text("\n".join(f"{paths[a].name} {paths[b].name}" for a, b in _strongest(scene, names)))
    pycolmap.match_image_pairs(database, pairing_options=_listed(pairs))
    start = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as db:
        ids = {image.name: image.image_id for image in db.read_all_images()}
        camera_ids = {image.name: image.camera_id for image in db.read_all_images()}
        for name in names:
            camera = _pinhole(paths[name], cameras[name])
            camera.camera_id = camera_ids[paths[name].name]
            db.update_camera(camera)
            start.add_camera_with_trivial_rig(camera)
            image = pycolmap.Image(name=paths[name].name, camera_id=camera.camera_id, image_id=ids[paths[name].name])
            start.add_image_with_trivial_frame(image, pycolmap.Rigid3d(cameras[name].cam_from_world))
    model: pycolmap.Reconstruction = pycolmap.triangulate_points(start, database, scene / "images", scratch)
    return model


def _listed(pairs: Path) -> pycolmap.ImportedPairingOptions:
    options = pycolmap.ImportedPairingOptions()
    options.match_list_path = pairs
    return options


def _strongest(scene: Path, names: list[str]) -> list[tuple[str, str]]:
    found = sorted(read_covisible_pairs(scene, names), key=lambda pair: -pair.covisibility)
    count = dict.fromkeys(names, 0)
    kept = []
    for pair in found:
        if min(count[pair.image_1], count[pair.image_2]) < MAX_PAIRS_AN_IMAGE:
            count[pair.image_1] += 1
            count[pair.image_2] += 1
            kept.append((pair.image_1, pair.image_2))
    return kept


def _pinhole(path: Path, calibration: Calibration) -> pycolmap.Camera:
    width, height = image_size(path)
    K = _corner_K(calibration)
    return pycolmap.Camera(model="PINHOLE", width=width, height=height, params=[K[0, 0], K[1, 1], K[0, 2], K[1, 2]])
