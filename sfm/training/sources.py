"""What a training run makes its pairs from, read and held apart from what it is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm.colmap.model_reader import model_folders
from sfm.datasets.training_pairs.depth_pairs import DepthSequence
from sfm.datasets.training_pairs.track_pairs import TrackScene, reconstruct_scene
from sfm.errors import BadFile
from sfm.training.challenge_scenes import read_challenge
from sfm.training.options import TrainOptions

HELD_OUT = 8  # one in so many images (of models), and the last one in so many frames (of sequences)


@dataclass(frozen=True, slots=True)
class Sources:
    """images: folder of images or None. scenes: with COLMAP models. sequences: with depth."""

    images: Path | None = None
    scenes: tuple[TrackScene, ...] = ()
    sequences: tuple[DepthSequence, ...] = ()

    @classmethod
    def read(cls, options: TrainOptions) -> Sources:
        """All that the options name. Models that SIFT makes are kept in OUT/scenes. Raises BadFile."""
        scenes: list[TrackScene] = []
        sequences = list(sequences_in(options.rgbd)) if options.rgbd is not None else []
        if options.scenes is not None:
            scenes += scenes_in(options.scenes, options.out / "scenes")
        if options.model is not None and options.model_images is not None:
            scenes.append(TrackScene(options.model_images, model_folders(options.model)))
        if options.imc2022 is not None:
            with_tracks, with_depth = read_challenge(options.imc2022, options.out / "scenes")
            scenes += with_tracks
            sequences += with_depth
        return cls(options.images, tuple(scenes), tuple(sequences))

    def training(self) -> Sources:
        """The part that is trained on."""
        return Sources(
            self.images,
            tuple(scene.without(HELD_OUT) for scene in self.scenes),
            tuple(sequence.held_out(HELD_OUT)[0] for sequence in self.sequences),
        )


def scenes_in(folder: Path, models: Path) -> list[TrackScene]:
    """Every image set NAME/images, with the models in NAME/sparse or, made once by SIFT, in models/NAME. BadFile where
    there is none."""
    found = [images for images in sorted(folder.glob("*/images")) if images.is_dir()]
    if not found:
        raise BadFile(f"{folder}: holds no image sets; put each set's images in {folder}/NAME/images")
    return [
        TrackScene(images, model_folders(sparse))
        if (sparse := images.parent / "sparse").is_dir()
        else reconstruct_scene(images, models / images.parent.name)
        for images in found
    ]


def sequences_in(folder: Path) -> tuple[DepthSequence, ...]:
    """The sequence in a folder, or those in its folders. BadFile where there is none."""
    folders = [folder] if (folder / "poses.txt").is_file() else sorted(p.parent for p in folder.glob("*/poses.txt"))
    if not folders:
        raise BadFile(f"{folder}: no sequence with depth; give a folder with images/, depth/, poses.txt and K.txt")
    return tuple(DepthSequence.read(own) for own in folders)
