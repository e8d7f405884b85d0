"""The COLMAP database that belongs to finished models: their cameras, and their images' keypoints.

COLMAP goes on from a model (triangulate_points, or mapping with an input) only where the database has its cameras, of
the same camera models, and as many keypoints of its images; else it aborts. Pixels are COLMAP's (sfm.types).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm.colmap.camera import widened, widest
from sfm.mapping.inputs import MappingInput, write_database
from sfm.types import ImagePair, KeypointMatches, Keypoints, TwoViewGeometry


def with_copies(data: MappingInput, copies: Mapping[str, str]) -> MappingInput:
    """The input with further images: copies of its own, with the matches of these. copies: the images' names by those
    of their copies; their ids follow those of the images."""
    rows = {record.name: i for i, record in enumerate(data.images)}
    names_of: dict[str, list[str]] = {}
    for name, of in sorted(copies.items()):
        names_of.setdefault(of, []).append(name)
    more = [(rows[of], name) for of, names in names_of.items() for name in names]
    return replace(
        data,
        images=(*data.images, *(replace(data.images[i], name=name) for i, name in more)),
        keypoints=(*data.keypoints, *(data.keypoints[i] for i, _ in more)),
        geometries=(
            *data.geometries,
            *(_renamed_geometry(g, *n) for g in data.geometries for n in _ends(g.pair, names_of)),
        ),
        matches=(*data.matches, *(_renamed_matches(m, *n) for m in data.matches for n in _ends(m.pair, names_of))),
    )


def _ends(pair: ImagePair, names_of: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """A pair's images with a copy in the place of one of them."""
    yield from ((name, pair.name1) for name in names_of.get(pair.name0, ()))
    yield from ((pair.name0, name) for name in names_of.get(pair.name1, ()))


def _renamed_geometry(geometry: TwoViewGeometry, name0: str, name1: str) -> TwoViewGeometry:
    """The geometry of images of other names, in the order of a pair of these."""
    pair = ImagePair.of(name0, name1)
    if name0 < name1:
        return replace(geometry, pair=pair)
    F = None if geometry.F is None else geometry.F.T
    pose = geometry.cam1_from_cam0
    inverse = None if pose is None else pycolmap.Rigid3d(pose).inverse().matrix()
    return replace(geometry, pair=pair, F=F, cam1_from_cam0=inverse)


def _renamed_matches(matches: KeypointMatches, name0: str, name1: str) -> KeypointMatches:
    indices = matches.indices if name0 < name1 else np.ascontiguousarray(matches.indices[:, ::-1])
    return replace(matches, pair=ImagePair.of(name0, name1), indices=indices)


def write_final_database(path: Path, data: MappingInput, models: Sequence[pycolmap.Reconstruction]) -> None:
    """A new COLMAP database of all that mapping read, with the cameras and the keypoints of finished models.

    What several models have is the first one's; cameras and images of none are as mapping read them. models: made to
    agree by `reconcile`, with the ids of a database of `data`.
    """
    cameras: dict[int, pycolmap.Camera] = {}
    for model in models:
        for image_id in model.reg_image_ids():
            camera = model.cameras[model.images[image_id].camera_id]
            cameras.setdefault(camera.camera_id, camera)
    write_database(path, final_input(data, models), cameras)


def final_input(data: MappingInput, models: Sequence[pycolmap.Reconstruction]) -> MappingInput:
    """What mapping read, with the keypoints where the images of finished models have them."""
    final: dict[str, pycolmap.Image] = {}
    for model in models:
        for image_id in model.reg_image_ids():
            final.setdefault(model.images[image_id].name, model.images[image_id])
    keypoints = []
    for record, own in zip(data.images, data.keypoints, strict=True):
        if record.name in final:
            xy = np.array([p.xy for p in final[record.name].points2D], np.float32).reshape(-1, 2)
            own = Keypoints(xy, np.pad(own.score, (0, len(xy) - len(own))))  # those that were proposed have no score
        keypoints.append(own)
    return replace(data, keypoints=tuple(keypoints))


def reconcile(models: Sequence[pycolmap.Reconstruction]) -> None:
    """Makes models of one database agree, in place, so that one database fits them all.

    Each may have freed other parameters of a camera that they share: it gets the widest of its camera models in all of
    them, with the parameters that project as before. An image in several of them gets as many keypoints in each.
    """
    for camera_id in {i for model in models for i in model.cameras}:
        sharing = [model for model in models if camera_id in model.cameras]
        name = widest([model.cameras[camera_id].model_name for model in sharing])
        for model in sharing if name is not None else ():
            if model.cameras[camera_id].model_name != name:
                model.cameras[camera_id] = widened(model.cameras[camera_id], str(name))
    for image_id in {i for model in models for i in model.reg_image_ids()}:
        images = [model.images[image_id] for model in models if image_id in model.images]
        longest = max(images, key=lambda image: len(image.points2D))
        for image in images:
            for point in list(longest.points2D)[len(image.points2D) :]:
                image.points2D.append(pycolmap.Point2D(point.xy))
