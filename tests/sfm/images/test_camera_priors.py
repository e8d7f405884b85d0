import math
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational, ImageFileDirectory_v2

from sfm.errors import BadOption
from sfm.images.camera_priors import ImageHeader, cameras_of, focal_prior
from sfm.images.exif import Exif, read_exif
from sfm.options import ImageOptions

W, H = 64, 48
CANON = {"make": "Canon", "model": "Canon EOS 5D Mark II"}


def exif_of(
    *, make: str = "", model: str = "", focal_mm: float = 0, focal_35mm: int = 0, **image_tags: object
) -> Image.Exif:
    exif = Image.Exif()
    image = exif.get_ifd(0x8769)
    if make:
        exif[0x010F] = make
    if model:
        exif[0x0110] = model
    if focal_mm:
        image[0x920A] = IFDRational(round(focal_mm * 1000), 1000)
    if focal_35mm:
        image[0xA405] = focal_35mm
    image.update({int(tag[1:], 16): value for tag, value in image_tags.items()})
    return exif


def saved(path: Path, exif: Image.Exif, size: tuple[int, int] = (W, H)) -> Path:
    how: dict[str, object] = {"exif": exif}
    if path.suffix == ".tif":  # where Pillow leaves out the image's part of Image.Exif
        tags = ImageFileDirectory_v2()
        tags.update(exif)
        tags[0x8769] = exif.get_ifd(0x8769)
        how = {"tiffinfo": tags}
    Image.new("RGB", size, (90, 120, 30)).save(path, **how)
    return path


def our_focal(path: Path) -> float | None:
    with Image.open(path) as image:
        return focal_prior(read_exif(image), *image.size)


PER_INCH = {"xA20E": IFDRational(2000), "xA20F": IFDRational(2000), "xA210": 2}
PER_CM = {"xA20E": IFDRational(800), "xA20F": IFDRational(800), "xA210": 3}
NO_UNIT = {"xA20E": IFDRational(800), "xA210": 1}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"focal_35mm": 28},
        {"focal_35mm": 50, "focal_mm": 7.1, **CANON},
        {"focal_mm": 24.0, **CANON},
        {"focal_mm": 7.4, "make": "NIKON", "model": "COOLPIX 995"},
        {"focal_mm": 7.4, "make": "Unheard-of", "model": "Nothing 1"},
        {"focal_mm": 7.4, "model": "EOS 5D"},
        {"focal_mm": 1.5, **PER_INCH},
        {"focal_mm": 1.5, **PER_CM, **CANON},
        {"focal_mm": 24.0, **NO_UNIT, **CANON},
    ],
)
def test_focal_length_is_pycolmaps(tmp_path: Path, suffix: str, tags: dict[str, object]) -> None:
    path = saved(tmp_path / f"x.{suffix}", exif_of(**tags))  # type: ignore[arg-type]
    theirs = pycolmap.Bitmap.read(path, as_rgb=True).exif_focal_length()
    ours = our_focal(path)
    assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-6))


def test_default_camera_is_pycolmaps(tmp_path: Path) -> None:
    """With a prior, without one, and for an image that is shown rotated (which pycolmap does not turn)."""
    for name, exif in (("prior.jpg", exif_of(focal_35mm=28)), ("guess.jpg", exif_of())):
        path = saved(tmp_path / name, exif)
        theirs = pycolmap.infer_camera_from_image(path)
        with Image.open(path) as image:
            photo = ImageHeader(name, image.size, read_exif(image))
        ours = cameras_of([photo], ImageOptions())[name]
        assert ours.model == theirs.model.name
        np.testing.assert_allclose(ours.params, theirs.params, rtol=1e-6)
        assert ours.has_focal_prior == theirs.has_prior_focal_length


def test_webp_which_pycolmap_cannot_read(tmp_path: Path) -> None:
    for tags in ({"focal_35mm": 28, **CANON}, {"focal_mm": 24.0, **CANON}):
        ours = our_focal(saved(tmp_path / "x.webp", exif_of(**tags)))
        assert ours == our_focal(saved(tmp_path / "x.jpg", exif_of(**tags)))
        assert ours is not None


