"""The texts of `weights list | fetch | check`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sfm.errors import BadFile
from sfm.weights.registry import REGISTRY
from sfm.weights.verbs import check_text, fetch_text, list_text
from tests.support.web_server import PAYLOAD, WebServer


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(REGISTRY, "outdoor", replace(web.weights("/good"), name="outdoor"))


def test_list_names_all(tmp_path: Path) -> None:
    text = list_text()
    assert all(f"{name:<11}" in text for name in REGISTRY)
    assert "48.7 MB" in text
    assert text.endswith(f"cache: {tmp_path / 'weights'}")


def test_fetch_then_check(tmp_path: Path) -> None:
    assert "outdoor        not on this machine" in check_text()
    path = tmp_path / "weights" / "test.ckpt"
    assert fetch_text(["outdoor"]) == f"outdoor        {path}"
    assert check_text(["outdoor"]) == f"outdoor        ok, checksum right: {path}"
    assert "the official outdoor" in check_text([str(path)])
    path.write_bytes(PAYLOAD[::-1])
    assert "damaged (wrong SHA-256" in check_text(["outdoor"])
    assert "unknown checksum" in check_text([str(path)])


def test_unknown_names() -> None:
    with pytest.raises(BadFile, match="known are outdoor, indoor"):
        fetch_text(["nonsense"])
    with pytest.raises(BadFile, match="nonsense: cannot be read"):
        check_text(["nonsense"])
