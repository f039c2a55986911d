"""Robust accuracy during training, under the attacks of your choice."""

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_adaad import backend
from keras_adaad import checks
from keras_adaad._typing import ArrayLike
from keras_adaad._typing import PathLike
from keras_adaad.attacks import Attack
from keras_adaad.callbacks import tensorboard_pictures
from keras_adaad.evaluation import RobustnessReport
from keras_adaad.evaluation import evaluate_robustness
from keras_adaad.training.adversarial_training import AdversarialTraining


class RobustEvaluation(keras.callbacks.Callback):
    """Attacks a fixed set of images every few epochs, and logs the accuracy.

    The logs get `val_<attack>_accuracy` for each attack, e.g.
    `val_pgd_accuracy` or `val_autoattack_accuracy`: the accuracy after this
    attack and all attacks before it. Put this callback before those that read
    the logs (`TensorBoard`, `ModelCheckpoint`, `EarlyStopping`). As with
    Keras's `validation_freq`, epochs without an evaluation have no such entry.

    Each attack is compiled once. `reports` keeps the
    `keras_adaad.RobustnessReport` of every evaluation by epoch, without the
    images.

    Args:
        x: Images, of shape `(num_images, ...)`.
        y: Labels: class indices or one-hot.
        attacks: Names (see `keras_adaad.attacks.get`) or
            `keras_adaad.attacks.Attack`s. Defaults to `["pgd"]`.
        every: Number of epochs from one evaluation to the next. The last of
            the `epochs` of `fit` is always evaluated, but not an epoch after
            which another callback stops the training. Defaults to `1`.
        log_dir: Folder of TensorBoard's logs that gets two pictures of every
            evaluation, on any backend: `robustness`, the accuracies and the
            accuracy over epsilon, and `adversarial_images`, the first fooled
            image of each class. Needs Matplotlib and `tensorboard`. Defaults
            to `None`: no pictures.
        **options: Other arguments of `keras_adaad.evaluate_robustness`, such
            as `epsilon` and `batch_size`. `epsilon`, `norm` and `input_range`
            default to those of a distiller's attack. `reliability_checks` and
            `verbose` are off unless given, and so is `curve` without a
            `log_dir`.

    Example:

    ```python
    robust = keras_adaad.callbacks.RobustEvaluation(
        x_test[:500],
        y_test[:500],
        ["pgd", "apgd-t"],
        every=5,
        log_dir="logs",
        epsilon=8 / 255,
    )
    tensorboard = keras.callbacks.TensorBoard("logs")
    distiller.fit(train_ds, epochs=200, callbacks=[robust, tensorboard])
    ```
    """

    # For the check that a later callback keeps the weights that it measured.
    measures_weights = True

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        attacks: str | Attack | Sequence[str | Attack] = ("pgd",),
        every: int = 1,
        log_dir: PathLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if options.get("state_path") is not None:
            raise ValueError(
                "Argument `state_path` is for one evaluation, and the callback "
                "makes several, of other weights. Leave it out. "
                f"Received: state_path={options['state_path']!r}"
            )
        if log_dir is not None:
            tensorboard_pictures.check_installed()
        self.x = x
        self.y = y
        self.attacks = attacks
        self.every = checks.check_integer("every", every)
        self.log_dir = log_dir
        self.options = {
            "reliability_checks": False,
            "curve": log_dir is not None,
            "verbose": 0,
            **options,
        }
        self.reports: dict[int, RobustnessReport] = {}

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        last = epoch + 1 == self.params.get("epochs")
        if (epoch + 1) % self.every != 0 and not last:
            return
        model, options = self.model, self.options
        if isinstance(model, AdversarialTraining):
            model = model.student
            options = _with_threat_model(options, self.model.attack)
        report = evaluate_robustness(
            model, self.x, self.y, self.attacks, **options
        )
        if self.log_dir is not None and backend.processes.index() == 0:
            tensorboard_pictures.write_pictures(
                self.log_dir, _pictures(report), epoch
            )
        report.images = None
        self.reports[epoch] = report
        if logs is not None:
            for name, robust in report.stages():
                logs[f"val_{_log_name(name)}_accuracy"] = float(robust.mean())


def _log_name(name):
    """Returns the name of an attack as a user writes it: "autoattack"."""
    name = name.lower().replace(" (standard)", "")
    return re.sub(r"^autoattack \((\w+)\)", r"autoattack-\1", name)


def _with_threat_model(options, attack):
    """Returns the options, and the ball of the training where they lack it."""
    options = {
        "norm": attack.norm,
        "input_range": attack.input_range,
        **options,
    }
    if options["norm"] == attack.norm:
        options.setdefault("epsilon", attack.epsilon)
    return options


def _pictures(report):
    pictures = {"robustness": report.plot()}
    # Early on, all images can be wrong before any attack.
    if np.any(report.clean & ~report.robust):
        pictures["adversarial_images"] = report.plot_examples()
    return pictures
