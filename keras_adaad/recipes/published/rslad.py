"""Recipes of RSLAD's code, and of the codes that take over its settings."""

from typing import Any

from keras_adaad.recipes.recipe import Recipe
from keras_adaad.recipes.schedules import Drops

RSLAD: dict[str, Any] = {
    "epochs": 300,
    "schedule": Drops((215, 260, 285)),
    "weight_decay": 2e-4,
    "student": "ResNet18",
}

# RSLAD, MTARD and B-MTARD multiply the mean over batch and classes by this.
SCALES = {"cifar10": 1.0, "cifar100": 10.0}

ALL = [
    *(
        Recipe(
            name="RSLAD",
            dataset=dataset,
            method="RSLAD",
            constructor={
                "alpha": 5 / 6,
                "reduction": "mean",
                "scale": SCALES[dataset],
            },
            selection="by hand, on PGD-20 accuracy on the test set",
            source="https://github.com/zibojia/RSLAD",
            notes=notes,
            **RSLAD,
        )
        for dataset, notes in (
            ("cifar10", ("The teacher is a WideResNet-34-10 from TRADES.",)),
            (
                "cifar100",
                (
                    "The teacher is Gowal's WideResNet-70-16.",
                    "The script normalises the teacher's images with the mean "
                    "and standard deviation of CIFAR-10, and runs it in "
                    "float16. The zoo's model normalises with those of "
                    "CIFAR-100, on which it was trained.",
                ),
            ),
        )
    ),
    *(
        Recipe(
            name=method,
            dataset=dataset,
            method=method,
            constructor={
                "weight_rate": 0.025,
                "beta": 1.0,
                **temperatures,
                "reduction": "mean",
                "scale": SCALES[dataset],
            },
            selection=selection,
            source=source,
            notes=(
                "A robust teacher, and a naturally trained `clean_teacher`; "
                "the code leaves their paths empty.",
                "The rates of the weights and temperatures drop with the "
                "learning rate.",
                *notes[dataset],
            ),
            **RSLAD,
        )
        for method, temperatures, selection, source, notes in (
            (
                "MTARD",
                {},
                "by hand, on PGD-20 accuracy on the test set",
                "https://github.com/zhaoshiji123/MTARD",
                {"cifar10": (), "cifar100": ()},
            ),
            (
                "BMTARD",
                {"temperature_rate": 0.001, "max_temperature": 10.0},
                "best mean of clean and PGD-20 accuracy on the test set",
                "https://github.com/zhaoshiji123/MTARD-extension",
                {
                    "cifar10": (
                        "The clean teacher is a ResNet-56, "
                        "`keras_adaad.models.ResNet56`.",
                    ),
                    "cifar100": (
                        "The code has a script for CIFAR-10 alone. The "
                        "numbers are those of MTARD's script for CIFAR-100.",
                    ),
                },
            ),
        )
        for dataset in ("cifar10", "cifar100")
    ),
    Recipe(
        name="ABSLD",
        dataset="cifar10",
        method="ABSLD",
        constructor={
            "alpha": 5 / 6,
            "reduction": "mean",
            "temperature_rate": 0.1,
            "min_temperature": 0.5,
            "max_temperature": 5.0,
        },
        selection=(
            "best sum of PGD-20 accuracy and that of the worst class, on the "
            "test set"
        ),
        source="https://github.com/zhaoshiji123/ABSLD",
        notes=(
            "The teacher is a WideResNet-34-10 from TRADES.",
            "The code divides both soft labels by both temperatures, because "
            "two names refer to the same memory.",
            "The script saves under a name that it never sets.",
        ),
        **RSLAD,
    ),
]
