"""Downloads against a local server that behaves and misbehaves."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from sfm.errors import BadFile
from sfm.weights.download import cache_folder, fault_of, fetch, find, is_offline, state_of
from tests.support.web_server import PAYLOAD, WebServer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path))
    monkeypatch.delenv("LOFTR_SFM_OFFLINE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "weights"


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {"test.ckpt.lock"}


def test_good_download_is_cached_and_not_fetched_twice(web: WebServer, cache: Path) -> None:
    path = fetch(web.weights("/good"))
    assert path == cache / "test.ckpt"
    assert path.read_bytes() == PAYLOAD
    assert files(cache) == {"test.ckpt"}
    assert fetch(web.weights("/good")) == path
    assert len(web.requests) == 1


def test_cut_connection_resumes_at_the_same_address(web: WebServer, cache: Path) -> None:
    assert fetch(web.weights("/cut")).read_bytes() == PAYLOAD
    assert web.requests == [("/cut", None), ("/cut", f"bytes={len(PAYLOAD) // 2}-")]


def test_an_earlier_part_is_resumed(web: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "test.ckpt.part").write_bytes(PAYLOAD[:1000])
    assert fetch(web.weights("/good")).read_bytes() == PAYLOAD
    assert web.requests == [("/good", "bytes=1000-")]


def test_a_damaged_part_costs_one_more_try(web: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "test.ckpt.part").write_bytes(b"x" * 1000)
    assert fetch(web.weights("/good")).read_bytes() == PAYLOAD
    assert web.requests == [("/good", "bytes=1000-"), ("/good", None)]


def test_a_complete_or_overlong_part(web: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "test.ckpt.part").write_bytes(PAYLOAD)
    assert fetch(web.weights("/good")).read_bytes() == PAYLOAD
    assert web.requests == []
    (cache / "test.ckpt").unlink()
    (cache / "test.ckpt.part").write_bytes(PAYLOAD + b"more")
    assert fetch(web.weights("/good")).read_bytes() == PAYLOAD


def test_server_without_ranges_starts_over(web: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "test.ckpt.part").write_bytes(b"x" * 1000)
    assert fetch(web.weights("/noranges")).read_bytes() == PAYLOAD
    assert web.requests == [("/noranges", "bytes=1000-")]


def test_wrong_checksum_is_removed_and_the_next_address_tried(web: WebServer, cache: Path) -> None:
    assert fetch(web.weights("/wrong", "/good")).read_bytes() == PAYLOAD
    assert [path for path, _ in web.requests] == ["/wrong", "/good"]
    (cache / "test.ckpt").unlink()
    with pytest.raises(BadFile, match="wrong SHA-256") as error:
        fetch(web.weights("/wrong"))
    assert files(cache) == set()
    assert "\n" not in str(error.value)
    assert str(cache / "test.ckpt") in str(error.value)  # where to put it by hand
    assert f"{web.base}/wrong" in str(error.value)


@pytest.mark.parametrize("bad", ["/missing", "/page", "/away"])
def test_next_address_after(web: WebServer, bad: str) -> None:
    assert fetch(web.weights(bad, "/good")).read_bytes() == PAYLOAD
    assert [path for path, _ in web.requests] == [bad, "/good"]


def test_slow_server_times_out(web: WebServer) -> None:
    assert fetch(web.weights("/slow", "/good"), timeout_s=1.0).read_bytes() == PAYLOAD
    assert [path for path, _ in web.requests] == ["/slow", "/good"]


def test_dead_server_and_foreign_scheme(web: WebServer) -> None:
    weights = replace(web.weights("/good"), urls=("http://127.0.0.1:9/x", "file:///etc/hostname"))
    with pytest.raises(BadFile, match="only http and https"):
        fetch(weights)


def test_without_a_checksum_a_web_page_is_still_refused(web: WebServer, cache: Path) -> None:
    assert fetch(web.weights("/page", "/good", checked=False)).read_bytes() == PAYLOAD
    assert "not checked" in state_of(web.weights("/good", checked=False))
    (cache / "test.ckpt").unlink()
    (cache / "test.ckpt.part").write_bytes(PAYLOAD[:1000])  # unknown origin: not trusted
    fetch(web.weights("/good", checked=False))
    assert web.requests[-1] == ("/good", None)


def test_offline(web: WebServer, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadFile, match=r"forbidden; put http.*/good at .*test\.ckpt manually"):
        fetch(web.weights("/good"), offline=True)
    monkeypatch.setenv("LOFTR_SFM_OFFLINE", "1")
    with pytest.raises(BadFile, match="forbidden"):
        fetch(web.weights("/good"))
    assert web.requests == []
    cache.mkdir()
    (cache / "other_name.ckpt").write_bytes(PAYLOAD)  # by hand, under the authors' name
    assert fetch(web.weights("/good")) == cache / "other_name.ckpt"
    monkeypatch.setenv("LOFTR_SFM_OFFLINE", "0")
    assert not is_offline()


def test_damaged_cache_is_replaced(web: WebServer, cache: Path) -> None:
    cache.mkdir()
    (cache / "test.ckpt").write_bytes(PAYLOAD[:-1])
    weights = web.weights("/good")
    assert find(weights) is None
    assert state_of(weights).startswith(f"damaged ({len(PAYLOAD) - 1} bytes instead of {len(PAYLOAD)})")
    assert fault_of(fetch(weights), weights) is None


def test_unwritable_cache(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOFTR_SFM_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadFile, match="LOFTR_SFM_CACHE"):
        fetch(web.weights("/good"))
    assert cache_folder() == tmp_path / "file" / "weights"


def test_two_processes_at_once_share_one_download(web: WebServer, cache: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fetch, args=(web.weights("/lazy"),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (cache / "test.ckpt").read_bytes() == PAYLOAD
    assert len(web.requests) == 1
