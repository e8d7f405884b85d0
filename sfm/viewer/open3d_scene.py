"""One 3D view of Open3D's: points, lines and images put onto it by name, and its camera as a View.

Open3D's cameras look along -z with y up; ours are COLMAP's (sfm.drawing.viewpoint).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import open3d as o3d
from numpy.typing import NDArray
from open3d.visualization import gui, rendering

from sfm.drawing.shapes import Segments
from sfm.drawing.viewpoint import FIELD_OF_VIEW, View
from sfm.types import Float32, Float64

UInt8 = NDArray[np.uint8]
FLIP = np.diag([1.0, -1.0, -1.0])
NEAR, FAR = 0.01, 1000.0
FEW_POINTS = 400_000  # more are thinned out while the view moves


class Stage:
    """A scene widget. Names of what it shows are `kind` or `kind/number`."""

    def __init__(self, renderer: Any) -> None:
        self.widget = gui.SceneWidget()
        self.widget.scene = rendering.Open3DScene(renderer)
        self.widget.scene.downsample_threshold = FEW_POINTS
        self.widget.scene.view.set_post_processing(False)  # colours as they are
        self.widget.set_view_controls(gui.SceneWidget.Controls.ROTATE_CAMERA_SPHERE)
        self._shown: set[str] = set()

    # --- what is on it ----------------------------------------------------------------------------

    def clear(self, kind: str) -> None:
        """Takes all of a kind away."""
        for name in [n for n in self._shown if n == kind or n.startswith(kind + "/")]:
            self.widget.scene.remove_geometry(name)
            self._shown.discard(name)

    def points(self, kind: str, xyz: Float32, rgb: UInt8, size: float) -> None:
        """Shows points (N, 3) with colours (N, 3), `size` px across, in place of those before."""
        self.clear(kind)
        if len(xyz) == 0:
            return
        cloud = o3d.t.geometry.PointCloud(o3d.core.Tensor(np.ascontiguousarray(xyz, np.float32)))
        cloud.point.colors = o3d.core.Tensor(rgb.astype(np.float32) / 255)
        self._add(kind, cloud, _material("defaultUnlit", point_size=size))

    def resize_points(self, kind: str, size: float) -> None:
        """Gives the points of a kind another size."""
        if kind in self._shown:
            self.widget.scene.modify_geometry_material(kind, _material("defaultUnlit", point_size=size))

    def lines(self, kind: str, lines: Segments, width: float) -> None:
        """Shows lines, `width` px wide, in place of those before."""
        self.clear(kind)
        num = len(lines.start)
        if num == 0:
            return
        shape = o3d.geometry.LineSet(
            o3d.utility.Vector3dVector(np.concatenate([lines.start, lines.end])),
            o3d.utility.Vector2iVector(np.column_stack([np.arange(num), np.arange(num) + num]).astype(np.int32)),
        )
        shape.colors = o3d.utility.Vector3dVector(lines.rgb / 255.0)
        self._add(kind, shape, _material("unlitLine", line_width=width))

    def images(self, kind: str, corners: Float64, images: Sequence[UInt8 | None]) -> None:
        """Shows images on rectangles (C, 4, 3), corners from the top left one clockwise, in place of those before."""
        self.clear(kind)
        triangles = np.array([(0, 1, 2), (0, 2, 3), (0, 2, 1), (0, 3, 2)], np.int32)  # from both sides
        uv = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)[triangles.ravel()]
        for row, image in enumerate(images):
            if image is None:
                continue
            mesh = o3d.geometry.TriangleMesh(
                o3d.utility.Vector3dVector(corners[row]), o3d.utility.Vector3iVector(triangles)
            )
            mesh.triangle_uvs = o3d.utility.Vector2dVector(uv)
            material = _material("defaultUnlit")
            material.albedo_img = o3d.geometry.Image(np.ascontiguousarray(_encoded(image).round().astype(np.uint8)))
            self._add(f"{kind}/{row}", mesh, material)

    def background(self, rgb: tuple[int, int, int]) -> None:
        """Colours what is behind everything."""
        self.widget.scene.set_background([*(_encoded(np.array(rgb, np.uint8)) / 255).tolist(), 1.0])

    def _add(self, name: str, shape: Any, material: Any) -> None:
        self.widget.scene.add_geometry(name, shape, material)
        self._shown.add(name)

    # --- from where -------------------------------------------------------------------------------

    @property
    def pose(self) -> Float64:
        """cam_from_world (3, 4) of the view."""
        return FLIP @ np.asarray(self.widget.scene.camera.get_view_matrix(), np.float64)[:3]

    def view(self) -> View:
        """The view, in px from the widget's upper left corner."""
        frame = self.widget.frame
        size = (max(1, int(frame.width)), max(1, int(frame.height)))
        projection = np.asarray(self.widget.scene.camera.get_projection_matrix(), np.float64)
        focal = np.array([projection[0, 0] * size[0], projection[1, 1] * size[1]]) / 2
        return View(self.pose, focal, np.array(size) / 2, size)

    def look(self, pose: Float64, field_deg: float = FIELD_OF_VIEW) -> None:
        """Looks from a pose (3, 4) with this vertical field of view; the mouse rotates it about the place ahead that is
        nearest to the origin."""
        frame = self.widget.frame
        aspect = max(1, frame.width) / max(1, frame.height)
        kind = rendering.Camera.FovType.Vertical
        self.widget.scene.camera.set_projection(field_deg, aspect, NEAR, FAR, kind)
        eye, forward = -pose[:, :3].T @ pose[:, 3], pose[2, :3]
        target = eye + max(0.3, float(-eye @ forward)) * forward
        self.widget.look_at(target.astype(np.float32), eye.astype(np.float32), -pose[1, :3].astype(np.float32))

    def follow(self, other: Stage) -> None:
        """Looks from where another stage looks."""
        self.widget.scene.camera.copy_from(other.widget.scene.camera)
        self.widget.center_of_rotation = other.widget.center_of_rotation
        self.widget.force_redraw()


def _encoded(rgb: UInt8) -> Float64:
    """What Open3D must be given for backgrounds and images, whose sRGB it decodes and does not encode again."""
    part = np.arange(256) / 255
    table = np.where(part <= 0.0031308, 12.92 * part, 1.055 * part ** (1 / 2.4) - 0.055)
    return np.asarray(255 * table[rgb])


def _material(shader: str, **values: float) -> Any:
    material = rendering.MaterialRecord()
    material.shader = shader
    for name, value in values.items():
        setattr(material, name, value)
    return material
