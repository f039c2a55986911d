"""What PyTorch alone needs."""

import keras
import numpy as np
import pytest

if keras.config.backend() != "torch":
    pytest.skip("PyTorch's compiler", allow_module_level=True)

import torch

from keras_adaad.backend import torch as backend


@torch._dynamo.config.patch(recompile_limit=2)
def test_compiled_gradient_is_one_graph_for_each_function():
    """More functions than PyTorch's limit, none in pieces."""
    counters = torch._dynamo.utils.counters
    counters.clear()
    x, weight = torch.rand(4, 3), torch.rand(3, 5)
    activations = [torch.relu, torch.tanh, torch.exp]
    for activation in activations:

        def function(x, activation=activation):
            logits = activation(x @ weight)
            return logits.square().sum(-1), logits

        plain = backend.value_and_input_gradient(function, x)
        with backend._compiling(True):
            compiled = backend.value_and_input_gradient(function, x)
        for ours, theirs in zip(compiled, plain, strict=True):
            np.testing.assert_allclose(
                ours.numpy(force=True), theirs.numpy(force=True), rtol=1e-5
            )
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == len(activations)
