"""Checkpoints as Keras models: the published logits, every array accounted."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import torch

from keras_adaad import zoo
from keras_adaad.zoo import conversion
from tests.models.test_parity import difference
from tests.models.test_parity import images
from tests.models.test_parity import keras_logits
from tests.models.test_parity import logits
from tests.oracles import networks as published

CIFAR10 = dict(mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616))


@pytest.fixture
def save(tmp_path):
    """Saves a checkpoint, and returns its path."""

    def save(content, name="net.pt"):
        if isinstance(content, torch.nn.Module):
            content = content.state_dict()
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save


def assert_same_logits(model, net, data_format="channels_last"):
    found = keras_logits(model, images(), data_format)
    assert difference(found, logits(net, images())) < 1


# By id: the published network, with what its class adds.
REGISTERED = {
    ("Addepalli2022Efficient_RN18", "cifar100", "Linf"): lambda: (
        published.resnet([2, 2, 2, 2], 100)
    ),
    ("Rade2021Helper_R18_ddpm", "cifar10", "Linf"): published.dm_preact_resnet,
    ("Wong2020Fast", "cifar10", "Linf"): lambda: published.Normalized(
        published.preact_resnet("PreActBlock"), *CIFAR10.values()
    ),
    ("Modas2021PRIMEResNet18", "cifar10", "corruptions"): lambda: (
        published.Normalized(
            published.resnet([2, 2, 2, 2]), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
        )
    ),
}


@pytest.mark.parametrize("key", REGISTERED, ids=lambda key: key[0])
def test_robustbench(key, save):
    name, dataset, threat_model = key
    net = published.randomized(REGISTERED[key]())
    state = net.state_dict()
    if isinstance(net, published.Normalized):
        # RobustBench's classes inherit: no prefix.
        state = {k.removeprefix("net."): v for k, v in state.items()}
    path = save(state)
    model = zoo.load_robustbench(name, path, dataset, threat_model)
    assert_same_logits(model, net)


@pytest.mark.once
def test_wrong_constants_in_the_file_are_not_taken(save):
    net = published.Normalized(
        published.preact_resnet("PreActBlock"), (0.5,) * 3, (0.5,) * 3
    )
    state = {k.removeprefix("net."): v for k, v in net.state_dict().items()}
    with pytest.raises(ValueError, match="normalises .* Wong2020Fast"):
        zoo.load_robustbench("Wong2020Fast", save(state))


INFERRED = {
    "ResNet18": (lambda: published.resnet([2, 2, 2, 2], 7), {}),
    "ResNet34": (lambda: published.resnet([3, 4, 6, 3]), {}),
    "ResNet56": (lambda: published.CifarResNet(7), {}),
    "PreActResNet18": (
        lambda: published.preact_resnet("PreActBlock", 7),
        {"out_shortcut": False},
    ),
    "MobileNetV2": (lambda: published.MobileNetV2(7), {}),
    "WideResNet": (
        lambda: published.wide_resnet(16, 3, 7, sub_block1=True),
        {},
    ),
    "DMWideResNet": (lambda: published.dm_wide_resnet(16, 3, 7), CIFAR10),
    "DMPreActResNet18": (lambda: published.dm_preact_resnet(7), CIFAR10),
}


@pytest.mark.once
@pytest.mark.parametrize("architecture", INFERRED)
def test_architecture_is_read_from_the_file(architecture, save):
    make, arguments = INFERRED[architecture]
    net = published.randomized(make())
    path = save({"net": net.state_dict(), "acc": 0.5, "epoch": 3})
    model = zoo.load_checkpoint(path, **arguments)
    assert_same_logits(model, net)


@pytest.mark.once
def test_pooling_is_read_from_the_file(save):
    net = published.randomized(published.PooledPreActResNet(7))
    path = save({"net": net.state_dict()})
    model = zoo.load_checkpoint(path, out_shortcut=True)
    assert model.input_shape == (None, 64, 64, 3)
    x = images(64, 2)
    found = keras_logits(model, x, "channels_last")
    assert difference(found, logits(net, x)) < 1


@pytest.mark.once
def test_normalisation_in_the_file_is_used(save):
    net = published.Normalized(
        published.wide_resnet(10, 1), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    )
    net = published.randomized(net)
    state = {k.removeprefix("net."): v for k, v in net.state_dict().items()}
    assert_same_logits(zoo.load_checkpoint(save(state)), net)


@pytest.mark.once
@pytest.mark.parametrize("net", ["DMWideResNet", "PreActResNet18"])
def test_what_no_file_tells_must_be_given(net, save):
    make, arguments = INFERRED[net]
    with pytest.raises(ValueError, match=f"`{next(iter(arguments))}`"):
        zoo.load_checkpoint(save(make()))


def test_keras_file_holds_it_all(save, tmp_path):
    net = published.randomized(published.dm_wide_resnet(10, 2))
    model = zoo.load_checkpoint(save(net), **CIFAR10)
    model.save(tmp_path / "teacher.keras")
    loaded = keras.models.load_model(tmp_path / "teacher.keras")
    assert_same_logits(loaded, net)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="the backend is PyTorch itself"
)
def test_without_pytorch(save, tmp_path):
    """Where PyTorch is not installed, the same model."""
    net = published.randomized(published.wide_resnet(10, 2))
    np.save(tmp_path / "x.npy", np.moveaxis(images(), 1, -1))
    code = f"""
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NoTorch())
import numpy as np
from keras_adaad import zoo
model = zoo.load_checkpoint({str(save(net))!r})
x = np.load({str(tmp_path / "x.npy")!r})
np.save({str(tmp_path / "y.npy")!r}, model.predict(x, verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    found = np.load(tmp_path / "y.npy")
    assert difference(found, logits(net, images())) < 1


def change(name, **arguments):
    """Returns a state dict of WRN-10-2 after one change."""

    def changed():
        state = published.wide_resnet(10, 2).state_dict()
        if name == "missing":
            del state["block2.layer.0.bn1.weight"]
        elif name == "extra":
            state["block2.layer.0.conv3.weight"] = torch.ones(3, 3)
        elif name == "width":
            state["block3.layer.0.conv2.weight"] = torch.ones(96, 96, 3, 3)
        return state

    return changed


@pytest.mark.once
@pytest.mark.parametrize(
    "state, message",
    [
        (change("missing"), r"1 missing .*\(block2.layer.0.bn1.weight\)"),
        (change("extra"), r"1 without a place .*conv3.weight"),
        (change("width"), r"1 of another shape .*\(96, 96, 3, 3\)"),
    ],
)
def test_every_array_is_accounted(state, message, save):
    with pytest.raises(ValueError, match=message):
        zoo.load_checkpoint(save(state()))


@pytest.mark.once
def test_wrong_network(save):
    wide = save(published.wide_resnet(10, 2), "wide.pt")
    with pytest.raises(ValueError, match="missing from the file"):
        zoo.load_robustbench("Addepalli2022Efficient_RN18", wide)
    narrow = save(published.resnet([2, 2, 2, 2], 100), "narrow.pt")
    with pytest.raises(ValueError, match=r"linear.weight \(100, 512\)"):
        zoo.load_robustbench("Addepalli2022Efficient_RN18", narrow)
    with pytest.raises(ValueError, match="none of the networks"):
        zoo.load_checkpoint(save(torch.nn.Linear(3, 4), "linear.pt"))
    bottleneck = published.robustbench("resnet")
    deep = bottleneck.ResNet(bottleneck.Bottleneck, [1, 1, 1, 1])
    with pytest.raises(ValueError, match="none of the networks"):
        zoo.load_checkpoint(save(deep, "deep.pt"))
    headless = published.preact_resnet("PreActBlock").state_dict()
    headless = {n: v for n, v in headless.items() if "linear" not in n}
    with pytest.raises(ValueError, match="last layer"):
        zoo.load_checkpoint(save(headless))
    shallow = published.resnet([1, 1, 1, 1])
    with pytest.raises(ValueError, match="blocks other than"):
        zoo.load_checkpoint(save(shallow, "shallow.pt"))
    with pytest.raises(ValueError, match="`architecture`"):
        zoo.load_checkpoint(narrow, "ResNet50")


@pytest.mark.once
def test_failed_loading_leaves_the_model_alone(save):
    model = zoo.load_checkpoint(save(published.wide_resnet(10, 2)))
    before = [v.numpy() for v in model.variables]
    other = published.wide_resnet(10, 3).state_dict()
    with pytest.raises(ValueError, match="another shape"):
        conversion.load_state_dict(
            model, {k: v.numpy() for k, v in other.items()}
        )
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, b.numpy())


@pytest.mark.once
def test_nothing_is_fetched_without_being_asked(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="download=True") as error:
        zoo.load_robustbench("Chen2021LTD_WRN34_20")
    assert "drive.google.com" in str(error.value)
    assert not os.listdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        zoo.load_checkpoint(tmp_path / "nowhere.pt")


@pytest.mark.once
def test_cached_file_is_found(save, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    folder = tmp_path / "keras_adaad" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    net = published.randomized(published.resnet([2, 2, 2, 2]))
    save(net).rename(folder / "Sehwag2021Proxy_R18.pt")
    assert_same_logits(zoo.load_robustbench("Sehwag2021Proxy_R18"), net)
