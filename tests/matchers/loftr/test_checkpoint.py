"""From names and files to tensors: what is chosen, what is refused, and that no file runs code."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfm.errors import BadFile
from sfm.matchers.loftr import checkpoint as loading
from sfm.matchers.loftr.checkpoint import choose, load, load_matcher, load_state_dict, mismatch, read_tensors
from sfm.matchers.loftr.config import CONFIGS, LoFTRConfig
from sfm.matchers.loftr.model import LoFTR
from sfm.weights.registry import REGISTRY
from tests.support.web_server import PAYLOAD, WebServer

TINY = replace(CONFIGS["compact"], d_coarse=32, num_heads_coarse=2, coarse_layers=("self", "cross"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LOFTR_SFM_OFFLINE", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "weights"


@pytest.fixture
def compact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the embedded file, registered with its own size and checksum."""
    path = tmp_path / "loftr_compact.safetensors"
    save_file(dict(LoFTR(CONFIGS["compact"]).state_dict()), path, metadata=header(CONFIGS["compact"]))
    monkeypatch.setattr(type(REGISTRY["compact"]), "embedded", property(lambda w: None if w.urls else path))
    known = replace(REGISTRY["compact"], size=path.stat().st_size, sha256=loading.sha256_of(path))
    monkeypatch.setitem(REGISTRY, "compact", known)
    return path


def test_shipped_weights_are_the_registered_ones() -> None:
    entry = REGISTRY["compact"]
    assert entry.embedded is not None
    assert (entry.embedded.stat().st_size, loading.sha256_of(entry.embedded)) == (entry.size, entry.sha256)
    assert entry.embedded.stat().st_size <= 10_000_000


def header(config: LoFTRConfig) -> dict[str, str]:
    return {"config": json.dumps(asdict(config))}


def checkpoint(path: Path, state: dict[str, torch.Tensor]) -> Path:
    """As the authors save theirs."""
    torch.save({"state_dict": {f"matcher.{key}": value for key, value in state.items()}}, path)
    return path


def refusal(path: Path) -> str:
    """The one line in which a file is refused, which names the file."""
    with pytest.raises(BadFile) as error:
        load(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_own_file_brings_its_configuration(tmp_path: Path) -> None:
    model = LoFTR(TINY)
    path = tmp_path / "mine.safetensors"
    save_file(dict(model.state_dict()), path, metadata=header(TINY))
    choice = choose(str(path), device="cpu")
    assert choice.config == TINY
    config, tensors, sha256 = load_state_dict(choice)
    assert mismatch(model.state_dict(), tensors) is None
    assert all(torch.equal(tensors[key], value) for key, value in model.state_dict().items())
    matcher = load_matcher(choice, resize=320)
    assert matcher.name == "loftr-mine"
    assert matcher.provenance["weights_sha256"] == sha256
    assert matcher.provenance["resize"] == "320"
    assert config.d_coarse == 32


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("d_coarse", 10**9),
        ("backbone", "vgg"),
        ("block_dims", [1, 2]),
        ("temp_bug_fix", 1),
        ("evil", 1),
        ("d_fine", 33),
    ],
)
def test_bad_configuration_in_a_header(tmp_path: Path, field: str, value: object) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"config": json.dumps(asdict(TINY) | {field: value})})
    assert "no valid LoFTR configuration" in refusal(path)


@pytest.mark.parametrize(
    ("name", "bug_fix", "sinkhorn"),
    [
        ("outdoor_ds.ckpt", False, False),
        ("my_indoor_ds_new.ckpt", True, False),
        ("minima_loftr.ckpt", True, False),
        ("outdoor_ot.ckpt", False, True),
    ],
)
def test_full_network_of_unknown_checksum(tmp_path: Path, name: str, bug_fix: bool, sinkhorn: bool) -> None:
    state = {"backbone.layer3_outconv.weight": torch.zeros(256, 256, 1, 1)}
    state |= {"coarse_matching.bin_score": torch.tensor(1.0)} if sinkhorn else {}
    choice = choose(str(checkpoint(tmp_path / name, state)), device="cpu")
    assert choice.config.temp_bug_fix is bug_fix
    assert choice.config.match_type == ("sinkhorn" if sinkhorn else "dual_softmax")
    assert choice.config.d_coarse == 256
    assert "position encoding assumed" in choice.reason
    assert "unknown checksum" in choice.reason


