"""Robustness evaluation: reports, comparisons and statistics."""

from keras_adaad.evaluation.attack_result import AttackResult as AttackResult
from keras_adaad.evaluation.comparison import Comparison as Comparison
from keras_adaad.evaluation.comparison import Comparisons as Comparisons
from keras_adaad.evaluation.comparison import PairedAccuracy as PairedAccuracy
from keras_adaad.evaluation.comparison import (
    PairedPerturbation as PairedPerturbation,
)
from keras_adaad.evaluation.evaluate import (
    evaluate_robustness as evaluate_robustness,
)
from keras_adaad.evaluation.report import RobustnessReport as RobustnessReport
from keras_adaad.evaluation.statistics import mcnemar as mcnemar
from keras_adaad.evaluation.statistics import wilson_interval as wilson_interval
from keras_adaad.evaluation.table import robustness_table as robustness_table
from keras_adaad.evaluation.threat_model import ThreatModel as ThreatModel