def test_sensor_width_of_a_known_camera() -> None:
    exif = Exif(make="Canon", model="Canon EOS 5D Mark II", focal_mm=36)
    assert focal_prior(exif, 3000, 2000) == pytest.approx(3000)  # its sensor is 36 mm wide
    assert focal_prior(exif, 2000, 3000) == focal_prior(exif, 3000, 2000)


def test_focal_plane_resolution_follows_a_reduction_of_the_image(tmp_path: Path) -> None:
    tags = {"focal_mm": 1.5, **PER_INCH}
    full = our_focal(saved(tmp_path / "full.jpg", exif_of(**tags, xA002=W, xA003=H)))
    half = our_focal(saved(tmp_path / "half.jpg", exif_of(**tags, xA002=W, xA003=H), (W // 2, H // 2)))
    assert full == pytest.approx(1.5 * 2000 / 25.4)
    assert half == pytest.approx(full / 2)


@pytest.mark.parametrize("focal_35mm", [0.0, 1.0, 60_000.0])
def test_impossible_focal_lengths_are_ignored(focal_35mm: float) -> None:
    assert focal_prior(Exif(focal_35mm=focal_35mm), W, H) is None
    canon = Exif(make="Canon", model="Canon EOS 5D Mark II", focal_mm=24, focal_35mm=focal_35mm)
    assert focal_prior(canon, W, H) == focal_prior(Exif(make="Canon", model="Canon EOS 5D Mark II", focal_mm=24), W, H)


def test_strange_exif_values_are_read_as_nothing(tmp_path: Path) -> None:
    exif = exif_of(make="A\tcme\n", model="X", x920A=IFDRational(1, 0), xA405=0, xA434="  lens\t 1 ")
    with Image.open(saved(tmp_path / "x.jpg", exif)) as image:
        found = read_exif(image)
    assert found == Exif(make="A cme", model="X", lens="lens 1")


# --- who shares a camera

DEVICE = Exif(make="Canon", model="EOS 5D", focal_mm=24.0)


def groups(images: list[ImageHeader], how: str = "auto") -> list[str]:
    cameras = cameras_of(images, ImageOptions(camera=how))
    return [cameras[image.name].group for image in images]


def test_auto_joins_one_device_across_folders() -> None:
    images = [ImageHeader("a/1.jpg", (W, H), DEVICE), ImageHeader("b/2.jpg", (W, H), DEVICE)]
    assert groups(images) == ["Canon EOS 5D, 24.0 mm, 64x48"] * 2


@pytest.mark.parametrize(
    "other",
    [
        ImageHeader("2.jpg", (W, H), Exif(make="Canon", model="EOS 6D", focal_mm=24.0)),
        ImageHeader("2.jpg", (W, H), Exif(make="Canon", model="EOS 5D", focal_mm=35.0)),
        ImageHeader("2.jpg", (W, H), Exif(make="Canon", model="EOS 5D", focal_mm=24.0, lens="EF 24-70")),
        ImageHeader("2.jpg", (H, W), DEVICE),
        ImageHeader("2.jpg", (W, H), Exif()),
    ],
)
def test_auto_parts_other_device_focal_length_lens_and_size(other: ImageHeader) -> None:
    assert len(set(groups([ImageHeader("1.jpg", (W, H), DEVICE), other]))) == 2


def test_auto_without_device_joins_one_size_in_one_folder() -> None:
    images = [ImageHeader(name, (W, H), Exif()) for name in ("1.jpg", "2.jpg", "sub/3.jpg")]
    images.append(ImageHeader("4.jpg", (W, H + 1), Exif()))
    first, second, third, fourth = groups(images)
    assert first == second == "unknown device in folder ., 64x48"
    assert len({first, third, fourth}) == 3


def test_other_ways_to_group() -> None:
    images = [ImageHeader(name, (W, H), DEVICE) for name in ("1.jpg", "a/2.jpg", "a/3.jpg")]
    assert groups(images, "single") == ["single"] * 3
    assert groups(images, "per-folder") == ["folder .", "folder a", "folder a"]
    assert groups(images, "per-image") == ["1.jpg", "a/2.jpg", "a/3.jpg"]


@pytest.mark.parametrize("how", ["single", "per-folder"])
def test_one_camera_has_one_size(how: str) -> None:
    images = [
        ImageHeader("1.jpg", (W, H), Exif()),
        ImageHeader("2.jpg", (W, H), Exif()),
        ImageHeader("3.jpg", (H, W), Exif()),
    ]
    with pytest.raises(BadOption, match=r"1\.jpg is 64x48 but 3\.jpg is 48x64"):
        groups(images, how)


def test_a_camera_shared_by_several_focal_lengths_takes_the_median() -> None:
    images = [ImageHeader(f"{i}.jpg", (W, H), Exif(focal_35mm=f)) for i, f in enumerate((28, 28, 50, 0))]
    camera = cameras_of(images, ImageOptions(camera="single"))["3.jpg"]
    assert camera.has_focal_prior
    assert camera.params[0] == pytest.approx(28 / 43.27 * 80)


# --- options


@pytest.mark.parametrize("model", [name for name in pycolmap.CameraModelId.__members__ if name != "INVALID"])
def test_every_model_of_colmap(model: str) -> None:
    camera = cameras_of([ImageHeader("1.jpg", (W, H), Exif())], ImageOptions(camera_model=model.lower()))["1.jpg"]
    assert camera.model == model
    guess = math.hypot(W, H) / math.radians(160) if "FISHEYE" in model else 1.2 * W
    expected = pycolmap.Camera.create_from_model_name(1, model, guess, W, H)
    np.testing.assert_allclose(camera.params, expected.params)


@pytest.mark.parametrize(
    ("lens", "model"),
    [("EF8-15mm f/4L FISHEYE USM", "OPENCV_FISHEYE"), ("10.5mm Fish-Eye", "OPENCV_FISHEYE"), ("50mm", "SIMPLE_RADIAL")],
)
def test_exif_that_names_a_fisheye_lens(lens: str, model: str) -> None:
    header = ImageHeader("1.jpg", (W, H), Exif(lens=lens))
    assert cameras_of([header], ImageOptions())["1.jpg"].model == model
    assert cameras_of([header], ImageOptions(camera_model="RADIAL"))["1.jpg"].model == "RADIAL"


@pytest.mark.parametrize("model", ["INVALID", "", "PINHOLE2"])
def test_unknown_model(model: str) -> None:
    with pytest.raises(BadOption, match="SIMPLE_RADIAL"):
        cameras_of([ImageHeader("1.jpg", (W, H), Exif())], ImageOptions(camera_model=model))


def test_known_intrinsics_hold_for_every_image() -> None:
    images = [ImageHeader(f"{i}.jpg", (W, H), Exif()) for i in range(2)]
    for how in ("auto", "per-image"):
        cameras = cameras_of(images, ImageOptions(camera=how, intrinsics="70.5, 31,23,-0.01"))
        for camera in cameras.values():
            np.testing.assert_array_equal(camera.params, [70.5, 31, 23, -0.01])
            assert camera.has_focal_prior


@pytest.mark.parametrize(
    ("intrinsics", "message"),
    [
        ("70,31,23", "3 numbers, but SIMPLE_RADIAL has 4: f, cx, cy, k"),
        ("f,cx,cy,k", "numbers separated by commas"),
        ("", "numbers separated by commas"),
        ("0,31,23,0", "positive"),
        ("nan,31,23,0", "finite"),
    ],
)
def test_bad_intrinsics(intrinsics: str, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        cameras_of([ImageHeader("1.jpg", (W, H), Exif())], ImageOptions(intrinsics=intrinsics))


def test_known_intrinsics_need_one_size() -> None:
    images = [ImageHeader("1.jpg", (W, H), Exif()), ImageHeader("2.jpg", (H, W), Exif())]
    with pytest.raises(BadOption, match=r"1\.jpg is 64x48 but 2\.jpg is 48x64"):
        cameras_of(images, ImageOptions(intrinsics="70,31,23,0"))
