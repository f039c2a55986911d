"""The trainers of networks, by the name of an arm's method."""

import keras
from keras import ops

import keras_adaad
from benchmarks import methods
from keras_adaad.attacks import PGD
from keras_adaad.frozen.logits import logits_function
from keras_adaad.losses import cross_entropy_from_logits


def make_trainer(arm, epsilon, epochs, teacher, network):
    """Returns a model whose `fit` trains a network as an arm says."""
    if arm.method == "plain training":
        return network
    if arm.method == "plain distillation":
        return plain_distillation(teacher, network)
    cls = OWN.get(arm.method) or getattr(keras_adaad, arm.method)
    distils = issubclass(cls, keras_adaad.Distiller)
    options = dict(arm.options)
    if options.pop("igdm", False):
        options["regularizers"] = [keras_adaad.IGDM()]
    if "sample_weighting" in options:
        # With the clean term of SAAD.
        weighting = WEIGHTINGS[options["sample_weighting"]](clean_weight=0.5)
        options["sample_weighting"] = weighting
    if "teacher_temperature" in options:
        teacher = at_temperature(teacher, options.pop("teacher_temperature"))
    return cls(
        *((teacher, network) if distils else (network,)),
        attack=make_attack(cls, epsilon, arm.attack),
        evaluation_attack=keras_adaad.attacks.get("pgd-10", epsilon=epsilon),
        **methods.counted_in_epochs(arm.method, epochs),
        **options,
    )


def make_attack(cls, epsilon, changes):
    """Returns a method's published attack, scaled to epsilon, with changes.

    Args:
        cls: The class of the method.
        epsilon: Radius of the evaluation.
        changes: Dict of `steps`, and of `radius` and `step` in units of
            epsilon.
    """
    radius = epsilon * changes.get("radius", 1.0)
    config = methods.scaled_attack(cls, radius).get_config()
    if "steps" in changes:
        config["steps"] = changes["steps"]
    if "step" in changes:
        config["step_size"] = epsilon * changes["step"]
    return PGD(**config)


class SmoothedPGDAT(keras_adaad.PGDAT):
    """PGD-AT with label smoothing of 0.1."""

    def outer_loss(self, views, logits, y):
        logits = logits["adversarial"]
        everything = ops.ones_like(logits) / logits.shape[-1]
        return 0.9 * cross_entropy_from_logits(
            y, logits
        ) + 0.1 * cross_entropy_from_logits(everything, logits)


class AdaADWithStudentsAttack(keras_adaad.AdaAD):
    """AdaAD's loss with PGD-AT's attack on the student."""

    needs_labels = True

    def inner_objective(self, x, y):
        student = logits_function(self.student)
        return lambda x_adv: cross_entropy_from_logits(y, student(x_adv))


class MeanEntropyWeighting(keras_adaad.EntropyWeighting):
    """For all samples the mean of the weights: the loss is as large."""

    def weights(self, distiller, views, logits, y):
        weights = super().weights(distiller, views, logits, y)
        return ops.mean(weights) * ops.ones_like(weights)


WEIGHTINGS = {
    "entropy": keras_adaad.EntropyWeighting,
    "mean entropy": MeanEntropyWeighting,
}
OWN = {cls.__name__: cls for cls in (SmoothedPGDAT, AdaADWithStudentsAttack)}


def at_temperature(teacher, temperature):
    """Returns the teacher with its logits divided by a temperature."""
    logits = keras.layers.Rescaling(1 / temperature)(teacher.output)
    return keras.Model(teacher.input, logits)


def plain_distillation(teacher, student):
    distiller = keras.distillation.Distiller(
        teacher,
        student,
        distillation_losses=keras.distillation.LogitsDistillation(
            loss=keras.losses.KLDivergence()
        ),
        student_loss_weight=0.1,
    )
    # A resumed run needs the variables before `fit` would create them.
    distiller.build(student.input_shape)
    return distiller
