"""Published student and teacher networks, and helpers to adapt a model."""

from keras_adaad.models.fold_batch_norm import (
    fold_batch_norm as fold_batch_norm,
)
from keras_adaad.models.mobilenet_v2 import MobileNetV2 as MobileNetV2
from keras_adaad.models.preact_resnet import (
    DMPreActResNet18 as DMPreActResNet18,
)
from keras_adaad.models.preact_resnet import PreActResNet18 as PreActResNet18
from keras_adaad.models.resnet import ResNet18 as ResNet18
from keras_adaad.models.resnet import ResNet34 as ResNet34
from keras_adaad.models.resnet import ResNet56 as ResNet56
from keras_adaad.models.wide_resnet import DMWideResNet as DMWideResNet
from keras_adaad.models.wide_resnet import WideResNet as WideResNet
from keras_adaad.models.wrapping import logits as logits
from keras_adaad.models.wrapping import with_dtype as with_dtype
from keras_adaad.models.wrapping import with_normalization as with_normalization
