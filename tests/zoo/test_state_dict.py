"""The nests and prefixes of the field, and DeepMind's trees."""

import numpy as np
import pytest

from keras_adaad.zoo.state_dict import state_dict

pytestmark = pytest.mark.once

WEIGHTS = {
    "conv1.weight": np.ones((4, 3, 3, 3), "float32"),
    "bn1.weight": np.ones(4, "float32"),
    "bn1.num_batches_tracked": np.array(7),
    "fc.weight": np.ones((10, 4), "float32"),
    "fc.bias": np.zeros(10, "float32"),
}
OTHERS = {name: np.asarray(array + 1) for name, array in WEIGHTS.items()}
OPTIMIZER = {
    "state": {0: {"momentum_buffer": np.ones((4, 3, 3, 3)), "step": 3}},
    "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}],
}


def prefixed(prefix, arrays=WEIGHTS):
    return {prefix + name: array for name, array in arrays.items()}


def assert_is(arrays, expected):
    assert set(arrays) == set(expected)
    assert all(arrays[name] is expected[name] for name in expected)


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 76, "optimizer": OPTIMIZER},
        {
            "net": WEIGHTS,
            "epoch": np.array(200),
            "clean_acc": np.float64(85.8),
            "rng": np.zeros(5056, "uint8"),
        },
        {"model": {"state_dict": WEIGHTS}, "args": object()},
        {"last": WEIGHTS, "best": OTHERS},
        {
            "model_state_dict": WEIGHTS,
            "unaveraged_model_state_dict": OTHERS,
            "optimizer_state_dict": OPTIMIZER,
            "history": {"loss": np.ones(5), "lr": [0.1, 0.2]},
        },
        {**WEIGHTS, "epoch": 3, "name": "TRADES"},
    ],
    ids=["bare", "state_dict", "net", "model", "last", "averaged", "mixed"],
)
def test_the_nests_of_the_field(content):
    assert_is(state_dict(content), WEIGHTS)


@pytest.mark.parametrize(
    "prefix",
    [
        *("module.", "model.", "_orig_mod.", "0."),
        *("module.0.", "module.module.", "model.module.", "module._orig_mod."),
    ],
)
def test_prefixes_of_wrappers_are_stripped(prefix):
    assert_is(state_dict(prefixed(prefix)), WEIGHTS)


def test_a_prefix_that_not_all_share_is_part_of_the_name():
    arrays = {**prefixed("module."), "module_norm.weight": np.ones(3)}
    assert_is(state_dict(arrays), arrays)
    # A substring is not a prefix.
    arrays = prefixed("submodule.")
    assert_is(state_dict(arrays), arrays)


def test_an_averaged_models_counter_is_dropped():
    arrays = {"n_averaged": np.array(9), **prefixed("module.module.")}
    assert_is(state_dict(arrays), WEIGHTS)


@pytest.mark.parametrize(
    "normalization, network",
    [
        ("0.", "1."),
        ("module.0.", "module.1."),
        ("normalize.", "model."),
        ("", "model."),
    ],
)
def test_buffers_of_a_normalisation_beside_the_network(normalization, network):
    buffers = {"mean": np.ones((3, 1, 1)), "std": np.ones((3, 1, 1))}
    arrays = {**prefixed(normalization, buffers), **prefixed(network)}
    assert_is(state_dict(arrays), {**WEIGHTS, **buffers})


@pytest.mark.parametrize("prefix", ["1.", "module.1.", "model.1."])
def test_a_network_after_a_member_without_buffers(prefix):
    """Which may be a normalisation, whose constants are not in the file."""
    with pytest.raises(ValueError, match="`mean` and `std`, or `mean=None`"):
        state_dict(prefixed(prefix))
    assert_is(state_dict(prefixed(prefix), first_is_known=True), WEIGHTS)


def test_means_that_every_layer_has_are_weights():
    arrays = {**prefixed("0."), "0.bn1.mean": np.ones(4)}
    arrays = {**arrays, "0.bn2.mean": np.ones(4)}
    expected = {name.removeprefix("0."): a for name, a in arrays.items()}
    assert_is(state_dict(arrays), expected)


def test_a_key_chooses():
    content = {"last": WEIGHTS, "best": OTHERS}
    assert_is(state_dict(content, key="best"), OTHERS)
    content = {"teacher": prefixed("module."), "student": OTHERS}
    assert_is(state_dict(content, key="teacher"), WEIGHTS)


