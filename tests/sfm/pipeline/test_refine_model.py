"""The verb refine on a small scene that is photographed exactly: models of every kind in, and what it refuses."""

import json
import shutil

import h5py
import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm.cli.main import main
from sfm.options import ImageOptions, MappingOptions, Options, RefinementOptions
from sfm.pipeline.run import reconstruct
from sfm.pipeline.stages import HlocFiles
from sfm.refinement.rounds import Refiner
from tests.support.plane_scene import HEIGHT, NAMES, PARAMS, WIDTH, make_model, perturbed, rendered, surface_points
from tests.support.refinement_scene import largest_error_deg, mapped

SIGMA = 0.7  # px, of a detector
UPRIGHT, ROTATED = 1, 6  # EXIF orientations


def write_image(path, grey, orientation=UPRIGHT):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(grey).save(path, exif=exif)


@pytest.fixture(scope="module")
def noisy():
    """Read only."""
    return mapped(perturbed(surface_points(), SIGMA))


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    """Read only."""
    folder = tmp_path_factory.mktemp("images")
    for i, name in enumerate(NAMES):
        write_image(folder / name, rendered(i))
    return folder


@pytest.fixture
def images(image_folder, tmp_path):
    """A copy to change."""
    return shutil.copytree(image_folder, tmp_path / "images")


def written(model, folder, *, kind="binary"):
    folder.mkdir(parents=True)
    model.write_binary(folder) if kind == "binary" else model.write_text(folder)
    return folder


def refine(model, images, out, *more):
    return main(["refine", str(model), str(images), str(out), "--device", "cpu", *more])


def record_of(out):
    return json.loads((out / "refine.json").read_text())


@pytest.mark.parametrize(("kind", "place"), [("binary", "."), ("text", "sparse/0")])
def test_a_models_observations_become_exact(noisy, image_folder, tmp_path, capsys, kind, place):
    written(noisy, tmp_path / "model" / place, kind=kind) if place != "." else written(noisy, tmp_path / "model")
    out = tmp_path / "out"
    assert refine(tmp_path / "model", image_folder, out, "--fix-intrinsics") == 0
    found = pycolmap.Reconstruction(out / "sparse" / "0")
    assert largest_error_deg(found) < largest_error_deg(noisy) / 5
    np.testing.assert_array_equal(found.cameras[1].params, PARAMS)
    assert sorted(p.name for p in out.iterdir()) == ["database.db", "points.ply", "refine.json", "sparse"]
    record = record_of(out)
    assert record["mean_reprojection_error_px"]["before"] == pytest.approx(noisy.compute_mean_reprojection_error())
    assert record["mean_reprojection_error_px"]["after"] < 0.1
    assert record["observations"]["before"] == noisy.compute_num_observations()
    assert record["observations"]["after"] == found.compute_num_observations()
    assert 0.4 < record["observations"]["median_move_px"] < 2
    assert (record["images"], record["warnings"]) == (5, [])
    text = capsys.readouterr().out
    assert f"{out / 'sparse' / '0'}: 5 images" in text
    assert "px before, 0.0" in text
    colours = np.array([p.color for p in found.points3D.values()], np.float64)
    assert colours.std() > 10


def test_of_several_models_the_largest_is_refined(noisy, image_folder, tmp_path):
    """COLMAP numbers models as they come."""
    part = pycolmap.Reconstruction(noisy)
    part.deregister_frame(part.images[5].frame_id)
    written(part, tmp_path / "model" / "sparse" / "0")
    written(noisy, tmp_path / "model" / "sparse" / "1")
    assert refine(tmp_path / "model", image_folder, tmp_path / "out", "--rounds", "1") == 0
    record = record_of(tmp_path / "out")
    assert record["images"] == 5
    largest = tmp_path / "model" / "sparse" / "1"
    assert record["notes"] == [f"of the 2 models there the one of most images was refined, {largest}"]


