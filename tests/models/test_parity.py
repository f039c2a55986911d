"""The networks compute what the published PyTorch networks compute."""

import keras
import numpy as np
import pytest
import torch

from keras_adaad import models
from keras_adaad.zoo.conversion import load_state_dict
from tests.oracles import networks as published
from tests.parameters import once_except

CASES = {
    "resnet18": (
        models.ResNet18,
        lambda classes: published.resnet([2, 2, 2, 2], classes),
    ),
    "resnet34": (
        models.ResNet34,
        lambda classes: published.resnet([3, 4, 6, 3], classes),
    ),
    "resnet56": (models.ResNet56, published.CifarResNet),
    "preact, raw shortcut": (
        lambda **a: models.PreActResNet18(
            bn_before_fc=False, out_shortcut=False, **a
        ),
        lambda classes: published.preact_resnet("PreActBlock", classes),
    ),
    "preact, activated shortcut": (
        models.PreActResNet18,
        lambda classes: published.preact_resnet(
            "PreActBlock", classes, bn_before_fc=True, out_shortcut=True
        ),
    ),
    "preact, V2": (
        models.PreActResNet18,
        lambda classes: published.preact_resnet(
            "PreActBlockV2", classes, bn_before_fc=True
        ),
    ),
    "mobilenet_v2": (models.MobileNetV2, published.MobileNetV2),
    "wide resnet": (
        lambda **a: models.WideResNet(16, 2, **a),
        lambda classes: published.wide_resnet(16, 2, classes),
    ),
    "wide resnet, width 1": (
        lambda **a: models.WideResNet(10, 1, **a),
        lambda classes: published.wide_resnet(10, 1, classes, sub_block1=True),
    ),
    "dm wide resnet": (
        lambda **a: models.DMWideResNet(16, 2, **a),
        lambda classes: published.dm_wide_resnet(16, 2, classes),
    ),
    "dm wide resnet, relu": (
        lambda **a: models.DMWideResNet(10, 2, activation="relu", **a),
        lambda classes: published.dm_wide_resnet(
            10, 2, classes, activation_fn=torch.nn.ReLU
        ),
    ),
    "dm preact": (models.DMPreActResNet18, published.dm_preact_resnet),
}
PARAMETERS = {
    "resnet18": (11_173_962, 11_220_132),
    "resnet34": (21_282_122, 21_328_292),
    "resnet56": (855_770, 861_620),
    "preact, raw shortcut": (11_171_146, 11_217_316),
    "preact, V2": (11_172_170, 11_218_340),
    "dm preact": (12_548_426, 12_594_596),
    "mobilenet_v2": (2_296_922, 2_412_212),
}
WIDE = {
    (16, 4): 2_748_890,
    (28, 10): 36_479_194,
}
# The others have the layers of these, more often.
LAYERS = once_except(CASES, *(name for name in CASES if name != "resnet34"))
# A channels-first convolution needs a GPU under TensorFlow.
FORMATS = ["channels_last"] + ["channels_first"] * (
    keras.config.backend() != "tensorflow"
)


def logits(net, images):
    with torch.no_grad():
        return net(torch.tensor(images)).numpy()


def images(size=32, count=4):
    generator = np.random.default_rng(0)
    return generator.uniform(0, 1, (count, 3, size, size)).astype("float32")


def keras_logits(model, x, data_format):
    if data_format == "channels_last":
        x = np.moveaxis(x, 1, -1)
    return model.predict_on_batch(x)


def difference(found, expected):
    """Returns the gate: 1 where 1e-4 or 1e-5 of the largest is reached."""
    apart = np.abs(found - expected).max()
    return max(apart / 1e-4, apart / (1e-5 * np.abs(expected).max()))


def converted(build, net, **arguments):
    model = build(**arguments)
    state = {k: v.numpy() for k, v in net.state_dict().items()}
    load_state_dict(model, state)
    return model


@pytest.mark.parametrize("data_format", FORMATS)
@pytest.mark.parametrize("case", LAYERS)
def test_logits_are_the_published_ones(case, data_format):
    build, published_net = CASES[case]
    net = published.randomized(published_net(100))
    model = converted(build, net, num_classes=100, data_format=data_format)
    x = images()
    expected = logits(net, x)
    assert expected.std() > 0.1
    assert difference(keras_logits(model, x, data_format), expected) < 1


# DeepMind's code pads by hand, for even sizes only.
@pytest.mark.parametrize(
    "case, size",
    [
        ("resnet18", 33),
        ("mobilenet_v2", 33),
        ("mobilenet_v2", 64),
        ("preact, V2", 64),
        ("dm preact", 64),
    ],
)
def test_other_sizes(case, size):
    """Where the published net pools whole maps: at 64, and at odd sizes."""
    build, published_net = CASES[case]
    net = published.randomized(published_net(10))
    model = converted(build, net, input_shape=(size, size, 3))
    x = images(size, 2)
    expected = adaptive(net, x)
    found = keras_logits(model, x, "channels_last")
    assert difference(found, expected) < 1


@pytest.mark.parametrize("data_format", FORMATS)
def test_pooling_of_windows(data_format):
    """DGAD's network for Tiny-ImageNet has a head of 2,048."""
    net = published.randomized(published.PooledPreActResNet(200))
    model = converted(
        models.PreActResNet18,
        net,
        input_shape=(64, 64, 3)
        if data_format == "channels_last"
        else (3, 64, 64),
        num_classes=200,
        bn_before_fc=False,
        pool_size=4,
        data_format=data_format,
    )
    x = images(64, 2)
    found = keras_logits(model, x, data_format)
    assert difference(found, logits(net, x)) < 1


def adaptive(net, x):
    """The published net, average pooling over the whole map whatever size."""

    def pool(x, size):
        return x.mean((2, 3), keepdim=True)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "avg_pool2d", pool)
        return logits(net, x)


@pytest.mark.once
@pytest.mark.parametrize(
    "case",
    [
        *("resnet18", "preact, V2", "mobilenet_v2"),
        *("wide resnet", "dm wide resnet", "dm preact"),
    ],
)
def test_the_other_padding_is_caught(case, monkeypatch):
    """Padding is silent: shapes and classes agree, the logits must not."""
    build, published_net = CASES[case]
    net = published.randomized(published_net(10))
    pad = models.network.Network._pad

    def other_padding(self, x, size, strides):
        self.symmetric = case.startswith("dm")
        return pad(self, x, size, strides)

    monkeypatch.setattr(models.network.Network, "_pad", other_padding)
    model = converted(build, net)
    x = images()
    found = keras_logits(model, x, "channels_last")
    assert difference(found, logits(net, x)) > 10


@pytest.mark.once
@pytest.mark.parametrize("case", PARAMETERS)
def test_parameter_counts(case):
    for num_classes, expected in zip((10, 100), PARAMETERS[case], strict=True):
        model = CASES[case][0](num_classes=num_classes)
        assert trainable(model) == expected


@pytest.mark.once
@pytest.mark.parametrize("depth, width", WIDE)
@pytest.mark.parametrize("build", [models.WideResNet, models.DMWideResNet])
def test_parameter_counts_of_wide_networks(build, depth, width):
    assert trainable(build(depth, width)) == WIDE[depth, width]


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)
