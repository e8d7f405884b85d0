"""What `loftr-sfm --help` begins with: how to start, and which verbs there are."""

from __future__ import annotations

from collections.abc import Mapping

from sfm.cli.parsing import PROGRAM, Verb

START = f"""\
A folder of images in, a sparse 3D model out: Structure-from-Motion by detector-free matching (LoFTR), which also works
on plaster, painted walls and wide baselines, where SIFT finds few keypoints.

start here:
  {PROGRAM} demo out/              a shipped scene, in about a minute
  {PROGRAM} images/ out/           your images; then open out/report.html in a browser
  {PROGRAM} view out/              the model in a window
In out/: sparse/0 (COLMAP model), points.ply (coloured points), report.html, run.json (all figures), features.h5,
database.db. Every option below has a default that suits most image sets."""


def verbs_text(verbs: Mapping[str, Verb]) -> str:
    """A line per verb: how it is called, what it does."""
    calls = {name: f"{PROGRAM} {name} {verb.usage}" for name, verb in verbs.items()}
    width = 44
    lines = []
    for name, verb in verbs.items():
        call = f"  {calls[name]}"
        lines += [f"{call:<{width}}  {verb.help}"] if len(call) <= width else [call, f"{'':<{width}}  {verb.help}"]
    last = "A folder that has a verb's name is written ./demo."
    return "\n".join(["verbs, each with its own --help:", *lines, last])


def description(verbs: Mapping[str, Verb]) -> str:
    """How to start, and the verbs."""
    return f"{START}\n\n{verbs_text(verbs)}"
