"""The readers of files from strangers, each with small whole files to start from: tests/hostile, benchmarks/fuzz.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pycolmap

from sfm.errors import BadFile, SfMError
from sfm.match_graph import Candidates, TriedPair
from sfm.storage.database import FeatureDatabase
from sfm.types import (
    CameraPrior,
    ImagePair,
    ImageRecord,
    KeypointMatches,
    Keypoints,
    Matches,
    StageSummary,
    Tracks,
    TwoViewGeometry,
)

NAMES = ("a.jpg", "b/c.jpg", "b/e.jpg")
WIDTH, HEIGHT = 320, 240
ID = " ".join(["1", "0", "0", "0", "1", "0", "0", "0", "1"])


@dataclass(frozen=True, slots=True)
class Reader:
    """make: whole files into a folder. read: all that the product does with them; SfMError is the only error that it
    may raise. fuzzed: files of the folder that are mutated. mend: makes checksums right again after a mutation."""

    make: Callable[[Path], None]
    read: Callable[[Path], object]
    fuzzed: tuple[str, ...]
    mend: Callable[[Path], None] = lambda folder: None


# --- COLMAP models --------------------------------------------------------------------------------


def _model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(1)
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 2, 1, 2
    options.num_points3D, options.camera_width, options.camera_height = 12, WIDTH, HEIGHT
    options.camera_params = [300.0, WIDTH / 2, HEIGHT / 2, 0.01]
    options.num_points2D_without_point3D = 2
    model = pycolmap.synthesize_dataset(options)
    for name, image_id in zip((*NAMES, "f.jpg"), sorted(model.images), strict=True):
        model.images[image_id].name = name
    return model


def _each(*reads: Callable[[], object]) -> None:
    """Every one is tried; the first refusal is raised at the end."""
    refused: SfMError | None = None
    for read in reads:
        try:
            read()
        except SfMError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _write_binary(folder: Path) -> None:
    _model().write_binary(folder)


def _write_text(folder: Path) -> None:
    _model().write_text(folder)


def _read_model(folder: Path) -> None:
    from sfm.colmap.model_reader import model_digest
    from sfm.drawing.scene import read_scene, upright
    from sfm.evaluation.model import camera_poses, evaluate, model_statistics, read_model
    from sfm.mapping import known_poses

    model = read_model(folder)
    model_statistics(model)
    poses = camera_poses(model)
    if len(poses) > 1:
        evaluate(model, poses)
    upright(read_scene(folder)).shared_points()
    model_digest(folder)
    known_poses.read_known_model(folder)


def _export_model(folder: Path) -> None:
    from sfm.export.registry import export
    from sfm.export.source import ExportSource

    kinds = ("ply", "text", "nvm", "bundler")
    source = ExportSource(folder, folder / "photos")
    _each(*(partial(export, source, folder / "out" / kind, kind) for kind in kinds))


MODEL = ("cameras", "images", "points3D", "rigs", "frames")


# --- HDF5 -----------------------------------------------------------------------------------------


def _record(name: str) -> ImageRecord:
    return ImageRecord(name, WIDTH, HEIGHT, CameraPrior("SIMPLE_RADIAL", np.ones(4), False, "g"), f"digest of {name}")


def _write_database(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [ImagePair(NAMES[0], NAMES[1]), ImagePair(NAMES[1], NAMES[2])]
    rows = np.arange(6, dtype=np.uint32)
    with FeatureDatabase.open(folder / "features.h5") as db:
        db.write_images([_record(name) for name in NAMES])
        db.write_pairs(pairs)
        rows_of_pairs = np.array([[0, 1], [0, 2]])
        db.write_candidates(Candidates(rows_of_pairs, np.array([0.5, 0.25], np.float32), np.array([1, 2]), 9))
        for pair in pairs:
            xy = rng.random((2, 8, 2)) * (WIDTH, HEIGHT)
            db.write_matches([(pair, Matches(xy[0], xy[1], np.ones(8), np.arange(8), np.arange(8)))], matcher_key="k")
        db.write_grids(dict.fromkeys(NAMES, (8.0, 8.0, 40)))
        db.write_tried([TriedPair(pair, 1, "alike", True) for pair in pairs])
        db.write_two_view([TwoViewGeometry(pair, rows, "calibrated", np.eye(3, 4), np.eye(3)) for pair in pairs])
        db.write_keypoints([Keypoints(rng.random((8, 2)) * (WIDTH, HEIGHT), np.ones(8)) for _ in NAMES])
        indices = np.stack([rows, rows], axis=1)
        db.write_keypoint_matches([KeypointMatches(pair, indices, np.ones(6)) for pair in pairs])
        db.write_tracks(Tracks(np.array([0, 2]), np.array([0, 1], np.uint32), np.array([0, 0], np.uint32)))
        for stage in ("images", "pairs", "matching", "verification", "tracks"):
            db.commit(stage, fingerprint="f", provenance={"version": "1"}, summary=StageSummary(stage, {"n": 1}, 0.1))


def _read_database(folder: Path) -> None:
    from sfm.export.registry import export
    from sfm.export.source import ExportSource
    from sfm.results.inspect import database_text

    _each(
        lambda: database_text(folder),
        lambda: export(ExportSource.of_run(folder), folder / "hloc", "hloc"),
        lambda: _read_groups(folder / "features.h5"),
        lambda: _run_stages(folder / "features.h5"),
    )


def _read_groups(path: Path) -> None:
    with FeatureDatabase.open(path, "r") as db:
        for stage in db.stages():
            _each(partial(db.fingerprint, stage), partial(db.summary, stage), partial(db.provenance, stage))
        _each(
            lambda: [db.read_matches(pair) for pair in db.read_pairs()],
            *(db.read_grids, db.read_two_view, db.read_keypoints, db.read_keypoint_matches, db.read_tracks),
            *(db.match_counts, db.held_matches, db.read_candidates, db.read_tried),
        )


def _run_stages(path: Path) -> None:
    from sfm.mapping.inputs import read_input, write_database
    from sfm.options import TrackOptions
    from sfm.tracks import stage as tracks

    with FeatureDatabase.open(path) as db:
        _each(lambda: write_database(path.parent / "database.db", read_input(db, known_intrinsics=False)))
        tracks.run(db, TrackOptions())
        db.commit("tracks", fingerprint="f", provenance={}, summary=StageSummary("tracks", {}, 0.1))
        db.write_matches([(ImagePair(NAMES[0], NAMES[1]), Matches.empty())], matcher_key="k")


def _write_hloc(folder: Path) -> None:
    with h5py.File(folder / "features.h5", "w", libver="latest") as file:
        for name in NAMES:
            group = file.create_group(name)
            group["keypoints"] = (np.random.default_rng(0).random((8, 2)) * 200).astype(np.float16)
            group["scores"], group["image_size"] = np.ones(8, np.float16), np.array([WIDTH, HEIGHT])
    with h5py.File(folder / "matches.h5", "w") as file:
        for a, b in ((0, 1), (1, 2)):
            group = file.create_group(f"{NAMES[a].replace('/', '-')}/{NAMES[b].replace('/', '-')}")
            group["matches0"], group["matching_scores0"] = np.arange(8, dtype=np.int16), np.ones(8, np.float16)


def _read_hloc(folder: Path) -> None:
    from sfm.export.hloc import import_hloc

    with FeatureDatabase.open(folder / "out.h5") as db:
        db.write_images([_record(name) for name in NAMES])
        import_hloc(db, features=folder / "features.h5", matches=folder / "matches.h5")


# --- weights --------------------------------------------------------------------------------------


def _tensors() -> dict[str, object]:
    import torch

    return {name: torch.arange(12.0).reshape(3, 4) for name in ("matcher.a", "b")}


def _write_safetensors(folder: Path) -> None:
    from dataclasses import asdict

    from safetensors.torch import save_file

    from sfm.matchers.loftr.config import COMPACT

    save_file(_tensors(), folder / "w.safetensors", metadata={"config": json.dumps(asdict(COMPACT))})  # type: ignore[arg-type]


def _write_checkpoint(folder: Path, *, zipped: bool) -> None:
    import torch

    torch.save({"state_dict": _tensors()}, folder / "w.ckpt", _use_new_zipfile_serialization=zipped)


def _read_weights(folder: Path) -> None:
    from sfm.matchers.loftr.checkpoint import choose, load_matcher

    path = next(folder.glob("w.*"))
    load_matcher(choose(str(path), device="cpu", offline=True))


# --- text -----------------------------------------------------------------------------------------


def _write_pairs(folder: Path) -> None:
    (folder / "pairs.txt").write_text("a.jpg b/c d.jpg\n\nb/c d.jpg  b/e.jpg\nb/e.jpg\ta.jpg\n", encoding="utf-8")


def _read_pairs(folder: Path) -> None:
    from sfm.pairs.file import from_file

    from_file(folder / "pairs.txt", ("a.jpg", "b/c d.jpg", "b/e.jpg"))


def _write_posed_pairs(folder: Path) -> None:
    K, T = "300 0 160 0 300 120 0 0 1", "1 0 0 1 0 1 0 0 0 0 1 0 0 0 0 1"
    (folder / "posed.txt").write_text(f"a.jpg b/e.jpg 0 1 {K} {K} {T}\nb/e.jpg a.jpg 0 0 {K} {K} {T}\n")


def _read_posed_pairs(folder: Path) -> None:
    from sfm.evaluation.ground_truth_pairs import read_posed_pairs
    from sfm.evaluation.options import PairEvaluationOptions

    read_posed_pairs(folder / "posed.txt", {name: _record(name) for name in NAMES}, PairEvaluationOptions())


def _write_challenge(folder: Path) -> None:
    scene = folder / "train" / "s"
    scene.mkdir(parents=True)
    K = "300 0 160 0 300 120 0 0 1"
    rows = "".join(f"{i},{K},{ID},0.5 0 1\n" for i in ("a", "b-c"))
    (scene / "calibration.csv").write_text(f"image_id,camera_intrinsics,rotation_matrix,translation_vector\n{rows}")
    (scene / "pair_covisibility.csv").write_text(f"pair,covisibility,fundamental_matrix\na-b-c,0.5,{ID}\n")
    (folder / "train" / "scaling_factors.csv").write_text("scene,scaling_factor\ns,2.5\n")
    (folder / "test.csv").write_text("sample_id,batch_id,image_1_id,image_2_id\nx;1,x,a,b\n")
    (folder / "submission.csv").write_text(f'sample_id,fundamental_matrix\nx;1,"{ID}"\n')


def _read_challenge(folder: Path) -> None:
    from sfm.datasets import imc2022

    def pairs() -> None:
        list(imc2022.read_covisible_pairs(folder / "train" / "s", imc2022.read_calibration(folder / "train" / "s")))

    _each(
        pairs,
        lambda: imc2022.read_scaling_factors(folder),
        lambda: imc2022.read_test_pairs(folder),
        lambda: imc2022.read_submission(folder / "submission.csv"),
    )


# --- JSON -----------------------------------------------------------------------------------------


def _write_run(folder: Path) -> None:
    from sfm.options import Options
    from sfm.results.run_json import write_run_json
    from sfm.types import ReconstructionSummary

    model = _model()
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    model.write_binary(place)
    stage = StageSummary(
        "matching", {"pairs": 3, "share": 0.5}, 1.5, (("g.jpg", "broken"),), notes=("said",), peak_mb=9
    )
    summary = ReconstructionSummary(5, 4, 12, 48, 4.0, 0.1, (("g.jpg", "broken"),), (stage,), ((place, 4),), place)
    write_run_json(
        summary, folder / "photos", folder, Options(), {"matcher": "loftr-compact", "weights_sha256": "ab" * 32}
    )


def _read_run(folder: Path) -> None:
    from sfm.report.run import write_report
    from sfm.results.model_source import images_of, record_of
    from sfm.results.run_json import images_folder, read_run_json, run_title

    _each(
        lambda: run_title(read_run_json(folder)),
        lambda: images_folder(folder),
        lambda: write_report(folder),
        lambda: record_of(folder / "sparse" / "0"),
        lambda: images_of(folder / "sparse" / "1"),
    )


def _write_state(folder: Path) -> None:
    from sfm.viewer.state import ViewState, remember

    remember(ViewState(pose=tuple(np.eye(3, 4).ravel().tolist()), selected=(0, "a.jpg")), folder / "state.json")


def _read_state(folder: Path) -> None:
    from sfm.viewer.state import remember, remembered

    remember(remembered(folder / "state.json"), folder / "again.json")


def _write_log(folder: Path) -> None:
    rows = [json.dumps({"id": f"{i}" * 24, "errors": [0.5, None], "num": i}) + "\n" for i in range(3)]
    (folder / "pairs.jsonl").write_text("".join(rows))


def _read_log(folder: Path) -> None:
    from sfm.evaluation.result_log import ResultLog

    ResultLog(folder / "pairs.jsonl").read({f"{i}" * 24 for i in range(3)})


# --- what a run keeps of itself -------------------------------------------------------------------


def _write_round(folder: Path) -> None:
    from sfm.refinement.checkpoint import COUNTS, Refined, save_round

    model = _model()
    covariances = {int(i): np.ones((len(image.points2D), 2, 2)) for i, image in model.images.items()}
    save_round(Refined(model, covariances, **dict.fromkeys(COUNTS, 0)), folder)  # type: ignore[arg-type]


def _mend_round(folder: Path) -> None:
    from sfm.refinement.checkpoint import digest_of_state

    path = folder / "state" / "counts.json"
    counts = json.loads(path.read_bytes())
    path.write_text(json.dumps({**counts, "digest": digest_of_state(folder / "state")}))


def _read_round(folder: Path) -> None:
    from sfm.refinement.checkpoint import load_round

    names = [image.name for image in _model().images.values()]
    if load_round(folder, names) is None:
        raise BadFile(f"{folder}: passed over")


def _write_journal(folder: Path) -> None:
    import shutil

    from sfm.storage.journal import journal_path

    _write_database(folder)
    path = folder / "features.h5"
    data = path.read_bytes()[:8192].ljust(8192, b"\0")
    body = b"SFMJRNL1" + np.array([2, path.stat().st_size], "<u8").tobytes()
    body += b"".join(np.array([i], "<u8").tobytes() + data[i * 4096 : (i + 1) * 4096] for i in range(2))
    journal_path(path).write_bytes(body + hashlib.sha256(body).digest())
    shutil.copyfile(path, folder / "kept.h5")


def _mend_journal(folder: Path) -> None:
    path = folder / "features.h5.journal"
    body = path.read_bytes()[:-32]
    path.write_bytes(body + hashlib.sha256(body).digest())


READERS: dict[str, Reader] = {
    "model-binary": Reader(_write_binary, _read_model, tuple(f"{stem}.bin" for stem in MODEL)),
    "model-text": Reader(_write_text, _read_model, tuple(f"{stem}.txt" for stem in MODEL)),
    "export": Reader(_write_binary, _export_model, tuple(f"{stem}.bin" for stem in MODEL)),
    "database": Reader(_write_database, _read_database, ("features.h5",)),
    "journal": Reader(_write_journal, _read_database, ("features.h5.journal",), _mend_journal),
    "hloc": Reader(_write_hloc, _read_hloc, ("features.h5", "matches.h5")),
    "safetensors": Reader(_write_safetensors, _read_weights, ("w.safetensors",)),
    "checkpoint-zip": Reader(lambda folder: _write_checkpoint(folder, zipped=True), _read_weights, ("w.ckpt",)),
    "checkpoint-pickle": Reader(lambda folder: _write_checkpoint(folder, zipped=False), _read_weights, ("w.ckpt",)),
    "pairs": Reader(_write_pairs, _read_pairs, ("pairs.txt",)),
    "posed-pairs": Reader(_write_posed_pairs, _read_posed_pairs, ("posed.txt",)),
    "imc2022": Reader(
        _write_challenge,
        _read_challenge,
        (
            *("train/s/calibration.csv", "train/s/pair_covisibility.csv", "train/scaling_factors.csv"),
            *("test.csv", "submission.csv"),
        ),
    ),
    "run-json": Reader(_write_run, _read_run, ("run.json",)),
    "view-state": Reader(_write_state, _read_state, ("state.json",)),
    "result-log": Reader(_write_log, _read_log, ("pairs.jsonl",)),
    "refinement-state": Reader(
        _write_round,
        _read_round,
        tuple(f"state/{n}" for n in ("covariances.npz", "images.bin", "counts.json")),
        _mend_round,
    ),
}
