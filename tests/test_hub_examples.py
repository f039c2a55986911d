"""KerasHub's and KerasCV's classifiers as students."""

import importlib.util

import keras
import numpy as np
import pytest

import keras_adaad

# Keras compiles no task inside a model that it loads, and says so.
ignore_uncompiled = pytest.mark.filterwarnings("ignore:`compile..` was not")


@pytest.fixture(scope="module")
def example():
    """The module of KerasHub's example."""
    pytest.importorskip("keras_hub", reason="needs the extra `hub`")
    from examples import keras_hub_student

    return keras_hub_student


def check_report(folder, printed, num_images):
    report = keras_adaad.RobustnessReport.load(folder / "robustness.json")
    assert len(report.labels) == num_images
    # After so short a training all images can have one name: then no attack
    # fools the student, and no image is moved.
    fooled = report.robust_accuracy < report.clean_accuracy
    low, high = (0.09, 0.1 + 1e-6) if fooled else (0.0, 0.0)
    assert low <= report.max_perturbation <= high
    stages = ("clean", "fgsm", "pgd-20-sat")
    accuracies = [report.accuracy(stage) for stage in stages]
    assert accuracies == sorted(accuracies, reverse=True)
    assert str(report) in printed
    return report


@pytest.mark.once
@ignore_uncompiled
def test_keras_hub_example(example, run_example, tmp_path):
    options = ("--output", tmp_path, "--epochs", 3, "--limit", 256)
    printed = run_example("keras_hub_student", *options)
    report = check_report(tmp_path, printed, num_images=64)
    assert report.clean_accuracy > 0.3
    assert printed.count("predicts the same after loading") == 2

    # What was evaluated is what KerasHub loads: images are 0 to 255 here.
    preset = str(tmp_path / "preset")
    _, images, _, labels = example.load_data(256)
    task = example.keras_hub.models.ImageClassifier.from_preset(preset)
    right = task.predict(images, verbose=0).argmax(-1) == labels
    np.testing.assert_array_equal(right, report.clean)
    student = keras.saving.load_model(tmp_path / "student.keras")
    right = student.predict(images / 255.0, verbose=0).argmax(-1) == labels
    np.testing.assert_array_equal(right, report.clean)

    # The start from a preset: its backbone and preprocessing, a new head.
    fresh = example.make_task(preset)
    check_same_network(example.make_student(fresh), fresh, images)
    for mine, preset_weight in zip(
        fresh.backbone.weights, task.backbone.weights, strict=True
    ):
        np.testing.assert_array_equal(mine, preset_weight)


def check_same_network(student, task, images):
    """Student and task: the same logits, each for images in its own units."""
    np.testing.assert_allclose(
        student.predict(images / 255.0, verbose=0),
        task.predict(images, verbose=0),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_step_of_a_hub_student(example):
    """The task's network learns; all that is around it stays as it was."""
    images, _, _, _ = example.load_data(40)
    x = images.astype("float32") / 255.0
    task = example.make_task()
    student = example.make_student(task)
    check_same_network(student, task, images)
    weights = [keras.ops.convert_to_numpy(w) for w in task.trainable_variables]
    optimizer, loss = task.optimizer, task.loss
    preprocessed = keras.ops.convert_to_numpy(task.preprocessor(images))

    attack = keras_adaad.attacks.PGD(epsilon=0.1, steps=2, step_size=0.08)
    distiller = keras_adaad.AdaAD(example.make_teacher(), student, attack)
    distiller.compile(keras.optimizers.SGD(0.1))
    x_adv = distiller.perturb(x)
    assert x_adv.min() >= 0.0 and x_adv.max() <= 1.0
    assert 0.09 < np.abs(x_adv - x).max() <= 0.1 + 1e-6
    distiller.fit(x, batch_size=len(x), verbose=0)

    for before, weight in zip(weights, task.trainable_variables, strict=True):
        after = keras.ops.convert_to_numpy(weight)
        assert np.abs(after - before).max() > 0, weight.path
    check_same_network(student, task, images)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(task.preprocessor(images)), preprocessed
    )
    assert task.optimizer is optimizer and task.loss is loss
    assert int(optimizer.iterations.numpy()) == 0


@pytest.mark.once
@pytest.mark.skipif(
    importlib.util.find_spec("keras_cv") is None, reason="needs the extra `cv`"
)
def test_keras_cv_example(run_example, tmp_path):
    options = ("--output", tmp_path, "--epochs", 1, "--limit", 88)
    printed = run_example("keras_cv_student", *options)
    check_report(tmp_path, printed, num_images=22)
    assert printed.count("predicts the same after loading") == 2
    for name in ("student", "classifier"):
        assert (tmp_path / f"{name}.keras").stat().st_size > 100_000
