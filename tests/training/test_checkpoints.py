import errno
import json
import os
import pickle
from copy import deepcopy

import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file as arrays_of
from safetensors.torch import load_file, save_file
from torch import nn

from clipdemo.errors import TrainingError, WorkspaceError
from clipdemo.training.checkpoints import Standing, load_checkpoint, save_checkpoint


def network(width=6, layers=2, seed=0):
    """Matrices, vectors, a number, a buffer that counts, one that is minus infinity, and a part that is fixed."""
    torch.manual_seed(seed)
    net = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    net.scale = nn.Parameter(torch.tensor(1.5))
    net.register_buffer("seen", torch.tensor(0))
    net.register_buffer("mask", torch.full((2, 2), -torch.inf), persistent=False)
    net[0].bias.requires_grad_(False)
    return net


def optimizer_of(net):
    return torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=0.01, fused=True)


def step(net, optimizer, seed):
    x = torch.randn(5, net[0].in_features, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    (net.scale * net(x).pow(2).sum()).backward()
    optimizer.step()
    net.seen += len(x)


def trained(steps=3):
    net = network()
    optimizer = optimizer_of(net)
    for seed in range(steps):
        step(net, optimizer, seed)
    return net, optimizer


def averages_of(net):
    return {name: p.detach() / 3 for name, p in net.named_parameters() if p.requires_grad}


@pytest.fixture
def saved(tmp_path):
    net, optimizer = trained()
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, Standing(step=3, best_top1=0.1 + 0.2), net, optimizer, averages_of(net))
    return path


def everything(net, optimizer):
    state = {f"net {name}": value.clone() for name, value in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        state |= {f"{moment} {name}": value.clone() for moment, value in optimizer.state.get(parameter, {}).items()}
    return state


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype for name in a)


def test_what_goes_on_from_the_file_goes_on_bit_for_bit(saved):
    unbroken, its_optimizer = trained()
    net = network(seed=9)
    optimizer = optimizer_of(net)
    averages = {name: torch.zeros_like(value) for name, value in averages_of(net).items()}
    standing = load_checkpoint(saved, net, optimizer, averages)
    assert standing == Standing(step=3, best_top1=0.1 + 0.2)
    assert equal(averages, averages_of(unbroken))
    for seed in range(3, 6):
        step(unbroken, its_optimizer, seed)
        step(net, optimizer, seed)
    assert equal(everything(net, optimizer), everything(unbroken, its_optimizer))


def test_saving_changes_nothing(tmp_path):
    net, optimizer = trained()
    before = everything(net, optimizer)
    save_checkpoint(tmp_path / "file", Standing(), net, optimizer)
    assert equal(everything(net, optimizer), before)


def test_loading_keeps_no_memory_of_the_file(saved):
    net = network()
    optimizer = optimizer_of(net)
    averages = averages_of(net)
    load_checkpoint(saved, net, optimizer, averages)
    loaded = everything(net, optimizer) | averages
    size = saved.stat().st_size
    with saved.open("r+b") as file:  # in place: a mapping would see it
        file.write(bytes(size))
    assert equal(everything(net, optimizer) | averages, loaded)


def test_tensors_that_share_memory_are_saved_each_on_its_own(tmp_path):
    net = network()
    net[1].weight = net[0].weight
    net.part = nn.Parameter(net[0].weight.detach()[:3])
    optimizer = optimizer_of(net)
    save_checkpoint(tmp_path / "file", Standing(step=1), net, optimizer)
    again = deepcopy(net)
    with torch.no_grad():
        again[0].weight.zero_()
    load_checkpoint(tmp_path / "file", again, optimizer_of(again))
    assert equal(dict(again.state_dict()), dict(net.state_dict()))


def test_the_file_is_read_by_safetensors_alone_and_nothing_is_unpickled(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for owner, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(owner, name, refuse)
    net = network()
    load_checkpoint(saved, net, optimizer_of(net), averages_of(net))
    with safe_open(saved, "np") as file:
        assert json.loads(file.metadata()["standing"])["step"] == 3
    arrays = arrays_of(saved)
    kinds = {name.split(".", 1)[0] for name in arrays}
    assert kinds == {"weight", "buffer", "exp_avg", "exp_avg_sq", "step", "average"}
    assert arrays["step.scale"] == 3


@pytest.mark.parametrize("left", [0, 1, 8, 9, 200, "half", "all but one"])
def test_a_truncated_file_is_named_with_the_way_out(saved, left):
    size = saved.stat().st_size
    os.truncate(saved, {"half": size // 2, "all but one": size - 1}.get(left, left))
    refused(saved, network())


@pytest.mark.parametrize("content", [b"PK\x03\x04", b"\x80\x04\x95", b"\xff" * 64, b"{}" * 50])
def test_a_file_of_another_kind_is_named(saved, content):
    saved.write_bytes(content)
    refused(saved, network())


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"standing": "{"}, {"standing": "[]"}, {"standing": "3"}, {"standing": '{"steps": 3}'}],
)
def test_a_file_that_does_not_say_where_the_run_stood_is_named(saved, metadata):
    save_file(load_file(saved), saved, metadata)
    refused(saved, network())


@pytest.mark.parametrize("change", [{"width": 5}, {"width": 1}, {"layers": 1}, {"layers": 3}])
def test_the_file_of_another_network_is_named(saved, change):
    """Not only where a tensor is missing: a deeper network's file has all of them, and more."""
    refused(saved, network(**change))


def test_a_tensor_of_another_shape_is_not_spread_out(tmp_path):
    """copy_ would fill a vector of six with one number."""
    small = network(width=1)
    save_checkpoint(tmp_path / "checkpoint.safetensors", Standing(), small, optimizer_of(small))
    refused(tmp_path / "checkpoint.safetensors", network(), averages={})


def test_a_file_without_the_running_means_that_are_asked_for_is_named(tmp_path):
    net, optimizer = trained()
    save_checkpoint(tmp_path / "checkpoint.safetensors", Standing(), net, optimizer)
    refused(tmp_path / "checkpoint.safetensors", network())


def test_a_file_that_is_a_folder_is_named(tmp_path):
    (tmp_path / "checkpoint.safetensors").mkdir()
    refused(tmp_path / "checkpoint.safetensors", network())


def refused(path, net, averages=None):
    with pytest.raises(TrainingError, match="cannot be gone on from .*: delete it, and the run starts over") as raised:
        load_checkpoint(path, net, optimizer_of(net), averages_of(net) if averages is None else averages)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_older_file_whole_and_nothing_beside_it(saved, monkeypatch, number):
    def full(descriptor):
        raise OSError(number, os.strerror(number))

    before, (net, optimizer) = saved.read_bytes(), trained(5)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match="no space left on the disk that holds .*checkpoint.safetensors"):
        save_checkpoint(saved, Standing(step=5), net, optimizer)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_an_interrupted_write_leaves_the_older_file_whole_and_nothing_beside_it(saved, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    before, (net, optimizer) = saved.read_bytes(), trained(5)
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(saved, Standing(step=5), net, optimizer)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
