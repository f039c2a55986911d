"""PGD and FGSM on models of other outputs: label maps, several labels."""

import functools

import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from keras import layers
from keras import ops

import keras_adaad
from keras_adaad.attacks import APGD
from keras_adaad.attacks import CW
from keras_adaad.attacks import FAB
from keras_adaad.attacks import FGSM
from keras_adaad.attacks import FMN
from keras_adaad.attacks import PGD
from keras_adaad.attacks import AutoAttack
from keras_adaad.attacks import Square
from tests.attacks.test_norms import size

EPSILON = {"linf": 0.05, "l2": 0.4}


def with_random_weights(model):
    """Sets the weights of a model; its variances stay positive."""
    generator = np.random.default_rng(0)
    weights = [generator.normal(0, 0.7, w.shape) for w in model.get_weights()]
    model.set_weights(
        [
            np.abs(value) + 0.5 if "variance" in variable.path else value
            for variable, value in zip(model.weights, weights, strict=True)
        ]
    )
    return model


@functools.cache
def segmenter():
    """Returns a network of 4 classes per pixel, for images of any size."""
    inputs = keras.Input((None, None, 1))
    h = layers.Conv2D(6, 2, strides=2)(inputs)
    h = layers.BatchNormalization(epsilon=1e-5)(h)
    h = layers.Activation("tanh")(h)
    h = layers.UpSampling2D(2)(h)
    return with_random_weights(keras.Model(inputs, layers.Conv2D(4, 1)(h)))


def torch_segmenter(x):
    """Computes the segmenter's logits with PyTorch, the classes first."""
    values = [torch.tensor(w) for w in segmenter().get_weights()]
    kernel, bias, gamma, beta, mean, variance, kernel_2, bias_2 = values
    h = F.conv2d(x.movedim(-1, 1), kernel.permute(3, 2, 0, 1), bias, stride=2)
    h = F.batch_norm(h, mean, variance, gamma, beta, eps=1e-5)
    h = F.interpolate(torch.tanh(h), scale_factor=2, mode="nearest")
    return F.conv2d(h, kernel_2.permute(3, 2, 0, 1), bias_2)


@functools.cache
def tagger():
    """Returns a network of 5 labels per image."""
    inputs = keras.Input((8, 8, 1))
    h = layers.Dense(12, activation="tanh")(layers.Flatten()(inputs))
    return with_random_weights(keras.Model(inputs, layers.Dense(5)(h)))


def torch_tagger(x):
    kernel, bias, kernel_2, bias_2 = map(torch.tensor, tagger().get_weights())
    return torch.tanh(x.flatten(1) @ kernel + bias) @ kernel_2 + bias_2


def squared_error(labels, outputs):
    """A loss of the user's own, for a depth at each pixel."""
    return ops.mean((outputs[..., 0] - labels) ** 2, axis=(1, 2))


def segmentation_loss(x, y):
    return F.cross_entropy(torch_segmenter(x), y.long(), reduction="none").mean(
        (1, 2)
    )


def label_loss(x, y):
    logits = torch_tagger(x)
    return F.binary_cross_entropy_with_logits(
        logits, y.float(), reduction="none"
    ).mean(1)


def depth_loss(x, y):
    return F.mse_loss(torch_segmenter(x)[:, 0], y, reduction="none").mean(
        (1, 2)
    )


def published_pgd(loss, x, y, noise, attack):
    """Returns the images of PGD and their losses, in PyTorch."""
    x, y, noise = (torch.tensor(array) for array in (x, y, noise))
    x_adv = (x + noise).clamp(0, 1)
    for _ in range(attack.steps):
        x_adv.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(x_adv, y).sum(), x_adv)
        with torch.no_grad():
            if attack.norm == "linf":
                x_adv = x_adv + attack.step_size * gradient.sign()
                delta = (x_adv - x).clamp(-attack.epsilon, attack.epsilon)
            else:
                length = gradient.flatten(1).norm(dim=1)[:, None, None, None]
                delta = x_adv + attack.step_size * gradient / length - x
                length = delta.flatten(1).norm(dim=1)[:, None, None, None]
                delta = delta * (attack.epsilon / length).clamp(max=1)
            x_adv = (x + delta).clamp(0, 1)
    return x_adv.numpy(), loss(x_adv, y).detach().numpy()


