"""Layers and calls are watched without a trace, and only in the thread that asks."""

import threading

import pytest
import torch
from torch import nn

from robustfit._utils.watched_calls import WatchedCalls
from robustfit._utils.watched_layers import watched_layers


def in_another_thread(task):
    thread = threading.Thread(target=task)
    thread.start()
    thread.join()


def test_a_layer_tells_what_it_reads_and_returns():
    net, x = nn.Sequential(nn.Linear(3, 2), nn.ReLU()), torch.rand(4, 3)
    seen = []
    with watched_layers([net[1]], lambda *run: seen.append(run)):
        output = net(x)
        in_another_thread(lambda: net(x))
    net(x)
    assert len(seen) == 1
    layer, given, returned = seen[0]
    assert layer is net[1]
    assert returned is output
    torch.testing.assert_close(given, net[0](x))


def test_hooks_go_with_an_error_too():
    net = nn.Linear(3, 2)
    with pytest.raises(RuntimeError), watched_layers([net], print):
        net(torch.rand(4, 5))
    assert not net._forward_hooks


def test_a_call_tells_its_arguments_and_what_it_returned():
    x, seen = torch.rand(4, 3), []
    with WatchedCalls((torch.Tensor.softmax,), lambda *call: seen.append(call)):
        output = x.softmax(1)
        x.relu()
        in_another_thread(lambda: x.softmax(1))
    x.softmax(1)
    assert len(seen) == 1
    assert seen[0][0][0] is x
    assert seen[0][2] is output
