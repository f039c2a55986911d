"""Writes the files of this folder, with the code that is to be outlived.

The files are those of the package as of commit b7a58ca. Do not write them anew
with later code: they stand for what users have on their disks. The commit that
added this file has that code. There, with one backend after another:

    for backend in tensorflow jax torch; do
        KERAS_BACKEND=$backend python -m tests.saved_files.make
    done

TensorFlow writes the data, the trainers, the network and the attacks. Each
backend writes a state and a report of an evaluation, for a state belongs to its
backend.

Each backend also says what the trainers of TensorFlow do in one more step. The
random starts of the attack differ between backends, so these numbers do too.
All else agrees: the logits of a trainer that was loaded within 2e-6; and, with
an attack that starts at the clean image, the loss of the step within 1e-6 of
its value, and the logits after it within 2e-6. One backend on processors
without AVX, or without oneDNN, differs from itself by as little.

| file | what wrote it |
|---|---|
| `data.npz` | 32 digits of three classes |
| `<trainer>.keras` | `save`, after the third of three epochs |
| `network.keras` | `save` of a plain network |
| `attacks.json` | `keras.saving.serialize_keras_object` of each attack |
| `state-<backend>.npz` | an evaluation that was killed in its third attack |
| `report-<backend>.json` | `RobustnessReport.save` after all its attacks |
| `expected.json` | `observed.py` |
"""

import json
import unittest.mock
import zipfile

import keras
import numpy as np

import keras_adaad
from keras_adaad import attacks
from keras_adaad.optimizers import CoupledSGD
from tests.saved_files import observed
from tests.saved_files.observed import FOLDER

EPSILON = 0.1
BACKEND = keras.backend.backend()


def write_data():
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = np.flatnonzero(digits.target < 3)[:32]
    np.savez_compressed(
        FOLDER / "data.npz",
        x=digits.images[chosen].astype("uint8")[..., None],
        y=digits.target[chosen].astype("int32"),
    )


