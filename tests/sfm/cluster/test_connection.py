from __future__ import annotations

from sfm.cluster.connection import has_gpus, places_of


def node(name, *, alive=True, **resources):
    return {"NodeID": name, "Alive": alive, "NodeManagerHostname": f"host {name}", "Resources": resources}


def test_a_core_is_a_place_as_memory_allows():
    nodes = [node("a", CPU=3.0, memory=64e9), node("b", CPU=8.0, memory=2.5e9), node("c", alive=False, CPU=4.0)]
    places = places_of([*nodes, node("d", memory=64e9), node("e", CPU=2.0)], on_gpus=False)
    assert [(place.node, place.rank) for place in places] == [
        *(("a", rank) for rank in range(3)),
        *(("b", rank) for rank in range(2)),
        *(("e", rank) for rank in range(2)),
    ]
    assert {(place.num_cpus, place.num_gpus) for place in places} == {(1, 0)}
    assert [place.num_beside for place in places] == [3, 3, 3, 2, 2, 2, 2]
    assert places[0].host == "host a"


def test_a_gpu_is_a_place_with_its_share_of_the_cores():
    nodes = [node("a", CPU=9.0, GPU=2.0), node("b", CPU=64.0), node("c", CPU=0.0, GPU=1.0)]
    assert has_gpus(nodes)
    assert not has_gpus(nodes[1:2])
    assert [(p.node, p.num_cpus, p.num_gpus) for p in places_of(nodes, on_gpus=True)] == [
        ("a", 4, 1),
        ("a", 4, 1),
        ("c", 0, 1),
    ]
