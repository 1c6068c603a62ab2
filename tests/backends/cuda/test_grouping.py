"""How the `cuda` backend shares out streams and blocks: blocks alone, clusters."""

import numpy as np
import pytest
import torch
from cases import make_model, random_levels
from engines import MODELS
from fake_gpu import MULTIPROCESSORS, SHARED_BYTES
from played_gpu import Played, engines
from small import assert_one_line

from samplernn_fast.backends.cuda import grouping
from samplernn_fast.backends.cuda.grouping import Grouping
from samplernn_fast.errors import BackendUnavailable
from samplernn_fast.models.config import SampleRNNConfig
from samplernn_fast.reference.weights import pack

pytest.importorskip("samplernn_fast._C", reason="the native part is not built: no C++ compiler")


def test_small_models_take_one_block_for_some_streams(gpu):
    gpu.set_device(SHARED_BYTES, 227 << 10)
    engine, exact = engines()
    made = [sampler.run(sampler.init_state(5, seed=7, top_k=30), 40) for sampler in (engine, exact)]
    assert np.array_equal(*made)
    group = engine.backend.launcher.program(5).group  # on 4 multiprocessors
    assert group == Grouping(2, 3, 1, "alone", teams=1) and (group.streams, group.launched) == (6, 3)
    assert not group.cooperative
    assert engine.backend.group_streams(5) == 2
    levels = random_levels(engine.config, 5, engine.config.lookback * 3)
    torch.testing.assert_close(engine.score(levels), exact.score(levels).astype(np.float32), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("dim", "dtype", "streams", "expected"),
    [
        (1024, "int8", 1, Grouping(1, 1, 128, "tagged", 2)),
        (1024, "float32", 64, Grouping(64, 1, 128, "tagged", 1)),
        (64, "float32", 1, Grouping(1, 1, 64, "tagged", 2)),
        (64, "int8", 1, Grouping(1, 1, 1, "alone", 1)),
        (64, "int8", 132, Grouping(1, 132, 1, "alone", 1)),
        (64, "int8", 133, Grouping(2, 67, 1, "alone", 1)),
        (64, "int8", 264, Grouping(2, 132, 1, "alone", 1)),
    ],
)
def test_how_streams_are_shared_out(dim, dtype, streams, expected):
    config = SampleRNNConfig(dim=dim)
    assert grouping.grouping(config, dtype, streams, 132, 227 << 10, "auto") == expected


@pytest.mark.parametrize("exchange", ["tagged", "launches"])
def test_an_exchange_by_name_is_that_exchange(exchange):
    """Also of a model that fits into one block: else tests on small models would exchange nothing."""
    found = grouping.grouping(SampleRNNConfig(dim=64), "int8", 3, 132, 227 << 10, exchange)
    assert found == Grouping(3, 1, 64, exchange, teams=2 if exchange == "tagged" else 1)


@pytest.mark.parametrize(
    ("dim", "dtype", "streams", "expected"),
    [
        (256, "int8", 1, [(1, 1, 16), (1, 1, 8), (1, 1, 4)]),
        (256, "bfloat16", 12, [(1, 12, 8), (2, 6, 16)]),
        (256, "bfloat16", 100, [(7, 15, 8)]),
        (256, "int8", 300, []),  # too many streams for one cluster
        (512, "int8", 1, [(1, 1, 16)]),
        (1024, "int8", 1, []),
        (130, "int8", 1, [(1, 1, 8), (1, 1, 4)]),  # 16 would leave one idle
    ],
)
def test_how_streams_are_shared_out_to_clusters(dim, dtype, streams, expected):
    found = grouping.cluster_groupings(SampleRNNConfig(dim=dim), dtype, streams, 132, 227 << 10)
    assert [(group.batch, group.groups, group.blocks) for group in found] == expected
    assert all(group.exchange == "cluster" for group in found)


@pytest.mark.parametrize(("most", "groups"), [(1000, 2), (1, 1)])
def test_models_that_fit_into_a_cluster_take_one_for_some_streams(cluster_gpu, most, groups):
    """As many clusters as the GPU holds: one where its multiprocessors do not lie side by side."""
    cluster_gpu.set_clusters(4, most)
    engine, exact = engines()
    cluster_gpu.reset_calls()
    made = [sampler.run(sampler.init_state(2, seed=7, top_k=30), 40) for sampler in (engine, exact)]
    assert np.array_equal(*made) and "clusters:4" in cluster_gpu.calls
    group = engine.backend.launcher.program(2).group
    assert (group.exchange, group.streams, group.groups, group.blocks) == ("cluster", 2, groups, 4)
    assert not group.cooperative


def test_the_fewest_streams_of_a_cluster_come_before_its_size(cluster_gpu):
    """Where clusters of 8 blocks do not lie side by side as often as there are multiprocessors for them."""
    cluster_gpu.set_device(MULTIPROCESSORS, 24)
    cluster_gpu.set_clusters(8, side_by_side=12)
    backend = Played(pack(make_model(MODELS["paper-3tier"])), "cpu", "float32", exchange="cluster")
    assert backend.launcher.program(2).group.blocks == 8
    group = backend.launcher.program(3).group
    assert (group.exchange, group.streams, group.groups, group.blocks) == ("cluster", 3, 3, 4)


def test_no_cluster_has_more_streams_than_it_has_room_for():
    groups = [grouping.cluster_grouping(64, 16, clusters, 227 << 10) for clusters in (7, 8)]
    assert [group.batch for group in groups] == [10, 8]
    assert grouping.in_order_of_clusters(groups) == groups[1:]


@pytest.mark.parametrize(("dim", "streams", "tries"), [(256, 1, True), (512, 1, False), (512, 2, True)])
def test_one_stream_of_a_larger_model_takes_the_whole_gpu(dim, streams, tries):
    assert grouping.tries_clusters(SampleRNNConfig(dim=dim), streams) == tries


def test_what_is_not_tried_can_be_asked_for(cluster_gpu, monkeypatch):
    monkeypatch.setattr(grouping, "_UNITS_ALONE", 0)
    weights = pack(make_model(MODELS["paper-3tier"]))
    found = [Played(weights, "cpu", "float32", exchange=exchange) for exchange in ("auto", "cluster")]
    groups = [backend.launcher.program(1).group for backend in found]
    assert [(group.exchange, group.blocks) for group in groups] == [("tagged", 8), ("cluster", 8)]


def test_clusters_are_forbidden_by_name(cluster_gpu):
    backend = Played(pack(make_model(MODELS["paper-3tier"])), "cpu", "float32", exchange="tagged")
    group = backend.launcher.program(1).group
    assert group.exchange == "tagged" and group.cooperative
    assert not any(call.startswith("clusters") for call in cluster_gpu.calls)


def test_where_no_cluster_fits_it_goes_on_without_unless_one_is_asked_for(cluster_gpu):
    cluster_gpu.set_clusters(2)
    engine, _ = engines()
    assert engine.backend.launcher.program(1).group.exchange == "tagged"
    with pytest.raises(BackendUnavailable, match="1 streams of this model in float32 do not fit into") as raised:
        Played(pack(make_model(MODELS["paper-3tier"])), "cpu", "float32", exchange="cluster")
    assert_one_line(raised)