@pytest.mark.slow
def test_equal_calls_give_equal_bytes_and_results_may_be_replaced(noisy, image_folder, tmp_path):
    model = written(noisy, tmp_path / "model")
    for out in (tmp_path / "a", tmp_path / "b", tmp_path / "b"):
        assert refine(model, image_folder, out, "--rounds", "1") == 0
    for name in ("cameras", "images", "points3D"):
        first, second = (tmp_path / out / "sparse" / "0" / f"{name}.bin" for out in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_images_that_cannot_be_used_are_left_and_said(noisy, images, tmp_path, capsys):
    (images / NAMES[1]).unlink()
    write_image(images / NAMES[3], rendered(3)[: HEIGHT - 8])
    out = tmp_path / "out"
    assert refine(written(noisy, tmp_path / "model"), images, out, "--fix-intrinsics") == 0
    (note,) = record_of(out)["notes"]
    assert note == (
        "2 of 5 images could not be used, their observations stay as they were "
        f"(1.png: no such file; 3.png: it is {WIDTH}x{HEIGHT - 8} px, its camera {WIDTH}x{HEIGHT})"
    )
    assert f"note: {note}" in capsys.readouterr().out
    usable = [name for name in NAMES if name not in (NAMES[1], NAMES[3])]
    found = pycolmap.Reconstruction(out / "sparse" / "0")
    assert found.num_reg_images() == 5
    assert largest_error_deg(found, usable) < largest_error_deg(noisy, usable) / 3


def test_images_of_another_place_are_said_to_be(noisy, images, tmp_path, capsys):
    for i, name in enumerate(NAMES):
        write_image(images / name, rendered(0, seed=20 + i))
    out = tmp_path / "out"
    assert refine(written(noisy, tmp_path / "model"), images, out, "--fix-intrinsics") == 4
    assert [warning.split(":")[1] for warning in record_of(out)["warnings"]] == [
        " are these the images that the model was made of?"
    ]
    printed = capsys.readouterr()
    assert "warning: only" in printed.out
    assert "this model is probably bad (exit code 4): only" in printed.err


def test_a_image_is_taken_as_it_is_stored_or_as_it_is_displayed_by_its_cameras_size(noisy, images, tmp_path):
    """COLMAP knows no EXIF orientation: 0 is as its camera is, as stored. 1 has the camera's size as displayed."""
    write_image(images / NAMES[0], rendered(0), orientation=ROTATED)
    write_image(images / NAMES[1], np.rot90(rendered(1), 1).copy(), orientation=ROTATED)
    out = tmp_path / "out"
    assert refine(written(noisy, tmp_path / "model"), images, out, "--fix-intrinsics") == 0
    assert record_of(out)["warnings"] == []
    assert largest_error_deg(pycolmap.Reconstruction(out / "sparse" / "0")) < largest_error_deg(noisy) / 5


def test_points_are_proposed_where_no_mask_forbids_it(noisy, image_folder, tmp_path):
    """Half of the points are not observed in the last image; with a black mask they stay so."""
    model = pycolmap.Reconstruction(noisy)
    for j in range(0, 160, 2):
        model.delete_observation(5, j)
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(masks / "4.png.png")
    num = {}
    for name, more in (("without", ()), ("with", ("--masks", str(masks)))):
        source = written(model, tmp_path / f"model {name}")
        assert refine(source, image_folder, tmp_path / name, "--fix-intrinsics", *more) == 0
        found = pycolmap.Reconstruction(tmp_path / name / "sparse" / "0")
        num[name] = len(found.images[5].points2D)
    assert num["with"] == 160 < num["without"]


def test_models_without_points_are_refused(noisy, image_folder, tmp_path, capsys):
    bare = pycolmap.Reconstruction(noisy)
    bare.delete_all_points2D_and_points3D()
    assert refine(written(bare, tmp_path / "model"), image_folder, tmp_path / "out") == 2
    assert "the model has no points that its images observe" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_names_that_lead_out_are_never_opened(noisy, image_folder, tmp_path, capsys):
    away = pycolmap.Reconstruction(noisy)
    for image in away.images.values():
        image.name = f"../images0/{image.name}"
    assert refine(written(away, tmp_path / "model"), image_folder, tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "none of the model's images can be used (../images0/0.png: its name leads out of the folder)" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda model, out: None, "no such folder; give the folder of the model's images"),
        (lambda model, out: (out / "sparse" / "0").mkdir(parents=True), "holds models that are no results of refine"),
        (lambda model, out: shutil.copytree(model, out / "sparse" / "0"), "holds the model itself"),
        (lambda model, out: out.write_text(""), "is a file; give a folder for the results"),
    ],
)
def test_what_would_be_lost_is_not_overwritten(noisy, image_folder, tmp_path, capsys, prepare, words):
    model, out = written(noisy, tmp_path / "model"), tmp_path / "out"
    prepare(model, out)
    if "the model itself" in words:
        model = out / "sparse" / "0"
    images = tmp_path / "nowhere" if "no such folder" in words else image_folder
    assert refine(model, images, out) == 2
    assert words in capsys.readouterr().err
    if out.is_dir() and (out / "sparse").exists():
        assert sorted(p.name for p in out.iterdir()) == ["sparse"]