def test_full_checkpoint_loads(tmp_path: Path) -> None:
    state = LoFTR(CONFIGS["outdoor"]).state_dict()
    path = checkpoint(tmp_path / "trained.ckpt", state)
    assert load(str(path)).provenance["backbone"] == "resnet_fpn"
    assert all(torch.equal(value, state[key]) for key, value in read_tensors(path).items())


def test_loading_is_strict(tmp_path: Path) -> None:
    state = dict(LoFTR(TINY).state_dict())
    path = tmp_path / "mine.safetensors"
    key = "loftr_coarse.layers.0.q_proj.weight"
    save_file({k: v for k, v in state.items() if k != key}, path, metadata=header(TINY))
    assert f"1 tensors missing, first {key}" in refusal(path)
    save_file(state | {"more": torch.zeros(1)}, path, metadata=header(TINY))
    assert "1 tensors too many, first more" in refusal(path)
    save_file(state | {key: torch.zeros(3)}, path, metadata=header(TINY))
    assert f"1 of wrong shape, first {key} (3,) instead of (32, 32)" in refusal(path)


def test_known_checksum_binds_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path / "renamed.ckpt", {"a": torch.zeros(1)})
    known = replace(REGISTRY["indoor_new"], sha256=loading.sha256_of(path))
    monkeypatch.setitem(REGISTRY, "indoor_new", known)
    choice = choose(str(path), device="cpu")
    assert choice.config.temp_bug_fix is True
    assert "official indoor_new" in choice.reason


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    for legacy in (False, True):
        path = tmp_path / "evil.ckpt"
        torch.save({"state_dict": {"a": Evil(trap)}}, path, _use_new_zipfile_serialization=not legacy)
        assert "could run code" in refusal(path)
        assert not trap.exists()


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "weights.ckpt"
    path.write_bytes(b"\n<!DOCTYPE html><html>")
    assert "a web page" in refusal(path)
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    path.write_bytes(os.urandom(5000))
    assert "checkpoint" in refusal(path)
    checkpoint(path, {"a": torch.zeros(5000)})
    path.write_bytes(path.read_bytes()[:9000])
    assert "truncated" in refusal(path)
    torch.save([1, 2], path)
    assert "no state dict" in refusal(path)
    torch.save({"epoch": 3}, path)
    assert "no state dict" in refusal(path)
    safe = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(100)}, safe)
    safe.write_bytes(safe.read_bytes()[:200])
    assert "truncated" in refusal(safe)
    assert "no such weights" in refusal(tmp_path / "absent.ckpt")


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.ckpt"
    with path.open("wb") as file:
        file.write(b"x")
        file.truncate((1 << 30) + 1)  # sparse
    with pytest.raises(BadFile, match="larger than any"):
        read_tensors(path)
    monkeypatch.setattr(loading, "MAX_BYTES", 1 << 20)
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes((1 << 20) + 1))
    assert bomb.stat().st_size < 1 << 12
    with pytest.raises(BadFile, match="would unpack to"):
        read_tensors(bomb)


def test_auto(web: WebServer, cache: Path, compact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "outdoor", replace(web.weights("/good"), name="outdoor"))
    choice = choose("auto", device="cpu")
    assert (choice.name, choice.path, choice.config) == ("compact", compact, CONFIGS["compact"])
    assert web.requests == []
    choice = choose("auto", device="cuda", offline=True)
    assert choice.name == "compact"
    assert "forbidden" in choice.reason
    choice = choose("auto", device="cuda:1")
    assert (choice.name, choice.config) == ("outdoor", CONFIGS["outdoor"])
    assert "downloaded" in choice.reason
    assert choice.path.read_bytes() == PAYLOAD
    assert "cache" in choose("auto", device="cuda", offline=True).reason


def test_named_weights_fail_where_auto_falls_back(
    web: WebServer, compact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(REGISTRY, "outdoor", web.weights("/missing"))
    choice = choose("auto", device="cuda")
    assert choice.name == "compact"
    assert "404" in choice.reason
    with pytest.raises(BadFile, match="404"):
        choose("outdoor", device="cuda")


def test_unchecked_weights_say_so(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, "indoor", web.weights("/good", checked=False))
    assert "recorded at this first load" in choose("indoor", device="cpu").reason


def test_compact_loads_by_name(compact: Path) -> None:
    matcher = load("compact")
    assert matcher.name == "loftr-compact"
    assert matcher.provenance["backbone"] == "compact"
