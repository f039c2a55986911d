"""Compares the accuracy of a converted model with the published numbers."""

import dataclasses

import numpy as np

from keras_adaad import data
from keras_adaad.evaluation import evaluate_robustness
from keras_adaad.evaluation.statistics import wilson_interval

_NORMS = {"Linf": "linf", "L2": "l2"}


@dataclasses.dataclass
class Verification:
    """Numbers of correct clean and attacked images, and the published %."""

    name: str
    num_images: int
    attack: str
    clean: int
    robust: int | None
    published_clean: float
    published_robust: float

    @property
    def consistent(self):
        """Whether chance explains the differences.

        An attack weaker than the published AutoAttack fools fewer images, so
        the robust accuracy may be higher, but not lower.
        """
        low, high = self._interval(self.clean)
        if not low <= self.published_clean <= high:
            return False
        if self.robust is None:
            return True
        return self._interval(self.robust)[1] >= self.published_robust

    def _interval(self, right):
        low, high = wilson_interval(right, self.num_images)
        return 100 * low, 100 * high

    def __str__(self):
        lines = [
            f"{self.name} on {self.num_images} test images, %:",
            self._row("clean", self.clean, self.published_clean),
        ]
        if self.robust is not None:
            row = self._row(self.attack, self.robust, self.published_robust)
            lines.append(f"{row} (AutoAttack)")
        lines.append(
            "consistent with the published numbers"
            if self.consistent
            else "NOT consistent with the published numbers"
        )
        return "\n".join(lines)

    def _row(self, what, right, published):
        low, high = self._interval(right)
        return (
            f"  {what:12} {100 * right / self.num_images:5.1f} "
            f"[{low:.1f}, {high:.1f}]   published {published:.2f}"
        )


def verify(
    model,
    entry,
    num_images=200,
    attack="pgd-20-sat",
    batch_size=50,
    data_dir=None,
    download=False,
    verbose=1,
):
    """Measures a converted model on the first images of a TFDS test split.

    A model for corruptions has no epsilon: it is not attacked, and only its
    clean accuracy is compared.
    """
    x, y = data.to_arrays(
        data.load_tfds(
            entry["dataset"],
            f"test[:{num_images}]",
            data_dir=data_dir,
            download=download,
        )
    )
    robust = None
    if entry["epsilon"] is None:
        logits = model.predict(x, batch_size=batch_size, verbose=0)
        clean = int(np.sum(np.argmax(logits, axis=-1) == y))
    else:
        report = evaluate_robustness(
            model,
            x,
            y,
            [attack],
            entry["epsilon"],
            norm=_NORMS[entry["threat_model"]],
            batch_size=batch_size,
            reliability_checks=False,
            curve=False,
            verbose=verbose,
        )
        clean = int(report.clean.sum())
        robust = int(report.robust.sum())
    return Verification(
        name=entry["id"],
        num_images=len(y),
        attack=attack,
        clean=clean,
        robust=robust,
        published_clean=entry["clean_accuracy"],
        published_robust=entry["robust_accuracy"],
    )
