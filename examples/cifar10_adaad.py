"""
Title: AdaAD on CIFAR-10
Description: Distil the paper's robust WideResNet-34-20 into a ResNet-18.
Accelerator: GPU

## Introduction

The published run of AdaAD
([Huang et al., CVPR 2023](https://openaccess.thecvf.com/content/CVPR2023/html/Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html)).
The paper reports a ResNet-18 with an accuracy of 85.58 % on clean images and of
51.37 % under AutoAttack at 8/255:

    pip install -e ".[data,examples,tensorflow]"
    python examples/cifar10_adaad.py --download

`--help` lists the flags. The same command resumes a killed run. For a quick
look, run a few epochs with smaller networks:

    python examples/cifar10_adaad.py --download --student mobilenetv2 \
        --teacher Rade2021Helper_R18_ddpm --epochs 4 --autoattack-images 100

Set `KERAS_BACKEND` to "tensorflow", "jax" or "torch"; the code is the same.

### What it costs

Known: the author's log shows 45.8 minutes per epoch, training and testing, on
an RTX 3090: 6.4 days for 200 epochs. This code has not been timed.

Estimated from that: an attack step is a forward and a backward pass of both
networks, so a training image costs about 21 forward passes of the teacher (26.6
billion multiply-adds) and 24 of the student (0.56): 1.1 TFLOP, 57 PFLOP per
epoch. The log then means 21 TFLOP/s, 59 % of the RTX 3090's peak of 35.6. At
the same share of their TF32 peaks, which larger GPUs may not reach, 200 epochs
would take 2.8 days on an RTX 4090 (82.6 TFLOP/s), 1.5 on an A100 (156) and half
a day on an H100 (495). AutoAttack on 10,000 images takes about the arithmetic
of one epoch without the teacher. A smaller teacher saves the most time:
`Chen2021LTD_WRN34_10` costs a quarter.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import distillation

from keras_adaad import data
from keras_adaad import recipes

"""
## The data

CIFAR-10 from TensorFlow Datasets, in `--data-dir` or the default folder of
TFDS. The first thousand of the 50,000 training images are held out to select
the best epoch.
"""


def load(arguments, split, **options):
    return data.load_tfds(
        "cifar10",
        split,
        data_dir=arguments.data_dir,
        download=arguments.download,
        **options,
    )


"""
## The recipe

200 epochs of batches of 128, with a learning rate of 0.1 that drops to a tenth
after half and after three quarters of the epochs, momentum 0.9, and PyTorch's
weight decay of 5e-4. The attack takes 10 steps of 2/255 within 8/255. On
CIFAR-10 the reference code divides the loss by batch size and classes, which is
`reduction="mean"`. Its teacher is RobustBench's `Chen2021LTD_WRN34_20`. The run
itself is in `distillation.py`, beside this file.
"""

experiment = distillation.Experiment(
    recipes.get("AdaAD", "cifar10"),
    load=load,
)

if __name__ == "__main__":
    distillation.run(experiment)
