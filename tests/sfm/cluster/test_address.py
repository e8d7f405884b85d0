from __future__ import annotations

import socket

import pytest

from sfm.cluster import address
from sfm.cluster.address import address_of
from sfm.errors import BadOption
from sfm.options import Options
from sfm.pipeline.run import reconstruct


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(address, "find_spec", lambda name: name)


def test_a_run_knows_one_machine_unless_it_is_told(monkeypatch):
    assert address_of(None) is None
    assert address_of("local") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert address_of(None) == "auto"
    assert address_of("off") is None
    assert address_of("local") == "local"


def test_without_ray_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(address, "find_spec", lambda name: None)
    with pytest.raises(BadOption, match=r"--cluster local: needs Ray: pip install 'loftr-sfm\[ray\]'$"):
        address_of("local")
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with pytest.raises(BadOption, match=r"RAY_ADDRESS auto: needs Ray: .*, or give --cluster off"):
        address_of(None)


@pytest.mark.parametrize("wrong", ["head", "head:", ":6379", "head:port", "head:99999"])
def test_what_is_no_address_is_said(wrong):
    with pytest.raises(BadOption, match="is no address; give HOST:PORT"):
        address_of(wrong)


def test_a_ray_client_address_is_refused_with_the_way_to_go():
    with pytest.raises(BadOption, match="ray start, and give HOST:PORT"):
        address_of("ray://head:10001")


def test_an_address_that_does_not_answer_is_said_before_images_are_read(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "images").mkdir()
    with pytest.raises(BadOption, match=rf"--cluster 127.0.0.1:{port}: cannot be reached \(.*refused\)"):
        reconstruct(tmp_path / "images", tmp_path / "out", Options.of(cluster=f"127.0.0.1:{port}"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert address_of(f"localhost:{server.getsockname()[1]}") is not None