@pytest.fixture(scope="module")
def data(digits):
    """Twelve digits, and labels of each kind."""
    generator = np.random.default_rng(2)
    x = digits[0][:12]
    return x, {
        "cross_entropy": generator.integers(0, 4, (12, 8, 8)),
        "binary_cross_entropy": generator.integers(0, 2, (12, 5)),
        squared_error: generator.random((12, 8, 8)).astype("float32"),
    }


# The loss, the network, and the loss of both in PyTorch.
CASES = {
    "segmentation": ("cross_entropy", segmenter, segmentation_loss),
    "labels": ("binary_cross_entropy", tagger, label_loss),
    "depth": (squared_error, segmenter, depth_loss),
}


@pytest.mark.parametrize("norm", EPSILON)
@pytest.mark.parametrize("case", CASES)
def test_pgd_is_the_transcription(data, case, norm):
    loss, network, expected_loss = CASES[case]
    x, y = data[0], data[1][loss]
    attack = PGD(
        epsilon=EPSILON[norm], steps=5, restarts=2, norm=norm, loss=loss
    )
    generator = np.random.default_rng(3)
    noise = generator.uniform(-0.02, 0.02, (2, *x.shape)).astype("float32")
    x_adv = attack(network(), x, y, noise=noise)
    # The restart with the higher loss, image by image.
    (first, first_loss), (second, second_loss) = (
        published_pgd(expected_loss, x, y, start, attack) for start in noise
    )
    better = (second_loss > first_loss)[:, None, None, None]
    assert 0 < better.sum() < len(x)
    found = np.abs(x_adv - np.where(better, second, first))
    assert (found < 1e-5).mean() > 0.99
    assert (size(x_adv - x, norm) < attack.epsilon + 1e-6).all()


def test_labels_of_pixels_in_every_form(data):
    x, y = data[0], data[1]["cross_entropy"]
    attack = FGSM(epsilon=0.05)
    x_adv = attack(segmenter(), x, y)
    expected, _ = published_pgd(segmentation_loss, x, y, 0 * x, attack)
    assert (np.abs(x_adv - expected) < 1e-5).mean() > 0.99
    for form in (y[..., None], np.eye(4)[y]):
        np.testing.assert_array_equal(x_adv, attack(segmenter(), x, form))


def test_float16_keeps_a_scale_per_image(data):
    """The gradients of all pixels of an image share the factor."""
    x, y = data[0], data[1]["cross_entropy"]
    keras.config.set_dtype_policy("mixed_float16")
    network = segmenter.__wrapped__()
    assert network.compute_dtype == "float16"
    moved = [FGSM(epsilon=0.05)(n, x, y) for n in (network, segmenter())]
    assert (np.abs(moved[0] - moved[1]) < 1e-5).mean() > 0.97


class Outputs(keras.Model):
    """A subclassed model of one output per pixel."""

    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(1, 3, padding="same")

    def call(self, x):
        return self.conv(x)


def test_binary_masks_and_a_subclassed_model(data):
    x = data[0]
    model, attack = Outputs(), FGSM(epsilon=0.1, loss="binary_cross_entropy")
    mask = x[..., 0] > 0.5
    x_adv = attack(model, x, mask)
    np.testing.assert_array_equal(x_adv, attack(model, x, mask[..., None]))

    def loss(x):
        return F.binary_cross_entropy_with_logits(
            torch.tensor(model.predict(x, verbose=0))[..., 0],
            torch.tensor(mask).float(),
        )

    assert loss(x_adv) > loss(x)


def not_averaged(labels, outputs):
    return ops.abs(outputs[..., 0])


def softmax_at_pixels():
    return keras.Model(
        segmenter().inputs, layers.Softmax()(segmenter().outputs[0])
    )