def network(name, widths, seed):
    """Returns a small network that knows the digits a little."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1), name="images")
    for i, width in enumerate(widths):
        x = keras.layers.Conv2D(
            width, 3, 2, "same", use_bias=False, name=f"conv{i}"
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.8, name=f"bn{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = keras.layers.Dense(3, name="logits")(x)
    model = keras.Model(inputs, outputs, name=name)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    copy.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    copy.fit(*observed.data(), batch_size=8, epochs=8, verbose=0)
    # Without what `compile` would add to the file.
    model.set_weights(copy.get_weights())
    return model


def pgd(**arguments):
    arguments = {"steps": 2, "step_size": 0.04, "seed": 5, **arguments}
    return attacks.PGD(epsilon=EPSILON, **arguments)


def trainers(teacher, clean_teacher, student):
    """Returns the functions that make the trainers, by the names of files."""
    two = {"teacher": teacher, "student": student}
    three = {**two, "clean_teacher": clean_teacher}
    return {
        "AdaAD": lambda: keras_adaad.AdaAD(
            **two,
            attack=pgd(start="normal", start_scale=0.02, clip_start=False),
            alpha=0.8,
            temperature=2.0,
            reduction="mean",
            seed=11,
            name="distiller",
        ),
        "AdaAD-IGDM": lambda: keras_adaad.AdaAD(
            **two,
            attack=pgd(),
            regularizers=[
                keras_adaad.IGDM(
                    2.0, ("adversarial", "clean", "opposite", "adversarial")
                )
            ],
            evaluation_attack=None,
        ),
        "AdaAD-linear-teacher": lambda: keras_adaad.AdaAD(
            **two, attack=pgd(), teacher_in_attack="linear"
        ),
        "AdaIAD": lambda: keras_adaad.AdaIAD(
            **two,
            attack=pgd(),
            alpha=0.9,
            beta=0.2,
            begin_epoch=1,
            temperature=4.0,
        ),
        "ARD": lambda: keras_adaad.ARD(
            **two, attack=pgd(), alpha=0.7, temperature=5.0, reduction="mean"
        ),
        "ARD-reference-passes": lambda: keras_adaad.ARD(
            **two, attack=pgd(), temperature=5.0, reference_passes=True
        ),
        "BMTARD": lambda: keras_adaad.BMTARD(
            **three,
            attack=pgd(),
            temperature_rate=0.5,
            max_temperature=3.0,
            weight_rate=0.2,
            beta=0.5,
            drops=(0.5, 0.9),
        ),
        "DGAD": lambda: keras_adaad.DGAD(
            **two, attack=pgd(restarts=2), consistency=2.0
        ),
        "IAD": lambda: keras_adaad.IAD(
            **two, attack=pgd(), alpha=0.9, beta=0.3, begin_epoch=1
        ),
        "IADII": lambda: keras_adaad.IADII(
            **three, attack=pgd(), alpha=0.4, clean_alpha=0.3, begin_epoch=2
        ),
        "MTARD": lambda: keras_adaad.MTARD(
            **three,
            attack=pgd(),
            weight_rate=0.2,
            drops=(0.9,),
            reduction="mean",
            scale=3.0,
        ),
        "PGDAT": lambda: keras_adaad.PGDAT(
            student,
            attacks.APGD(epsilon=EPSILON, steps=3, rho=0.7, seed=5),
            evaluation_attack=attacks.FGSM(epsilon=EPSILON),
        ),
        "PGDAT-weight-perturbation": lambda: keras_adaad.PGDAT(
            student, pgd(), weight_perturbation=0.02
        ),
        "RSLAD": lambda: keras_adaad.RSLAD(
            **two,
            attack=attacks.PGD(epsilon=0.5, norm="l2", steps=2, seed=5),
            alpha=0.7,
            reduction="mean",
            scale=2.0,
        ),
        "SAAD": lambda: keras_adaad.SAAD(
            **two,
            attack=pgd(),
            entropy_scale=3.0,
            igdm_weight=2.0,
            clean_weight=0.5,
            correction=0.8,
        ),
        # Its own attack, as it was published.
        "TRADES": lambda: keras_adaad.TRADES(student, beta=3.0, seed=5),
    }


def optimizer(name):
    learning_rate = 0.05
    if name == "TRADES":
        learning_rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [1], [0.05, 0.03]
        )
    return CoupledSGD(
        learning_rate,
        momentum=0.9,
        weight_decay=5e-3,
        nesterov=name == "PGDAT",
    )


def write_trainers():
    """Writes the files, and returns what the trainers were when saved."""
    x, y = observed.data()
    networks = {
        "teacher": network("teacher", (3, 4), seed=1),
        "clean_teacher": network("clean_teacher", (2, 3), seed=2),
        "student": network("student", (2, 4), seed=3),
    }
    weights = {name: model.get_weights() for name, model in networks.items()}
    expected = {}
    for name, make in trainers(**networks).items():
        for key, model in networks.items():
            model.trainable = True
            model.set_weights(weights[key])
        keras.utils.set_random_seed(0)
        trainer = make()
        trainer.compile(optimizer(name), metrics=["accuracy"])
        trainer.fit(
            x[:16], y[:16], batch_size=8, initial_epoch=2, epochs=3, verbose=0
        )
        expected[name] = observed.state_of(trainer)
        save(trainer, name)
    save(network("network", (4, 4), seed=4), "network")
    return expected


def save(model, name):
    """Saves a model, then compresses the file, which Keras does not."""
    path = FOLDER / f"{name}.keras"
    model.save(path)
    with zipfile.ZipFile(path) as file:
        content = {part: file.read(part) for part in file.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for part, value in content.items():
            file.writestr(part, value, compresslevel=9)


def write_attacks():
    """Writes every attack, no argument of which is a default."""
    common = {"epsilon": 0.2, "input_range": (-1.0, 2.0)}
    more = {**common, "norm": "l2", "seed": 7}
    made = {
        "FGSM": attacks.FGSM(**common, norm="l2", loss="margin"),
        "PGD": attacks.PGD(
            **more,
            step_size=0.07,
            steps=3,
            start="normal",
            start_scale=0.02,
            clip_start=False,
            restarts=2,
            loss="dlr",
        ),
        "PGD-own-loss": attacks.PGD(
            **common, loss=keras_adaad.losses.margin_from_logits
        ),
        "CW": attacks.CW(**more, step_size=0.07, steps=3, restarts=2),
        "APGD": attacks.APGD(
            **more, steps=3, restarts=2, loss="dlr", rho=0.6, eot_steps=2
        ),
        "TargetedAPGD": attacks.TargetedAPGD(
            **more, steps=3, restarts=2, targets=2, rho=0.6, eot_steps=2
        ),
        "FAB": attacks.FAB(
            **more,
            steps=3,
            restarts=2,
            targets=None,
            alpha_max=0.2,
            eta=1.1,
            beta=0.8,
        ),
        "Square": attacks.Square(**more, queries=30, restarts=2, p_init=0.5),
        "AutoAttack": attacks.AutoAttack(**more, version="plus"),
    }
    serialize = keras.saving.serialize_keras_object
    write_json("attacks.json", {name: serialize(made[name]) for name in made})


def write_evaluations():
    """Writes a state of two attacks of four, and the report of all four."""
    model = keras.models.load_model(FOLDER / "network.keras")
    path = FOLDER / f"state-{BACKEND}.npz"
    path.unlink(missing_ok=True)
    killed = unittest.mock.patch.object(
        attacks.CW, "run", side_effect=KeyboardInterrupt
    )
    try:
        with killed:
            observed.evaluate(model, path)
    except KeyboardInterrupt:
        pass
    report = observed.evaluate(model)
    report.save(FOLDER / f"report-{BACKEND}.json")


def write_json(name, values):
    """Writes a dict, an entry a line."""
    lines = (f'"{key}": {json.dumps(values[key])}' for key in sorted(values))
    (FOLDER / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main():
    path = FOLDER / "expected.json"
    if BACKEND == "tensorflow":
        write_data()
        write_attacks()
        expected = write_trainers()
    else:
        expected = json.loads(path.read_text())
    for name, values in expected.items():
        keras.utils.clear_session(free_memory=False)
        trainer = keras.models.load_model(FOLDER / f"{name}.keras")
        steps = values.setdefault("step", {})
        steps[BACKEND] = observed.step_of(trainer)
    write_json("expected.json", expected)
    write_evaluations()


if __name__ == "__main__":
    main()
