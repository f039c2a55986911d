"""AdaAD in bfloat16 and float16: the attack's strength, and 2,000 steps.

    python -m benchmarks.precision [--steps 2000]

Runs on real handwritten digits, on each backend. A robust teacher and a student
are trained in float32. Then each pair of policies of teacher and student takes
`steps` steps of AdaAD, with 3 attack steps, from the same weights. The strength
of the attack is measured before and after them. It is KL(T(x*) || S(x*)),
evaluated in float32 at the x* that networks of these policies find, relative to
its value at the x* of float32. Writes `results/precision.json`.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

BACKENDS = ("tensorflow", "jax", "torch")
# Policies of teacher and student.
POLICIES = {
    "float32": ("float32", "float32"),
    "bfloat16 teacher": ("mixed_bfloat16", "float32"),
    "bfloat16": ("mixed_bfloat16", "mixed_bfloat16"),
    "float16": ("mixed_float16", "mixed_float16"),
}
WIDTHS = ((16, 24), (8, 12))
EPSILON = 0.1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    parser.add_argument("--policies", nargs="+", default=list(POLICIES))
    parser.add_argument("--output", default="results/precision.json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        rows = measure(arguments.policies, arguments.steps)
        pathlib.Path(arguments.worker).write_text(json.dumps(rows))
        return
    output = pathlib.Path(arguments.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    results = {"steps": arguments.steps}
    for backend in arguments.backends:
        print(backend, flush=True)
        rows = output.with_suffix(f".{backend}")
        subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.precision"),
                *("--policies", *arguments.policies),
                *("--steps", str(arguments.steps), "--worker", str(rows)),
            ],
            env={**os.environ, "KERAS_BACKEND": backend},
            check=True,
        )
        results[backend] = json.loads(rows.read_text())
        rows.unlink()
        output.write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{report(results)}\n\nSaved {output}")


def report(results):
    """Returns the table."""
    lines = [
        f"| | strength | after {results['steps']} steps | loss | robust "
        "accuracy | steps skipped | NaN |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for backend in (b for b in BACKENDS if b in results):
        for policy, row in results[backend].items():
            lines.append(
                f"| {backend}, {policy} | {row['strength_before']:.4f} | "
                f"{row['strength_after']:.4f} | {row['loss']:.3f} | "
                f"{row['robust_accuracy']:.3f} | {row['skipped_steps']} | "
                f"{'no' if row['finite'] else 'YES'} |"
            )
    return "\n".join(lines)


def measure(policies, steps):
    x_train, y_train, x_test, y_test = digits()
    weights = pretrained(x_train, y_train)
    rows = {}
    for policy in policies:
        row = train(POLICIES[policy], weights, steps, x_train, x_test, y_test)
        rows[policy] = row
        print(f"{policy}: {row}", flush=True)
    return rows


def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    x = (data.images / 16.0).astype("float32")[..., None]
    y = data.target.astype("int32")
    return x[:1280], y[:1280], x[1280:], y[1280:]


def pretrained(x, y):
    """Returns the weights of a robust teacher and a partly trained student."""
    import keras

    import keras_adaad

    keras.utils.set_random_seed(0)
    teacher, student = (build(w, "float32") for w in WIDTHS)
    for network, epochs in ((teacher, 20), (student, 3)):
        trainer = keras_adaad.PGDAT(network, attack(5))
        trainer.compile(keras.optimizers.Adam(0.01))
        trainer.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return teacher.get_weights(), student.get_weights()


def train(policies, weights, steps, x_train, x_test, y_test):
    import keras
    import numpy as np

    import keras_adaad

    keras.utils.set_random_seed(0)
    distiller = keras_adaad.AdaAD(*pair(policies, weights), attack(3), seed=0)
    distiller.compile(keras.optimizers.SGD(0.02, momentum=0.9))
    before = strength(distiller, x_test)
    size, epochs = 32, 10
    start = time.perf_counter()
    history = distiller.fit(
        batches(x_train, size, steps // epochs),
        epochs=epochs,
        steps_per_epoch=steps // epochs,
        shuffle=False,
        verbose=0,
    ).history
    seconds = time.perf_counter() - start
    optimizer = distiller.optimizer
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return {
        "strength_before": before,
        "strength_after": strength(distiller, x_test),
        "loss": history["loss"][-1],
        "robust_accuracy": distiller.evaluate(
            x_test, y_test, verbose=0, return_dict=True
        )["robust_accuracy"],
        "skipped_steps": steps - int(inner.iterations),
        # The loss of an epoch is a mean, so one NaN among its steps shows.
        "finite": bool(
            np.isfinite(history["loss"]).all()
            and all(np.isfinite(w).all() for w in distiller.get_weights())
        ),
        "seconds": seconds,
    }


def batches(x, size, steps):
    """Yields random batches endlessly."""
    import numpy as np

    generator = np.random.default_rng(0)
    while True:
        yield x[generator.integers(len(x), size=size)], None


def strength(distiller, x):
    """Returns the divergence at the x* found, relative to float32's."""
    import numpy as np

    import keras_adaad

    models = (distiller.teacher, distiller.student)
    exact = keras_adaad.AdaAD(
        *pair(POLICIES["float32"], [m.get_weights() for m in models]),
        attack(10),
    )
    found = keras_adaad.AdaAD(*models, attack(10))
    noise = np.random.default_rng(0).normal(scale=0.001, size=x.shape)
    divergences = [
        divergence(exact, searcher.perturb(x, noise=noise))
        for searcher in (found, exact)
    ]
    return divergences[0] / divergences[1]


def divergence(distiller, x):
    from keras import ops

    from keras_adaad.losses import kl_divergence_from_logits

    values = kl_divergence_from_logits(
        distiller.teacher.predict(x, verbose=0),
        distiller.student.predict(x, verbose=0),
    )
    return float(ops.mean(values))


def attack(steps):
    import keras_adaad

    return keras_adaad.attacks.PGD(
        epsilon=EPSILON, step_size=EPSILON / 3, steps=steps, seed=0
    )


def pair(policies, weights):
    models = [build(*widths) for widths in zip(WIDTHS, policies, strict=True)]
    for model, values in zip(models, weights, strict=True):
        model.set_weights(values)
    return models


def build(widths, policy):
    import keras

    from benchmarks import networks

    keras.config.set_dtype_policy(policy)
    try:
        return networks.conv_net(widths, (8, 8, 1))
    finally:
        keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main()