def test_several_sets_of_weights_are_listed():
    content = {"net": WEIGHTS, "ema": OTHERS, "optimizer": OPTIMIZER}
    with pytest.raises(ValueError, match="`key`: 'net', 'ema'$"):
        state_dict(content)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"epoch": 3, "loss": 0.1}, "'epoch' .int., 'loss' .float."),
        ({}, "keys "),
        (np.ones((3, 2)), r"array of shape \(3, 2\)"),
        (object(), "object"),
        ([WEIGHTS, OTHERS], "several networks.* list of 2"),
    ],
)
def test_no_weights(content, message):
    with pytest.raises(ValueError, match=message):
        state_dict(content)


def test_a_key_that_is_not_there():
    with pytest.raises(ValueError, match="key='best'.*'net'"):
        state_dict({"net": WEIGHTS}, key="best")


def haiku_trees(depth=10, width=2, num_classes=5):
    """The trees that `jax/model_zoo.py` of deepmind-research makes."""
    draws = np.random.default_rng(0)
    parameters, states = {}, {}

    def kernel(path, *shape):
        parameters[path] = {"w": draws.standard_normal(shape)}

    def batchnorm(path, channels):
        shape = (1, 1, 1, channels)
        parameters[path] = {
            "scale": draws.standard_normal(shape),
            "offset": draws.standard_normal(shape),
        }
        for statistic in ("mean_ema", "var_ema"):
            states[f"{path}/~/{statistic}"] = {
                "counter": np.array(5),
                "hidden": draws.standard_normal(shape),
                "average": draws.standard_normal(shape),
            }

    kernel("wide_res_net/~/init_conv", 3, 3, 3, 16)
    before = 16
    for layer, channels in enumerate([16 * width, 32 * width, 64 * width]):
        for block in range((depth - 4) // 6):
            path = f"wide_res_net/~/resnet_lay_{layer}_block_{block}/~"
            batchnorm(f"{path}/batchnorm_0", before)
            kernel(f"{path}/conv_0", 3, 3, before, channels)
            batchnorm(f"{path}/batchnorm_1", channels)
            kernel(f"{path}/conv_1", 3, 3, channels, channels)
            if block == 0:
                kernel(f"{path}/shortcut", 1, 1, before, channels)
            before = channels
    batchnorm("wide_res_net/~/batchnorm", before)
    kernel("wide_res_net/~/logits", before, num_classes)
    parameters["wide_res_net/~/logits"]["b"] = np.zeros(num_classes)
    return parameters, states


def test_haiku_trees_get_the_names_of_pytorch():
    arrays = state_dict(haiku_trees(depth=16))
    batchnorm = ("weight", "bias", "running_mean", "running_var")
    expected = {"init_conv.weight", "logits.weight", "logits.bias"}
    expected |= {f"batchnorm.{name}" for name in batchnorm}
    for layer in range(3):
        expected.add(f"layer.{layer}.block.0.shortcut.weight")
        for block in range(2):
            for i in range(2):
                path = f"layer.{layer}.block.{block}"
                expected.add(f"{path}.conv_{i}.weight")
                expected |= {f"{path}.batchnorm_{i}.{n}" for n in batchnorm}
    assert set(arrays) == expected


def test_haiku_arrays_get_the_layout_of_pytorch_without_a_copy():
    parameters, states = haiku_trees()
    arrays = state_dict((parameters, states))
    block = "wide_res_net/~/resnet_lay_1_block_0/~"
    kernel = parameters[f"{block}/conv_0"]["w"]
    weight = arrays["layer.1.block.0.conv_0.weight"]
    assert weight.shape == (64, 32, 3, 3)
    assert weight[40, 30, 0, 2] == kernel[0, 2, 30, 40]
    assert np.shares_memory(weight, kernel)
    dense = parameters["wide_res_net/~/logits"]["w"]
    assert arrays["logits.weight"].shape == (5, 128)
    assert arrays["logits.weight"][4, 100] == dense[100, 4]
    for name, of in {"weight": "scale", "bias": "offset"}.items():
        np.testing.assert_array_equal(
            arrays[f"layer.1.block.0.batchnorm_1.{name}"],
            parameters[f"{block}/batchnorm_1"][of][0, 0, 0],
        )
    for name, of in {"mean": "mean_ema", "var": "var_ema"}.items():
        np.testing.assert_array_equal(
            arrays[f"layer.1.block.0.batchnorm_1.running_{name}"],
            states[f"{block}/batchnorm_1/~/{of}"]["average"][0, 0, 0],
        )
