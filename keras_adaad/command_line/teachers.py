"""`keras-adaad teachers`: ranks teachers by their use for a student."""

import importlib.util
import re

import click
import keras

from keras_adaad.attacks import PGD
from keras_adaad.command_line.data import check_classes
from keras_adaad.command_line.data import class_names
from keras_adaad.command_line.data import load_part
from keras_adaad.command_line.errors import as_given
from keras_adaad.command_line.errors import bad_input
from keras_adaad.command_line.errors import check_folder
from keras_adaad.command_line.errors import naming
from keras_adaad.command_line.evaluate import verbosity
from keras_adaad.command_line.networks import new_student
from keras_adaad.evaluation.threat_model import ThreatModel
from keras_adaad.methods import RSLAD
from keras_adaad.teachers.candidates import published_entry
from keras_adaad.teachers.rank import rank_teachers
from keras_adaad.zoo.load import fetch


def teachers(
    teachers,
    student,
    data,
    epsilon,
    norm,
    warmup,
    images,
    limit,
    seed,
    state,
    json,
    plot,
    data_dir,
    download,
):
    """Prints the ranking."""
    if plot:
        _check_plot(plot)
    check_folder("--json", json, ".json")
    check_folder("--plot", plot)
    x, y = load_part(data, "train", limit, data_dir, download)
    # The file of the state knows the student by its first weights.
    keras.utils.set_random_seed(seed)
    with naming(f"--student {student}"):
        known = class_names(data, "train")
        outputs = int(y.max()) + 1 if known is None else len(known)
        network = new_student(student, x.shape[1:], outputs)
    num_classes = network.output_shape[-1]
    check_classes(data, num_classes, f"--student {student}", "train")
    sources = dict(
        _source(teacher, num_classes, norm, download) for teacher in teachers
    )
    if len(sources) < len(teachers):
        raise click.UsageError(
            f"TEACHER {' '.join(teachers)}: two have the same name. Give one "
            "another: NAME=FILE."
        )
    given = {
        "teachers": f"TEACHER {' '.join(teachers)}",
        "x": f"--data {data}",
        "y": f"--data {data}",
        "attack": as_given("--epsilon", epsilon),
        "state_path": f"--state {state}",
    }
    with naming(given["attack"]):
        attack = _attack(ThreatModel.of(epsilon, norm).epsilon, norm)
    try:
        ranking = rank_teachers(
            sources,
            network,
            x,
            y,
            attack,
            warmup=warmup,
            num_images=images,
            seed=seed,
            state_path=state,
            verbose=verbosity(),
        )
    except (TypeError, ValueError) as error:
        match = re.search(r"`(\w+)", str(error))
        name = match[1] if match else "student"
        raise bad_input(
            given.get(name, f"--student {student}"), error
        ) from error
    if json:
        ranking.save(json)
    print(ranking)
    if plot:
        ranking.plot(plot)


def _check_plot(path):
    """Raises unless Matplotlib can draw to a path: hours later is too late."""
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError(
            f"--plot {path} needs Matplotlib: pip install matplotlib."
        )
    from matplotlib.figure import Figure

    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise click.UsageError(
            f"--plot {path}: the name must end in one of "
            f"{', '.join(f'.{suffix}' for suffix in sorted(known))}."
        )


def _source(teacher, num_classes, norm, download):
    """Returns the name of a teacher, and the file that holds it."""
    with naming(f"TEACHER {teacher}"):
        name, _, file = teacher.rpartition("=")
        if file.endswith(".keras"):
            usual = re.split(r"[\\/]", file)[-1].removesuffix(".keras")
            return name or usual, file
        name, _, file = teacher.partition("=")
        entry = published_entry(name, num_classes, norm)
        return name, fetch(entry, file or None, download)


def _attack(epsilon, norm):
    """Returns the attack of RSLAD and AdaAD, scaled to epsilon."""
    config = RSLAD.published_attack((0.0, 1.0)).get_config()
    return PGD(
        **{**config, "epsilon": epsilon, "step_size": epsilon / 4, "norm": norm}
    )
