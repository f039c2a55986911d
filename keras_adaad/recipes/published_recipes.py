"""The published recipes.

The numbers are those of the reference code. If the code does not do what it
intends, a note says so.
"""

from typing import Any

from keras_adaad.recipes.recipe import Recipe

# Settings that AdaAD's code uses for all its methods.
ADAAD: dict[str, Any] = {
    "epochs": 200,
    "drops": (100, 150),
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

# For ARD, and for IAD, which uses ARD's learning rate function.
NO_SECOND_DROP = (
    "The code means to drop the learning rate at epoch 150 too, but sets 0.01 "
    "again there."
)

RSLAD: dict[str, Any] = {
    "epochs": 300,
    "drops": (215, 260, 285),
    "weight_decay": 2e-4,
    "student": "ResNet18",
}

# RSLAD, MTARD and B-MTARD multiply the mean over batch and classes by this.
SCALES = {"cifar10": 1.0, "cifar100": 10.0}

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
            drops=(),
            cosine=True,
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
            **{**ADAAD, "epochs": 110, "drops": (100, 105)},
            notes=(
                "The baseline of AdaAD's code: a normal start, not the usual "
                "uniform one.",
                ADAAD_NOTES[1],
            ),
        )
        for dataset in ("cifar10", "cifar100")
    ),
    Recipe(
        name="TRADES",
        dataset="cifar10",
        method="TRADES",
        constructor={"beta": 6.0},
        epochs=76,
        drops=(74,),
        weight_decay=2e-4,
        epsilon=0.031,
        step_size=0.007,
        student="WideResNet-34-10",
        selection="last epoch",
        source="https://github.com/yaodongyu/TRADES",
        notes=(
            "The script counts epochs from 1 and drops the learning rate from "
            "75 on; its further drops, at 90 and 100, are never reached.",
            "Beta and the step size are the script's; the function's own "
            "defaults are 1 and 0.003.",
        ),
    ),
    *(
        Recipe(
            name="ARD",
            dataset=dataset,
            method="ARD",
            constructor={
                "alpha": 1.0,
                "temperature": 30.0,
                "reduction": "mean",
                "reference_passes": True,
            },
            epochs=200,
            drops=(100,),
            weight_decay=2e-4,
            start="uniform",
            batch_size=batch_size,
            student="MobileNetV2",
            selection="last epoch",
            source="https://github.com/goldblum/AdversariallyRobustDistillation",
            notes=(NO_SECOND_DROP,),
        )
        for dataset, batch_size in (("cifar10", 128), ("cifar100", 256))
    ),
    *(
        Recipe(
            name=method,
            dataset=dataset,
            method=method,
            constructor=constructor,
            epochs=200,
            drops=(100,),
            weight_decay=2e-4,
            start="uniform",
            student="ResNet18",
            selection="best PGD-10 accuracy on the test set",
            source="https://github.com/ZFancy/IAD",
            notes=(NO_SECOND_DROP, teachers),
        )
        for method, constructor, teachers in (
            (
                "IAD",
                {
                    "alpha": 1.0,
                    "beta": 0.1,
                    "begin_epoch": 60,
                    "temperature": 1.0,
                    "reference_passes": True,
                },
                "The teacher is a ResNet-18 too.",
            ),
            (
                "IADII",
                {
                    "alpha": 0.5,
                    "clean_alpha": 0.25,
                    "beta": 0.1,
                    "begin_epoch": 40,
                    "temperature": 1.0,
                    "reference_passes": True,
                },
                "The robust teacher is a ResNet-18 too; the second teacher, "
                "`clean_teacher`, is naturally trained.",
            ),
        )
        for dataset in ("cifar10", "cifar100")
    ),
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
    *(
        Recipe(
            name="DKL",
            dataset=dataset,
            method="DKL",
            constructor={
                "alpha": 4.0,
                "beta": 20.0,
                "temperature": 4.0,
                "inner_beta": inner_beta,
                "growing_epsilon": True,
                "weight_perturbation": 0.005,
            },
            epochs=200,
            drops=(),
            cosine=True,
            learning_rate=0.2,
            weight_decay=5e-4,
            step_size=4 / 255,
            steps=5,
            student="WideResNet-34-10",
            selection="exponential average of the epochs' weights, decay 0.9",
            source=(
                "https://github.com/jiequancui/DKL, DKLv1/Adv-training-dkl"
            ),
            notes=(
                "The code perturbs no weights before epoch 10, counted from 1.",
                "It means to raise the number of attack steps from 2 to 5, but "
                "takes 5 in all epochs.",
                note,
            ),
        )
        for dataset, inner_beta, note in (
            (
                "cifar10",
                0.0,
                "The log of the published model is named after alpha 3; the "
                "script has 4.",
            ),
            (
                "cifar100",
                1.0,
                "The script has a second run with alpha 5; the logs of the "
                "published models are named after alpha 3, and after alpha 4 "
                "with temperature 2.",
            ),
        )
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
    *(
        Recipe(
            name="PeerAiD",
            dataset=dataset,
            method="PeerAiD",
            constructor={
                "temperature": temperature,
                "lambda1": lambdas[0],
                "lambda2": lambdas[1],
                "lambda3": lambdas[2],
                "gamma1": 1.0,
                "gamma2": gamma2,
            },
            epochs=epochs,
            drops=drops,
            weight_decay=2e-4,
            student=student,
            selection="best PGD accuracy on the test set, averaged weights",
            average_from=drops[0],
            source="https://github.com/jaewonalive/PeerAiD",
            notes=(
                "The peer starts untrained and has the student's architecture.",
                "The test set selects the epoch, so its accuracy there is too "
                "good.",
            ),
        )
        for dataset, temperature, lambdas, gamma2, epochs, drops, student in (
            (
                *("cifar10", 5.0, (0.0, 1.0, 1.0), 0.1),
                *(300, (214, 259, 284), "ResNet18"),
            ),
            (
                *("cifar100", 5.0, (0.0, 1.0, 1.0), 1.0),
                *(300, (214, 259, 284), "ResNet18"),
            ),
            (
                *("tiny_imagenet", 1.0, (0.035, 35.0, 20.0), 100.0),
                *(200, (99, 149), None),
            ),
        )
    ),
    *(
        Recipe(
            name="IGDM",
            dataset=dataset,
            method="AdaAD",
            constructor={"alpha": 1.0, "reduction": "batchmean"},
            igdm={
                "weight": weight,
                "order": ("adversarial", "clean", "opposite", "adversarial"),
            },
            epochs=200,
            drops=(100, 150),
            weight_decay=2e-4,
            student="ResNet18",
            teacher=teacher,
            selection="last epoch",
            source=(
                "https://github.com/Xavaitron/VLM_Distillation, ICLR_IGDM, a "
                "copy of the authors' code"
            ),
            notes=(
                "On AdaAD; the published term goes with other methods too.",
                note,
                "The code divides the epoch by 200, however many there are.",
            ),
        )
        for dataset, weight, teacher, note in (
            (
                "cifar10",
                1.0,
                None,
                "The weight is that of the authors' later code, "
                "https://github.com/HongsinLee/saad.",
            ),
            (
                "cifar100",
                20.0,
                "Wang2023Better_WRN-28-10",
                "The weight is that of the script; the authors' later code, "
                "https://github.com/HongsinLee/saad, has 10.",
            ),
        )
    ),
    *(
        Recipe(
            name="SAAD",
            dataset=dataset,
            method="SAAD",
            constructor={
                "entropy_scale": 5.0,
                "igdm_weight": igdm_weight,
                "clean_weight": 0.0,
                "correction": 1.0,
            },
            epochs=200,
            drops=(100, 150),
            weight_decay=2e-4,
            padding=padding,
            student=student,
            selection="last epoch, averaged weights",
            teacher=teacher,
            average_from=94,
            source="https://github.com/HongsinLee/saad",
            notes=(
                "The code ignores its weight decay flag: 2e-4 is written into "
                "it.",
                "On CIFAR the teachers are RobustBench models, by name.",
                "The code counts epochs from 1: its average begins at 95.",
            ),
        )
        for dataset, igdm_weight, padding, student, teacher in (
            (
                *("cifar10", 1.0, 4, "ResNet18"),
                "Gowal2021Improving_28_10_ddpm_100m",
            ),
            ("cifar100", 10.0, 4, "ResNet18", None),
            ("tiny_imagenet", 10.0, 8, "PreActResNet18", None),
        )
    ),
]
