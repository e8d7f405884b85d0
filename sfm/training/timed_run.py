"""A run of a given number of seconds on one GPU: data from one folder, weights out.

    python -m sfm.training.timed_run DATA OUT --init WEIGHTS --seconds 560 [--device cuda]

DATA holds photos/ and scenes/ (images), tracks.npz, frames/, depth/ (4 mm a grey level) and frames.npz. OUT gets
weights.safetensors (the moving average), model.safetensors and moments.safetensors (to go on from), log.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfm.datasets.batched_pairs.batch import Difficulty, PairBatch
from sfm.datasets.batched_pairs.made_textures import made_textures
from sfm.datasets.batched_pairs.mixture import Shares, Sources
from sfm.datasets.batched_pairs.rgbd_pairs import RgbdFrames
from sfm.datasets.batched_pairs.scenes.rendering import Kernels
from sfm.datasets.batched_pairs.scenes.scene_parts import Draws, Textures
from sfm.datasets.batched_pairs.textures import TextureBank
from sfm.datasets.batched_pairs.track_pairs import SharedTracks
from sfm.matchers.loftr import checkpoint
from sfm.matchers.loftr.config import COMPACT_WIDE
from sfm.matchers.loftr.model import LoFTR
from sfm.training import batched_steps as batched

MADE = 64  # textures that are made
DEPTH_UNIT_M = 0.004


def read_sources(data: Path, device: torch.device, *, compiled: bool) -> Sources:
    """Everything in DATA, on the device."""
    tracks = np.load(data / "tracks.npz")
    photos = [_grey(path) for path in sorted((data / "photos").iterdir())]
    scenes = [_grey(data / "scenes" / str(name)) for name in tracks["names"]]
    made = made_textures(MADE)
    frame_paths = sorted((data / "frames").iterdir())
    images = photos + scenes + made + [_grey(path) for path in frame_paths]
    bank = TextureBank.of(images, device)
    points = torch.from_numpy(tracks["points"].astype(np.float32) / 32)
    points = torch.where(points > 2047, torch.nan, points)
    shared = SharedTracks(
        torch.from_numpy(tracks["pairs"].astype(np.int64) + len(photos)).to(device),
        points.to(device),
        torch.from_numpy(tracks["weight"]).to(device),
    )
    table = np.load(data / "frames.npz")
    depth = np.stack([_pixels(data / "depth" / f"{path.stem}.png") for path in frame_paths])
    metres = torch.from_numpy(depth.astype(np.float32) * DEPTH_UNIT_M).half()
    tensors = {key: torch.from_numpy(table[key]).to(device) for key in ("cam_from_world", "K", "angle_deg", "weight")}
    frames = RgbdFrames(
        first=len(photos) + len(scenes) + MADE,
        depth=metres.to(device),
        pairs=torch.from_numpy(table["pairs"].astype(np.int64)).to(device),
        **tensors,
    )
    textures = Textures(len(photos) + len(scenes), len(photos) + len(scenes) + MADE)
    kernels = Kernels.compiled() if compiled else Kernels.plain()
    return Sources(bank, textures, kernels, frames, shared)


def _pixels(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def _grey(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def read_network(init: Path) -> LoFTR:
    """Weights of the compact network or of this one; what they lack starts as the network is made."""
    known = checkpoint.choose(str(init), device="cpu", offline=True)
    model = LoFTR(replace(known.config, global_layers=known.config.global_layers or COMPACT_WIDE.global_layers))
    state = model.state_dict()
    loaded = {key: value.float() for key, value in checkpoint.read_tensors(known.path).items()}
    if unknown := set(loaded) - set(state):
        raise ValueError(f"{init}: weights of another network ({sorted(unknown)[0]})")
    model.load_state_dict(state | loaded)
    return model


def _compile_for(layers: nn.ModuleList, tokens: int) -> None:
    """Compiles layers for one number of tokens; others go through them as they are."""
    plain = type(layers[0]).forward
    fused = torch.compile(plain, dynamic=False)

    def forward(layer: nn.Module, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        chosen = fused if x.shape[1] == tokens and mask is None else plain
        out: Tensor = chosen(layer, x, source, mask)
        return out

    for layer in layers:
        layer.forward = partial(forward, layer)


class Run:
    """The state of a run: network, average, optimiser, clock."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        torch.manual_seed(args.seed)
        self.draws = Draws(torch.Generator(self.device).manual_seed(args.seed), self.device)
        self.model = read_network(args.init).to(self.device).train()
        self.model.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = [p.detach().clone() for p in self.model.parameters()]
        self.rates = batched.Rates(*(args.rate * r for r in (1.5e-3, 8e-4, 4e-4)))
        fused = self.device.type == "cuda"
        self.optimiser = torch.optim.AdamW(
            self.rates.groups(self.model),
            lr=1e-9,
            betas=(0.9, 0.99),
            fused=fused,  # type: ignore[arg-type]
        )
        if args.moments:
            self._restore(args.moments)
        self.step = 0
        self.terms: Any = (
            torch.compile(batched.coarse_terms, dynamic=True) if args.compile_loss else batched.coarse_terms
        )
        if args.compile_layers:
            height, width = args.size or (320, 416)
            _compile_for(self.model.loftr_coarse.layers, height * width // 64)
            if args.compile_layers > 1:
                _compile_for(self.model.global_context.blocks, height * width // 1024)

    def _restore(self, path: Path) -> None:
        moments = load_file(path)
        for name, parameter in self.model.named_parameters():
            first = moments[f"first.{name}"].float().to(self.device)
            second = moments[f"second.{name}"].float().to(self.device)
            self.optimiser.state[parameter] = {"step": torch.tensor(1000.0), "exp_avg": first, "exp_avg_sq": second}

    def train_on(self, batch: PairBatch, done: float) -> Tensor:
        """One step; returns coarse loss, fine loss, log confidence, gradient norm: (4,) on the device."""
        truth = batched.truth_of(batch)
        factor = self.rates.factor(done)
        for group in self.optimiser.param_groups:
            group["lr"] = group["rate"] * factor
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            coarse, fine, confidence = batched.losses(
                self.model, batch, truth, fine_matches=self.args.fine_matches, terms=self.terms
            )
        self.optimiser.zero_grad(set_to_none=True)
        (coarse + fine).backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not torch.isfinite(norm):
            print(f"step {self.step}: gradient not finite, left out", flush=True)
        else:
            self.optimiser.step()
        self.step += 1
        decay = min(self.args.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.model.parameters()], 1 - decay)
        return torch.stack([coarse.detach(), fine.detach(), confidence, norm.detach()])

    def save(self) -> None:
        """weights (average), model and moments, each file whole or not at all."""
        out: Path = self.args.out
        names = [name for name, _ in self.model.named_parameters()]
        header = {"config": json.dumps(asdict(self.model.config)), "step": str(self.step)}
        current = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        average = current | {n: v.cpu().contiguous() for n, v in zip(names, self.average, strict=True)}
        moments = {}
        for name, parameter in self.model.named_parameters():
            state = self.optimiser.state.get(parameter, {})
            if "exp_avg" in state:
                moments[f"first.{name}"] = state["exp_avg"].bfloat16().cpu().contiguous()
                moments[f"second.{name}"] = state["exp_avg_sq"].bfloat16().cpu().contiguous()
        for file, tensors in (("weights", average), ("model", current), ("moments", moments)):
            save_file(tensors, out / f"{file}.part", metadata=header)
            os.replace(out / f"{file}.part", out / f"{file}.safetensors")


@dataclass(frozen=True, slots=True)
class Round:
    """Pairs that are made at once. size: (H, W) px. batch: pairs of a step; steps: batches of the round; samples: of a
    pixel; mirrors: as in `rendered_pairs`."""

    size: tuple[int, int]
    batch: int
    steps: int
    samples: int
    mirrors: bool


def plan(done: float, args: argparse.Namespace, number: int) -> Round:
    """Small images first, the size of inference late. number: of the round."""
    samples = args.samples if number % 2 else 1
    if args.size:
        return Round((args.size[0], args.size[1]), args.batch, args.round, samples, number % 4 == 1)
    small = (320, 416) if number % 4 else (416, 320)
    large = (480, 640) if number % 3 else (640, 480)
    if (done > 0.78 and number % 2) or (0.3 < done <= 0.78 and number % 5 == 4):
        return Round(large, args.batch // 2, args.round, samples, number % 4 == 1)
    return Round(small, args.batch, args.round, samples, number % 4 == 1)


class _Log:
    """log.csv, and what is printed now and then."""

    def __init__(self, path: Path, begin: float, every: int) -> None:
        self._path, self._begin, self._every = path, begin, every
        self._since, self._pairs, self._making = time.monotonic(), 0, 0.0
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(["step", "seconds", "pairs", "coarse", "fine", "log_confidence", "gradient"])

    def add(self, number: int, step: int, pairs: int, values: list[Tensor], making: float) -> None:
        """One round: its number, steps and pairs so far, what its steps returned, and the seconds of making pairs."""
        if not values:
            return
        row, now = torch.stack(values).mean(dim=0).tolist(), time.monotonic()
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow([step, f"{now - self._begin:.1f}", pairs, *(f"{v:.4f}" for v in row)])
        self._making += making
        if number < 5 or number % self._every == 0:
            passed = now - self._since
            print(
                f"{step} {now - self._begin:.1f} s, {(pairs - self._pairs) / passed:.0f} pairs/s, "
                f"making {self._making / passed:.0%}: " + " ".join(f"{v:.3f}" for v in row),
                flush=True,
            )
            self._since, self._pairs, self._making = now, pairs, 0.0


def run(args: argparse.Namespace) -> None:
    """Trains until the time or the steps are over."""
    begin = time.monotonic() - args.used
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    args.out.mkdir(parents=True, exist_ok=True)
    state = Run(args)
    sources = read_sources(args.data, state.device, compiled=args.compile)
    ready = saved = time.monotonic()
    print(
        f"ready after {ready - begin:.1f} s; {sum(p.numel() for p in state.model.parameters())} parameters", flush=True
    )
    log, pairs, number, done = _Log(args.out / "log.csv", begin, args.log_every), 0, 0, 0.0
    while done < 1:
        start = time.monotonic()
        batches = _made(state, sources, plan(done, args, number), done)
        making = time.monotonic() - start
        values = []
        for batch in batches:
            length = args.seconds - (ready - begin)
            done = state.step / args.steps if args.steps else (time.monotonic() - ready) / length
            if done >= 1:
                break
            values.append(state.train_on(batch, done))
            pairs += len(batch.image0)
        log.add(number, state.step, pairs, values, making)
        number += 1
        if time.monotonic() - saved > args.save_every:
            state.save()
            saved = time.monotonic()
    state.save()
    peak = torch.cuda.max_memory_allocated() / 2**30 if state.device.type == "cuda" else 0.0
    print(f"done: {state.step} steps, {pairs} pairs, {time.monotonic() - begin:.1f} s, peak {peak:.1f} GiB", flush=True)


def _made(state: Run, sources: Sources, part: Round, done: float) -> list[PairBatch]:
    """The batches of a round."""
    args = state.args
    shares = Shares(*args.shares).times(part.steps * part.batch / args.batch)
    difficulty = Difficulty.at(args.easy + (1 - args.easy) * done)
    made = sources.batch(state.draws, shares, part.size, difficulty, samples=part.samples, mirrors=part.mirrors)
    batches = made.split(part.batch)
    if state.device.type == "cuda":
        torch.cuda.synchronize()
    return batches


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--moments", type=Path)
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--used", type=float, default=0, help="seconds that are over already")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, nargs=2)
    parser.add_argument("--shares", type=int, nargs=6, default=[18, 3, 1, 1, 8, 8])
    parser.add_argument("--batch", type=int, default=64, help="pairs of a step")
    parser.add_argument("--round", type=int, default=8, help="steps whose pairs are made at once")
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1.0)
    parser.add_argument("--easy", type=float, default=0.0, help="part of the curriculum that is over at the start")
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--fine-matches", type=int, default=48)
    parser.add_argument("--log-every", type=int, default=10)
    parser.add_argument("--save-every", type=float, default=110)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile-loss", action="store_true")
    parser.add_argument("--compile-layers", type=int, default=0)
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(parse())
