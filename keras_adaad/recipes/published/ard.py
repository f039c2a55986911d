"""Recipes of ARD's code, and of IAD's, which begins with it."""

from keras_adaad.recipes.recipe import Recipe
from keras_adaad.recipes.schedules import Drops

# For ARD, and for IAD, which uses ARD's learning rate function.
NO_SECOND_DROP = (
    "The code means to drop the learning rate at epoch 150 too, but sets 0.01 "
    "again there."
)

ALL = [
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
            schedule=Drops((100,)),
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
            schedule=Drops((100,)),
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
]