@pytest.fixture
def rounds(monkeypatch):
    """Numbers of the rounds that are begun, from now on; the second one is interrupted."""
    begun, next_round = [], Refiner.next_round

    def killed(self, before, scratch):
        begun.append(before.rounds)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return next_round(self, before, scratch)

    monkeypatch.setattr(Refiner, "next_round", killed)
    return begun


@pytest.mark.slow
def test_a_killed_call_goes_on_where_it_was(noisy, image_folder, tmp_path, rounds):
    model = written(noisy, tmp_path / "model")
    assert refine(model, image_folder, tmp_path / "out") == 130
    assert refine(model, image_folder, tmp_path / "out") == 0
    assert rounds[:3] == [0, 1, 1]
    assert refine(model, image_folder, tmp_path / "undisturbed") == 0
    first, second = (tmp_path / out / "sparse" / "0" / "images.bin" for out in ("out", "undisturbed"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_a_call_with_other_images_does_not_go_on_with_the_rounds_of_a_killed_one(noisy, images, tmp_path, rounds):
    model = written(noisy, tmp_path / "model")
    assert refine(model, images, tmp_path / "out") == 130
    write_image(images / NAMES[0], np.roll(rendered(0), 1, axis=1))
    assert refine(model, images, tmp_path / "out") == 0
    assert rounds[:3] == [0, 1, 0]


def test_a_call_that_was_killed_while_it_wrote_is_made_again(noisy, image_folder, tmp_path, monkeypatch):
    from sfm.pipeline import refine_model

    def killed(*args):
        raise KeyboardInterrupt

    model, out = written(noisy, tmp_path / "model"), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(refine_model, "write_ply", killed)
        assert refine(model, image_folder, out, "--rounds", "1") == 130
    assert sorted(p.name for p in out.iterdir()) == [".refinement", "database.db", "sparse"]
    assert refine(model, image_folder, out, "--rounds", "1") == 0
    assert sorted(p.name for p in out.iterdir()) == ["database.db", "points.ply", "refine.json", "sparse"]


def test_matches_imported_from_hloc_are_refined(image_folder, tmp_path):
    """hloc's pixels have their origin in the middle of the first one."""
    observations = perturbed(surface_points(), SIGMA)
    files = HlocFiles(tmp_path / "features.h5", tmp_path / "matches.h5")
    rows = np.arange(len(observations[0]), dtype=np.int32)
    with h5py.File(files.features, "w") as file:
        for name, xy in zip(NAMES, observations, strict=True):
            group = file.create_group(name)
            group["keypoints"], group["image_size"] = xy - 0.5, np.array([WIDTH, HEIGHT])
    with h5py.File(files.matches, "w") as file:
        for i, name in enumerate(NAMES):
            for other in NAMES[i + 1 :]:
                group = file.create_group(f"{name}/{other}")
                group["matches0"], group["matching_scores0"] = rows, np.ones(len(rows))
    intrinsics = ",".join(str(value) for value in PARAMS)
    error = {}
    for no_refine in (True, False):
        options = Options(
            images=ImageOptions(intrinsics=intrinsics),
            mapping=MappingOptions(threads=1),
            refinement=RefinementOptions(no_refine=no_refine),
        )
        out = tmp_path / f"out {no_refine}"
        summary = reconstruct(image_folder, out, options, imported=files)
        assert summary.registered == 5
        error[no_refine] = largest_error_deg(pycolmap.Reconstruction(out / "sparse" / "0"))
    assert error[True] > 0.15
    assert error[False] < error[True] / 5


def test_a_model_that_is_exact_stays_so(image_folder, tmp_path):
    exact = make_model(surface_points(), perturbed(surface_points(), 1e-6))
    assert refine(written(exact, tmp_path / "model"), image_folder, tmp_path / "out", "--fix-intrinsics") == 0
    assert largest_error_deg(pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")) < 0.05
