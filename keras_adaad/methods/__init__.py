"""The published methods, one file each."""

from keras_adaad.methods.absld import ABSLD as ABSLD
from keras_adaad.methods.adaad import AdaAD as AdaAD
from keras_adaad.methods.adaiad import AdaIAD as AdaIAD
from keras_adaad.methods.akd import AKD as AKD
from keras_adaad.methods.ard import ARD as ARD
from keras_adaad.methods.bmtard import BMTARD as BMTARD
from keras_adaad.methods.ciard import CIARD as CIARD
from keras_adaad.methods.dgad import DGAD as DGAD
from keras_adaad.methods.dkl import DKL as DKL
from keras_adaad.methods.entropy_weighting import (
    EntropyWeighting as EntropyWeighting,
)
from keras_adaad.methods.iad import IAD as IAD
from keras_adaad.methods.iad import IADII as IADII
from keras_adaad.methods.igdm import IGDM as IGDM
from keras_adaad.methods.mtard import MTARD as MTARD
from keras_adaad.methods.peeraid import PeerAiD as PeerAiD
from keras_adaad.methods.pgdat import PGDAT as PGDAT
from keras_adaad.methods.rslad import RSLAD as RSLAD
from keras_adaad.methods.saad import SAAD as SAAD
from keras_adaad.methods.trades import TRADES as TRADES
