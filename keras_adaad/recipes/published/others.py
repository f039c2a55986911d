"""Recipes of codes with settings of their own."""

from keras_adaad.recipes.recipe import Recipe
from keras_adaad.recipes.schedules import Cosine
from keras_adaad.recipes.schedules import Drops
from keras_adaad.recipes.schedules import LateCosine

ALL = [
    Recipe(
        name="TRADES",
        dataset="cifar10",
        method="TRADES",
        constructor={"beta": 6.0},
        epochs=76,
        schedule=Drops((74,)),
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
            schedule=Cosine(),
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
            schedule=Drops(drops),
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
    Recipe(
        name="CIARD",
        dataset="cifar10",
        method="CIARD",
        constructor={
            "push": 1.0,
            "push_temperature": 5.0,
            "temperature_rate": 0.001,
            "max_temperature": 10.0,
            "temperature_end": 214 / 300,
            "teacher_start": 50 / 300,
            "reduction": "mean",
        },
        epochs=300,
        schedule=LateCosine(150),
        teacher_sgd={
            "learning_rate": 1e-4,
            "momentum": 0.1,
            "weight_decay": 2e-4,
        },
        weight_decay=2e-4,
        student="MobileNetV2",
        selection="best mean of clean and PGD-20 accuracy on the test set",
        source="https://github.com/eminentgu/CIARD",
        notes=(
            "A robust teacher, which learns with the student, and a ResNet-56 "
            "as `clean_teacher`.",
            "Pass `teacher_optimizer(steps_per_epoch)` to `compile` too.",
            "The learning rates of both networks are 0 in the last epoch.",
            "The script's file of the robust teacher has the name of the "
            "WideResNet-34-10 from TRADES; the README names teachers of "
            "DeepMind.",
        ),
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
            schedule=Drops((100, 150)),
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
            schedule=Drops((100, 150)),
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