def hidden_softmax():
    inner = softmax_at_pixels()
    return keras.Model(inner.inputs, layers.Rescaling(1.0)(inner.outputs[0]))


def two_outputs():
    return keras.Model(tagger().inputs, 2 * tagger().outputs)


MAPS = np.zeros((12, 8, 8), "int32")
SEVERAL = np.tile([1, 1, 0, 0, 1], (12, 1))
TAGS = {"loss": "binary_cross_entropy"}
OTHERS = [APGD, CW, FAB, FMN, Square, AutoAttack]
REFUSED = [
    # The attack, the network, the labels, and the message.
    *((kind(epsilon=0.1), segmenter, MAPS, "PGD.*FGSM") for kind in OTHERS),
    *(
        (kind(epsilon=0.1), tagger, SEVERAL, "several labels.*PGD.*FGSM")
        for kind in [*OTHERS, PGD, FGSM]
    ),
    (PGD(epsilon=0.1, loss="dlr"), segmenter, MAPS, "pixel.*cross_entropy"),
    (PGD(epsilon=0.1), Outputs, MAPS, "binary_cross_entropy"),
    (PGD(epsilon=0.1), segmenter, MAPS[:, 1:], r"\(12, 8, 8\)"),
    (PGD(epsilon=0.1), segmenter, MAPS + 4, r"\[0, 3\]"),
    (PGD(epsilon=0.1), segmenter, None, "`y` is missing"),
    (PGD(epsilon=0.1), softmax_at_pixels, MAPS, "ends in a softmax"),
    (PGD(epsilon=0.1), hidden_softmax, MAPS, "probabilities"),
    (PGD(epsilon=0.1), two_outputs, MAPS, "must have one output"),
    (PGD(epsilon=0.1, **TAGS), tagger, SEVERAL[:, 1:], r"\(12, 5\)"),
    (PGD(epsilon=0.1, **TAGS), tagger, 2 * SEVERAL, "0 or 1"),
    (PGD(epsilon=0.1, **TAGS), tagger, None, r"shape \(12, 5\)"),
    (PGD(epsilon=0.1, loss=squared_error), segmenter, MAPS[1:], "12 images"),
    (PGD(epsilon=0.1, loss=squared_error), tagger, SEVERAL, r"Reshape\(\(5, 1"),
    (PGD(epsilon=0.1, loss=squared_error), tagger, 0.2 * SEVERAL, "Reshape"),
    (
        PGD(epsilon=0.1, loss=not_averaged),
        segmenter,
        MAPS,
        "one value per sample",
    ),
]


@pytest.mark.parametrize("attack, network, y, message", REFUSED)
def test_what_is_refused(data, attack, network, y, message):
    with pytest.raises(ValueError, match=message):
        attack(network(), data[0], y)


def test_only_images_of_one_class_are_counted(data):
    """An evaluation and a training refuse the rest, and name the attacks."""
    x, options = data[0], {"epsilon": 0.1, "verbose": 0}
    evaluate = keras_adaad.evaluate_robustness
    with pytest.raises(ValueError, match="PGD.*FGSM.*your own metric"):
        evaluate(segmenter(), x, MAPS, ["pgd"], **options)
    with pytest.raises(ValueError, match="several labels.*PGD.*FGSM"):
        evaluate(tagger(), x, SEVERAL, ["pgd"], **options)
    attack = PGD(epsilon=0.1, **TAGS)
    with pytest.raises(ValueError, match="your own metric"):
        evaluate(tagger(), x, np.zeros(12, "int32"), [attack], **options)
    with pytest.raises(ValueError, match="your own metric"):
        keras_adaad.PGDAT(tagger(), evaluation_attack=attack)
    with pytest.raises(ValueError, match="PGD.*FGSM"):
        keras_adaad.PGDAT(segmenter())
    with pytest.raises(ValueError, match="`loss`.*cross_entropy"):
        APGD(epsilon=0.1, **TAGS)
