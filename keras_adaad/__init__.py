"""Adversarial robustness distillation for Keras 3.

What is public is exported here or in `attacks`, `callbacks`, `data`,
`distribution`, `evaluation`, `export`, `losses`, `models`, `optimizers`,
`recipes`, `teachers` and `zoo`. Everything else may change without notice.
"""

from keras_adaad import attacks as attacks
from keras_adaad import callbacks as callbacks
from keras_adaad import data as data
from keras_adaad import distribution as distribution
from keras_adaad import evaluation as evaluation
from keras_adaad import export as export
from keras_adaad import losses as losses
from keras_adaad import models as models
from keras_adaad import optimizers as optimizers
from keras_adaad import recipes as recipes
from keras_adaad import teachers as teachers
from keras_adaad import zoo as zoo
from keras_adaad.backend import input_gradient as input_gradient
from keras_adaad.evaluation import RobustnessReport as RobustnessReport
from keras_adaad.evaluation import evaluate_robustness as evaluate_robustness
from keras_adaad.frozen.logits import logits_function as logits_function
from keras_adaad.methods import ABSLD as ABSLD
from keras_adaad.methods import AKD as AKD
from keras_adaad.methods import ARD as ARD
from keras_adaad.methods import BMTARD as BMTARD
from keras_adaad.methods import CIARD as CIARD
from keras_adaad.methods import DGAD as DGAD
from keras_adaad.methods import DKL as DKL
from keras_adaad.methods import IAD as IAD
from keras_adaad.methods import IADII as IADII
from keras_adaad.methods import IGDM as IGDM
from keras_adaad.methods import MTARD as MTARD
from keras_adaad.methods import PGDAT as PGDAT
from keras_adaad.methods import RSLAD as RSLAD
from keras_adaad.methods import SAAD as SAAD
from keras_adaad.methods import TRADES as TRADES
from keras_adaad.methods import AdaAD as AdaAD
from keras_adaad.methods import AdaIAD as AdaIAD
from keras_adaad.methods import EntropyWeighting as EntropyWeighting
from keras_adaad.methods import PeerAiD as PeerAiD
from keras_adaad.teachers.rank import rank_teachers as rank_teachers
from keras_adaad.training.adversarial_training import (
    AdversarialTraining as AdversarialTraining,
)
from keras_adaad.training.distiller import Distiller as Distiller
from keras_adaad.training.regularizer import Regularizer as Regularizer
from keras_adaad.training.sample_weighting import (
    SampleWeighting as SampleWeighting,
)
from keras_adaad.version import __version__ as __version__
