"""Which metrics a phase measures: training, or evaluation under attack."""

import contextlib
from typing import Any

import keras
from keras import ops

from keras_adaad import backend
from keras_adaad.losses import label_indices


class PhaseMetrics(backend.Model):
    """A model that measures accuracy on adversarial images.

    Training logs `adversarial_accuracy` beside the compiled metrics, and
    evaluation logs `robust_accuracy`. Neither is logged without labels.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.adversarial_accuracy = keras.metrics.Mean("adversarial_accuracy")
        self.robust_accuracy = keras.metrics.Mean("robust_accuracy")
        self._idle_metrics: tuple[str, ...] = ("robust_accuracy",)
        self._had_labels = {}
        # Whether a batch, rather than an epoch, is being measured.
        self._in_batch = False

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        # Keras reads this during construction, before attributes are set.
        idle = getattr(self, "_idle_metrics", ())
        return [m for m in super().metrics if m.name not in idle]

    @contextlib.contextmanager
    def _phase(self, training, labels, attacked=True):
        """Hides the metrics that the phase does not measure."""
        before = self._idle_metrics
        idle = {"robust_accuracy" if training else "adversarial_accuracy"}
        if not attacked:
            idle.add("robust_accuracy")
        if not labels:
            idle |= {"adversarial_accuracy", "robust_accuracy"}
            idle.add("compile_metrics")
        self._idle_metrics = tuple(idle)
        function = "train_function" if training else "test_function"
        if self._had_labels.get(function, labels) != labels:
            # JAX compiles its program for a fixed number of metrics.
            setattr(self, function, None)
        self._had_labels[function] = labels
        try:
            yield
        finally:
            self._idle_metrics = before

    def compute_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._in_batch = True
        try:
            return self._compute_metrics(*args, **kwargs)
        finally:
            self._in_batch = False

    def _compute_metrics(self, x, y, y_pred, sample_weight=None):
        if y is None:
            return self.get_metrics_result()
        logits = y_pred if isinstance(y_pred, dict) else {"clean": y_pred}
        if "adversarial" in logits:
            adversarial = logits["adversarial"]
            correct = ops.argmax(adversarial, axis=-1) == label_indices(
                y, adversarial
            )
            for metric in self.metrics:
                if metric in (self.adversarial_accuracy, self.robust_accuracy):
                    metric.update_state(correct)
        return super().compute_metrics(
            x, y, logits["clean"], sample_weight=sample_weight
        )

    def get_metrics_result(self) -> dict[str, Any]:
        if self._in_batch:
            return super().get_metrics_result()
        with backend.processes.totals(self.metrics_variables):
            return super().get_metrics_result()
