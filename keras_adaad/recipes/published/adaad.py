"""Recipes of AdaAD's code, and of the codes that take over its settings."""

from typing import Any

from keras_adaad.recipes.recipe import Recipe
from keras_adaad.recipes.schedules import Cosine
from keras_adaad.recipes.schedules import Drops

# Settings that AdaAD's code uses for all its methods.
ADAAD: dict[str, Any] = {
    "epochs": 200,
    "schedule": Drops((100, 150)),
    "weight_decay": 5e-4,
    "student": "ResNet18",
    "selection": "best PGD-10 accuracy on the test set",
    "source": "https://github.com/boyellow/AdaAD",
}
ADAAD_NOTES = (
    "The code's own defaults are epsilon 16/255 and step size 4/255, its "
    "setting with a larger search radius; this is the base setting.",
    "The test set selects the epoch, so its accuracy there is too good.",
)
LTD = {
    "cifar10": "Chen2021LTD_WRN34_20",
    "cifar100": "Chen2021LTD_WRN34_10",
}

ALL = [
    *(
        Recipe(
            name="AdaAD",
            dataset=dataset,
            method="AdaAD",
            constructor={"alpha": 1.0, "reduction": reduction},
            teacher=LTD[dataset],
            notes=ADAAD_NOTES,
            **ADAAD,
        )
        for dataset, reduction in (
            ("cifar10", "mean"),
            ("cifar100", "batchmean"),
        )
    ),
    *(
        Recipe(
            name="AdaAD-generated",
            dataset=dataset,
            method="AdaAD",
            constructor={"alpha": 1.0, "reduction": reduction},
            teacher=LTD[dataset],
            epochs=400,
            schedule=Cosine(),
            learning_rate=0.2,
            weight_decay=5e-4,
            batch_size=512,
            student="ResNet18",
            average_decay=0.995,
            extra_fraction=0.7,
            cutmix=True,
            selection="best PGD-40 accuracy on held-out images, averaged "
            "weights",
            source=(
                "https://github.com/wzekai99/DM-Improves-AT (Wang et al. "
                "2023), and AdaAD's code"
            ),
            notes=(
                "No paper reports it: method, attack and teacher are those of "
                "AdaAD, the rest is published for TRADES with generated data.",
                "DeepMind's code of Gowal et al. 2021 and Rebuffi et al. 2021, "
                "https://github.com/google-deepmind/deepmind-research, has the "
                "same share of 0.7, 400 epochs, weight decay and decay of "
                "0.995, with batches of 1024 and a learning rate of 0.4.",
                "CutMix is that of Rebuffi et al., with a box for each image; "
                "Wang et al.'s code has it as an option.",
                "The code raises the learning rate during the first 10 epochs, "
                "has Nesterov momentum, and averages from epoch 10 on, with a "
                "decay that grows to 0.995.",
                "Its label smoothing of 0.1 has no place here: AdaAD takes the "
                "teacher's outputs for labels.",
            ),
        )
        for dataset, reduction in (
            ("cifar10", "mean"),
            ("cifar100", "batchmean"),
        )
    ),
    *(
        Recipe(
            name="AdaIAD",
            dataset=dataset,
            method="AdaIAD",
            constructor={
                "alpha": 1.0,
                "beta": 0.1,
                "begin_epoch": 60,
                "temperature": 30.0,
                "reference_passes": True,
            },
            teacher=LTD[dataset],
            notes=ADAAD_NOTES,
            **ADAAD,
        )
        for dataset in ("cifar10", "cifar100")
    ),
    *(
        Recipe(
            name="PGDAT",
            dataset=dataset,
            method="PGDAT",
            constructor={},
            clip_start=True,
            **{**ADAAD, "epochs": 110, "schedule": Drops((100, 105))},
            notes=(
                "The baseline of AdaAD's code: a normal start, not the usual "
                "uniform one.",
                ADAAD_NOTES[1],
            ),
        )
        for dataset in ("cifar10", "cifar100")
    ),
    *(
        Recipe(
            name="DGAD",
            dataset=dataset,
            method="DGAD",
            constructor={"consistency": 1.0},
            notes=(
                "For MobileNetV2 the code multiplies two terms of the loss "
                "that it means to add.",
                ADAAD_NOTES[1],
            ),
            **{**ADAAD, "source": "https://github.com/kunsaram01/DGAD"},
        )
        for dataset in ("cifar10", "cifar100")
    ),
]
