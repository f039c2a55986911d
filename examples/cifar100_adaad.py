"""
Title: AdaAD on CIFAR-100
Description: Distil the paper's robust WideResNet-34-10 into a ResNet-18.
Accelerator: GPU

## Introduction

The CIFAR-100 run of AdaAD
([Huang et al., CVPR 2023](https://openaccess.thecvf.com/content/CVPR2023/html/Huang_Boosting_Accuracy_and_Robustness_of_Student_Models_via_Adaptive_Adversarial_CVPR_2023_paper.html)).
The README of LISArD's code (https://github.com/Joana-Cabral/LISArD) reports a
ResNet-18 with 62.19 % on clean images and 26.74 % under AutoAttack at 8/255:

    pip install -e ".[data,examples,tensorflow]"
    python examples/cifar100_adaad.py --download

`--help` lists the flags. The same command resumes a killed run. Set
`KERAS_BACKEND` to "tensorflow", "jax" or "torch".

### What it costs

These are estimates, from the arithmetic and from the 21 TFLOP/s of the author's
code on an RTX 3090 (see `cifar10_adaad.py`). A training image costs 21 forward
passes of the teacher (6.7 billion multiply-adds) and 24 of the student (0.56):
0.31 TFLOP, 15 PFLOP per epoch. That is 12 minutes per epoch and 1.7 days for
200 epochs on an RTX 3090. At the same share of their TF32 peaks, it is 18 hours
on an RTX 4090, 9 on an A100 and 3 on an H100.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import distillation

from keras_adaad import data
from keras_adaad import recipes

"""
## The data

CIFAR-100 from TensorFlow Datasets, in `--data-dir` or the default folder of
TFDS. The first thousand of the 50,000 training images are held out to select
the best epoch.
"""


def load(arguments, split, **options):
    return data.load_tfds(
        "cifar100",
        split,
        data_dir=arguments.data_dir,
        download=arguments.download,
        **options,
    )


"""
## The recipe

The recipe is that of CIFAR-10, except that the reference code divides the loss
only by the batch size: `reduction="batchmean"`. Its teacher is RobustBench's
`Chen2021LTD_WRN34_10`.
"""

experiment = distillation.Experiment(
    recipes.get("AdaAD", "cifar100"),
    load=load,
)

if __name__ == "__main__":
    distillation.run(experiment)
