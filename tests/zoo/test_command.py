"""`keras-adaad zoo`: list, convert, verify."""

import contextlib
import io
import json

import keras
import numpy as np
import pytest
import torch

import keras_adaad_cli
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import presets
from keras_adaad.zoo import parity
from keras_adaad.zoo import registry
from keras_adaad.zoo import verify
from tests.data import on_disk
from tests.models.test_parity import difference
from tests.models.test_parity import images
from tests.models.test_parity import keras_logits
from tests.models.test_parity import logits
from tests.oracles import networks as published
from tests.zoo.test_load import CIFAR10
from tests.zoo.test_load import INFERRED


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A published network, and the path of its checkpoint."""
    net = published.randomized(published.resnet([2, 2, 2, 2]))
    path = tmp_path_factory.mktemp("checkpoint") / "net.pt"
    torch.save(net.state_dict(), path)
    return net, path


@pytest.fixture(scope="module")
def converted(checkpoint):
    """The path of the Keras model, and what the command printed."""
    _, path = checkpoint
    output = path.with_name("net.keras")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run(
            *("convert", "--name", "Sehwag2021Proxy_R18"),
            *("--checkpoint", path, "--output", output),
        )
    return output, printed.getvalue()


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as info:
        keras_adaad_cli.main(["zoo", *map(str, arguments)])
    assert (info.value.code or 0) == code


@pytest.mark.once
def test_list(capsys):
    run("list", "--dataset", "cifar100", "--threat-model", "Linf")
    printed = capsys.readouterr().out
    assert "Chen2021LTD_WRN34_10" in printed and "30.59" in printed
    assert "Chen2021LTD_WRN34_20" not in printed


def test_convert(checkpoint, converted):
    net, _ = checkpoint
    output, printed = converted
    assert "11,173,962 parameters" not in printed  # With BatchNorm's state.
    assert "102 arrays used, 20 dropped (20 num_batches_tracked)" in printed
    assert "passed" in printed
    model = keras.models.load_model(output)
    found = keras_logits(model, images(), "channels_last")
    assert difference(found, logits(net, images())) < 1


@pytest.mark.once
@pytest.mark.parametrize("output", ["nowhere/net.keras", "net.h5"])
def test_convert_names_a_wrong_output_first(output, tmp_path, capsys):
    path = tmp_path / output
    run("convert", "--checkpoint", "none.pt", "--output", path, code=2)
    assert f"--output {path}" in capsys.readouterr().err


@pytest.mark.once
def test_convert_what_has_no_name(tmp_path, capsys):
    net = published.dm_wide_resnet(10, 1)
    torch.save({"model_state_dict": net.state_dict()}, tmp_path / "net.pt")
    run(
        *("convert", "--checkpoint", tmp_path / "net.pt"),
        *("--arguments", json.dumps(CIFAR10)),
        *("--output", tmp_path / "net.keras"),
    )
    assert "DMWideResNet" in capsys.readouterr().out
    assert (tmp_path / "net.keras").exists()


@pytest.mark.once
def test_convert_with_channels_first(tmp_path, capsys):
    net = published.dm_wide_resnet(10, 1)
    torch.save({"model_state_dict": net.state_dict()}, tmp_path / "net.pt")
    keras.config.set_image_data_format("channels_first")
    try:
        run(
            *("convert", "--checkpoint", tmp_path / "net.pt"),
            *("--arguments", json.dumps(CIFAR10)),
            *("--output", tmp_path / "net.keras"),
        )
    finally:
        keras.config.set_image_data_format("channels_last")
    assert "passed" in capsys.readouterr().out


@pytest.mark.once
def test_wrong_logits_are_not_written(
    checkpoint, tmp_path, monkeypatch, capsys
):
    """A network with the other padding has the same arrays."""
    from keras_adaad.models.network import Network

    pad = Network._pad

    def other_padding(self, x, size, strides):
        self.symmetric = False
        return pad(self, x, size, strides)

    monkeypatch.setattr(Network, "_pad", other_padding)
    _, path = checkpoint
    output = tmp_path / "net.keras"
    run("convert", "--checkpoint", path, "--output", output, code=1)
    assert "Nothing was written" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.once
@pytest.mark.parametrize("architecture", INFERRED)
def test_parity_check_knows_each_network(architecture):
    """The functions it compares with, against the published classes."""
    make, arguments = INFERRED[architecture]
    net = published.randomized(make())
    arrays = {k: v.numpy() for k, v in net.state_dict().items()}
    arguments = {"bn_before_fc": False, **arguments}
    found = parity.published_logits(arrays, architecture, arguments, images())
    np.testing.assert_allclose(
        found, logits(net, images()), rtol=1e-4, atol=1e-5
    )


@pytest.mark.once
def test_parity_check_knows_the_pooling():
    net = published.randomized(published.PooledPreActResNet())
    arrays = {k: v.numpy() for k, v in net.state_dict().items()}
    arguments = {"bn_before_fc": False, "out_shortcut": True, "pool_size": 4}
    x = images(64, 2)
    found = parity.published_logits(arrays, "PreActResNet18", arguments, x)
    np.testing.assert_allclose(found, logits(net, x), rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_convert_needs_a_file(capsys):
    run("convert", "--name", "Standard", "--output", "net.keras", code=2)
    assert "--checkpoint" in capsys.readouterr().err
    flags = ("--name", "Standart", "--checkpoint", "no.pt")
    flags += ("--output", "a.keras")
    run("convert", *flags, code=2)
    message = capsys.readouterr().err
    assert "--name Standart: " in message and "Did you mean" in message


@pytest.mark.once
@pytest.mark.parametrize(
    "option, value",
    [
        ("--key", "best"),
        ("--architecture", "ResNet18"),
        ("--arguments", '{"mean": null}'),
    ],
)
def test_a_name_and_what_it_decides(tmp_path, capsys, option, value):
    output = tmp_path / "a.keras"
    flags = ("--checkpoint", "no.pt", "--output", output, option, value)
    run("convert", "--name", "Standard", *flags, code=2)
    assert f"{option} {value}: --name Standard" in capsys.readouterr().err
    for bad in ("{bad", "[]"):
        flags = ("--checkpoint", "no.pt", "--output", output)
        run("convert", *flags, "--arguments", bad, code=2)
        assert f"--arguments {bad}: " in capsys.readouterr().err


@pytest.mark.once
@pytest.mark.parametrize(
    "option, value, words",
    [
        ("--architecture", "Foo", "--architecture Foo: "),
        ("--architecture", "PreActResNet18", "--arguments {}: Argument `out"),
        ("--key", "best", "--key must name an entry of the checkpoint"),
        ("--arguments", '{"depth": 10}', "missing a required argument"),
        ("--arguments", '{"depth": 10, "width": 1, "a": 1}', "unexpected"),
    ],
)
def test_a_wrong_option_is_named(option, value, words, tmp_path, capsys):
    arrays = {"linear.weight": np.zeros((10, 64), "float32")}
    np.savez(tmp_path / "net.npz", **arrays)
    flags = ("--checkpoint", tmp_path / "net.npz")
    flags += ("--output", tmp_path / "net.keras", option, value)
    if option == "--arguments":
        flags += ("--architecture", "WideResNet")
    run("convert", *flags, code=2)
    message = capsys.readouterr().err
    assert words in message and "convert: --checkpoint" not in message


def verification(clean, robust, published_clean=80.0, published_robust=50.0):
    return verify.Verification(
        *("net", 200, "pgd-20-sat", clean, robust),
        *(published_clean, published_robust),
    )


@pytest.mark.once
@pytest.mark.parametrize(
    "clean, robust, consistent",
    [
        *((160, 110, True), (160, 95, True), (160, 140, True)),
        *((140, 110, False), (180, 110, False), (160, 80, False)),
        (160, None, True),
    ],
)
def test_verdict(clean, robust, consistent):
    """Within chance of the clean number, and not below the robust one."""
    result = verification(clean, robust)
    assert result.consistent == consistent
    assert ("NOT" in str(result)) != consistent


@pytest.mark.once
def test_verify_on_a_data_set(converted, tmp_path, capsys, monkeypatch):
    on_disk.write_cifar10(tmp_path, "tfrecord", test=on_disk.pictures(10, 0))
    monkeypatch.setattr(registry, "_entries", lambda: [ENTRY])

    class Quick(AutoAttack):
        """Whose attacks have other names than it."""

        def attacks(self):
            fgsm = FGSM(epsilon=self.epsilon, input_range=self.input_range)
            return {"first": fgsm, "second": fgsm}

    monkeypatch.setitem(presets.PRESETS, "autoattack", Quick)
    run(
        *("verify", converted[0], "--name", "untrained", "--images", 8),
        *("--attack", "autoattack", "--data-dir", tmp_path),
        code=1,
    )
    printed = capsys.readouterr().out
    assert "on 8 test images" in printed
    assert "NOT consistent" in printed
    run(
        *("verify", converted[0], "--name", "untrained"),
        *("--data-dir", tmp_path / "empty"),
        code=2,
    )
    assert "Pass --download" in capsys.readouterr().err


@pytest.mark.once
def test_verify_a_model_for_corruptions(
    checkpoint, converted, tmp_path, capsys
):
    """It has no epsilon: it is compared on clean images alone."""
    x, y = on_disk.pictures(10, 0)
    on_disk.write_cifar10(tmp_path, "tfrecord", test=(x, y))
    net, _ = checkpoint
    run(
        *("verify", converted[0], "--name", "Modas2021PRIMEResNet18"),
        *("--threat-model", "corruptions"),
        *("--images", 10, "--data-dir", tmp_path),
        code=1,
    )
    row = capsys.readouterr().out.split("clean")[1]
    answers = logits(net, np.float32(x.transpose(0, 3, 1, 2) / 255))
    right = 100 * np.mean(np.argmax(answers, -1) == y)
    assert float(row.split()[0]) == pytest.approx(right)


ENTRY = {
    **registry.entry("Sehwag2021Proxy_R18"),
    "id": "untrained",
    "clean_accuracy": 100.0,
}
