"""One run: training, then the attacks, then its JSON."""

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil

import keras
import numpy as np

import keras_adaad
from benchmarks.study import machine
from benchmarks.study import methods
from benchmarks.study import training
from keras_adaad.writing import write_atomically

# Radii of the teacher's curve, in units of epsilon: the attack of a student may
# only be as large as the radius within which its teacher is robust.
RADII = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def run(study, budget, arm, seed, data, folder):
    """Trains and attacks one network, and writes the run's JSON.

    A killed run resumes after its last completed epoch or attack. A run that
    has its JSON is skipped.
    """
    path = folder / f"{arm.file_name(seed)}.json"
    config = configuration(study, budget, arm, seed)
    images_digest = digest_of(data)
    work = folder / "unfinished" / path.stem
    for known in (path, work / "run.json"):
        if known.exists():
            found = json.loads(known.read_text())
            check_same(found["config"], config, known)
            check_same_images(found, images_digest, known)
    if path.exists():
        return
    check_teacher(study, arm, folder, images_digest)
    print(f"\n{arm.regime} {arm.name}, seed {seed}".lstrip(), flush=True)
    work.mkdir(parents=True, exist_ok=True)
    begun = {"config": config, "images": images_digest}
    write_json(work / "run.json", begun)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    policy = machine.training_policy() if study.mixed_precision else "float32"
    with dtype_policy(policy):
        teacher = load_teacher(study, budget, arm, folder)
        network = build(study, budget, arm.network)
        images = images_for(arm, data, teacher)
        epochs = training.epochs_of(arm, images, budget)
        trainer = methods.make_trainer(
            arm, study.epsilon, epochs, teacher, network
        )
    history = training.train(
        *(trainer, arm, images, data["held out"], budget),
        *(study.augmentation, seed, work),
    )
    last = build(study, budget, arm.network)
    last.set_weights(network.get_weights())
    # Saved before the attacks, which take hours with a large teacher.
    write_atomically(path.with_suffix(".keras"), last.save)
    reports = attack(
        *(study, budget, last, data["test"], work), curve=arm.is_teacher
    )
    result = {
        **begun,
        "parameters": last.count_params(),
        "environment": {**machine.environment(), "policy": policy},
        "updates": epochs * math.ceil(len(images[0]) / budget.batch_size),
        "history": history,
        "reports": reports,
    }
    if study.keep_best and arm.averaging is None:
        result.update(
            attack_best(study, budget, last, history, data["test"], work)
        )
    write_json(path, result)
    shutil.rmtree(work)


def configuration(study, budget, arm, seed):
    """Returns the configuration of a run, as plain values."""
    spent = changed_fields(budget)
    if arm.is_teacher:
        # A teacher can be used for any students, on any backend.
        del spent["images"], spent["epochs"]
    else:
        spent["backend"] = keras.config.backend()
    return {
        "study": study.name,
        "seed": seed,
        "epsilon": study.epsilon,
        "method": arm.name,
        "regime": arm.regime,
        "arm": changed_fields(arm),
        **spent,
    }


def changed_fields(instance):
    """Returns the fields of a dataclass that differ from their defaults.

    So a field that is added later does not change older configurations.
    """
    values = {}
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if value != default:
            values[field.name] = value
    return values


def check_same(found, wanted, path):
    """Refuses runs of another configuration in the same folder."""
    wanted = json.loads(json.dumps(wanted))
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise SystemExit(
            f"{path} is a run with other values of {other}. Give another "
            "--output, or the options of that run."
        )


def digest_of(data):
    """Returns a digest of the images that a study trains and attacks."""
    digest = hashlib.sha256()
    for purpose in ("all", "held out", "test"):
        for array in data[purpose]:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def check_same_images(found, wanted, path):
    """Refuses runs of other images, or of images in another order."""
    # The runs of Fashion-MNIST were published before the digest was.
    if found.get("images", wanted) != wanted:
        raise SystemExit(
            f"{path} is a run with other images, or with other held-out and "
            "test images. Give the images of that run, or another --output."
        )


def check_teacher(study, arm, folder, images_digest):
    """Refuses a teacher whose training images may be the held-out ones here."""
    if arm.teacher is not None:
        path = folder / f"{study.arm(*arm.teacher).file_name(0)}.json"
        if path.exists():
            found = json.loads(path.read_text())
            check_same_images(found, images_digest, path)


def write_json(path, value):
    write_atomically(path, lambda part: part.write_text(json.dumps(value)))


# The networks.


@contextlib.contextmanager
def dtype_policy(name):
    """Scope in which layers get a dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build(study, budget, name):
    """Returns a new network, in the current precision."""
    return study.networks[budget.networks.get(name, name)]()


def load_teacher(study, budget, arm, folder):
    """Returns an arm's teacher, in the current precision."""
    if arm.teacher is None:
        return None
    source = study.arm(*arm.teacher)
    teacher = build(study, budget, source.network)
    path = folder / f"{source.file_name(0)}.keras"
    # Variables are float32 under every policy, so nothing is lost.
    teacher.set_weights(keras.saving.load_model(path).get_weights())
    return teacher


def images_for(arm, data, teacher):
    """Returns the training images of an arm, and their labels or `None`."""
    if arm.images == "unlabelled":
        return data["all"][0], None
    if arm.images == "pseudo":
        return with_pseudo_labels(data, teacher)
    return data[arm.images]


def with_pseudo_labels(data, teacher):
    """Returns all images, with the teacher's labels for the unlabelled ones."""
    images, labels = data["all"]
    answers = [
        # In batches, because all images as floats need gigabytes.
        teacher.predict_on_batch((part / 255).astype("float32"))
        for part in np.split(images, range(500, len(images), 500))
    ]
    found = np.concatenate(answers).argmax(axis=-1).astype("int32")
    found[data["known"]] = labels[data["known"]]
    return images, found


# The attacks.


def attack(
    study, budget, network, test, work, only=None, prefix="", curve=False
):
    """Returns the reports of the short attacks and of AutoAttack.

    With `curve`, the first one includes the accuracy over epsilon.
    """
    radii = [share * study.epsilon for share in RADII]
    attacks = {"short": study.attacks, "autoattack": [budget.autoattack]}
    return {
        name: keras_adaad.evaluate_robustness(
            network,
            *test,
            list(names),
            study.epsilon,
            individual=name == "short",
            reliability_checks=name == "autoattack",
            curve=radii if curve and name == "short" else False,
            state_path=work / f"{prefix}{name}.npz",
            verbose=0,
        ).to_dict()
        for name, names in attacks.items()
        if only in (None, name)
    }


def attack_best(study, budget, network, history, test, work):
    """Returns the best epoch on the held-out images, and its report."""
    best = max(history, key=training.selecting)["epoch"]
    result = {"best epoch": best}
    if best != history[-1]["epoch"]:
        network.load_weights(work / "best.weights.h5")
        found = attack(
            study, budget, network, test, work, "autoattack", "best-"
        )
        result["best"] = found["autoattack"]
    return result
