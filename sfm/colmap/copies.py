"""Images of the same bytes as an image of a model: they get its pose and its observations.

They are not matched, for they show nothing new, but pass for a second view; who asks for the pose of every file, of
each frame of a video for example, gets it all the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pycolmap


def add_copies(model: pycolmap.Reconstruction, copies: Mapping[str, str], ids: Mapping[str, int]) -> frozenset[str]:
    """Adds to a model, in place, the copies of its images; the names of those that are now in it.

    copies: the images' names by those of their copies. ids: image ids of the copies, which no other image has. A copy
    of an image of a rig of several cameras, whose pose is the rig's, is not added.
    """
    image_ids = {model.images[i].name: i for i in model.reg_image_ids()}
    added = set()
    for name, of in copies.items():
        if of not in image_ids or name in image_ids:
            continue
        image = model.images[image_ids[of]]
        if model.rigs[model.frames[image.frame_id].rig_id].num_sensors() > 1:
            continue
        _add_copy(model, image, name, ids[name])
        added.add(name)
    return frozenset(added)


def _add_copy(model: pycolmap.Reconstruction, image: pycolmap.Image, name: str, image_id: int) -> None:
    keypoints = np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)
    copy = pycolmap.Image(name=name, keypoints=keypoints, camera_id=image.camera_id, image_id=image_id)
    model.add_image_with_trivial_frame(copy, image.cam_from_world())
    for j in image.get_observation_point2D_idxs():
        model.add_observation(image.points2D[j].point3D_id, pycolmap.TrackElement(image_id, j))
