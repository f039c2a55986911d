"""The temperatures of two teachers, of B-MTARD and CIARD."""

from keras import ops

from keras_adaad.losses import entropy_from_logits


def softened(model, robust, clean, rate):
    """Returns the logits of two teachers, divided by their temperatures.

    In a training step, the temperatures then move for the next one, so that the
    entropies of the two become similar:

        t_a <- clip(t_a - rate sign(H_a - H_c), 1, max_temperature)
        t_c <- clip(t_c - rate sign(H_c - H_a), 1, max_temperature)

    Args:
        model: The method, with `max_temperature` and with the states
            `adversarial_temperature` and `clean_temperature`.
        robust, clean: Logits of shape `(batch_size, num_classes)`.
        rate: Step size of the temperatures.
    """
    temperatures = model.adversarial_temperature, model.clean_temperature
    logits = robust / temperatures[0], clean / temperatures[1]
    if model.learning:
        h_a, h_c = (ops.mean(entropy_from_logits(z)) for z in logits)
        excess = ops.sign(h_a - h_c)
        for temperature, direction in zip(
            temperatures, (-excess, excess), strict=True
        ):
            moved = temperature + rate * direction
            temperature.assign(ops.clip(moved, 1.0, model.max_temperature))
    return logits
