"""
Title: A method of your own
Description: Write a new distillation method in twenty lines and train it.
Accelerator: None

## Introduction

A method of adversarial distillation makes three choices: the objective of the
attack, the views of the images that the student sees, and the loss on them. The
library does everything else (the attack itself, optimizers, mixed precision,
metrics, checkpoints, the three backends).

    pip install -e ".[examples,tensorflow]"
    python examples/custom_method.py [--epochs N]

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same. The
data and the networks are those of `quickstart.py`, beside this file.
"""

import argparse

import keras
import quickstart
from keras import ops

import keras_adaad
from keras_adaad import logits_function

"""
## The method

The method is AdaAD with another distance. It replaces the divergence of the two
softmax outputs by the squared distance of the centred logits, which does not
saturate.

    x*   = argmax_{||x' - x|| <= epsilon}  D(T(x'), S(x'))
    loss = (1 - clean_share) D(T(x*), S(x*)) + clean_share D(T(x), S(x))

In the attack, where weights are constants, networks are called through
`logits_function`. The target of the loss comes from `teacher_logits`. Every
function returns one value per image.
"""


def squared_distance(target, logits):
    difference = target - logits
    difference -= ops.mean(difference, axis=-1, keepdims=True)
    return ops.mean(ops.square(difference), axis=-1)


@keras.saving.register_keras_serializable(package="examples")
class LogitMatching(keras_adaad.Distiller):
    forward_order = ("clean", "adversarial")

    def __init__(self, *networks, clean_share=0.2, **kwargs):
        super().__init__(*networks, **kwargs)
        self.clean_share = clean_share

    def inner_objective(self, x, y):
        teacher = logits_function(self.teacher)
        student = logits_function(self.student)
        return lambda x_adv: squared_distance(teacher(x_adv), student(x_adv))

    def outer_loss(self, views, logits, y):
        def distance(view):
            return squared_distance(
                self.teacher_logits(views[view]), logits[view]
            )

        share = self.clean_share
        return (1 - share) * distance("adversarial") + share * distance("clean")

    def get_config(self):
        return {**super().get_config(), "clean_share": self.clean_share}


"""
## Training

The method is a `keras.Model` like every other: `compile`, `fit`, `evaluate`.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", default=30, type=int)
    arguments = parser.parse_args()

    keras.utils.set_random_seed(0)
    data = quickstart.load_data()
    teacher = quickstart.train_teacher(data, arguments.epochs)
    student = quickstart.make_network(8, "student")
    method = LogitMatching(teacher, student, attack=quickstart.make_attack())
    optimizer = quickstart.make_optimizer(arguments.epochs, data)
    method.compile(optimizer, metrics=["accuracy"])
    quickstart.fit(method, data, arguments.epochs)

    for name, network in (("teacher", teacher), ("student", student)):
        quickstart.print_accuracy(name, network, data)


if __name__ == "__main__":
    main()
