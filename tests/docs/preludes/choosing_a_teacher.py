"""Files with the published networks' arrays, random weights in them."""

import keras
import torch

import keras_adaad
from tests.docs.small import network
from tests.docs.small import split_digits
from tests.oracles import networks as published

torch.save(published.resnet([2, 2, 2, 2]).state_dict(), "resnet18.pt")
torch.save(published.wide_resnet(10, 1).state_dict(), "my_wide_resnet.pth")
parts = split_digits(64, 16, channels=3)
(x_train, y_train), (x_val, y_val) = parts
epochs = 1
steps = 50
attack = keras_adaad.attacks.PGD(epsilon=8 / 255, steps=2)
first, second = (network(name, channels=3) for name in ("first", "second"))
student = network("student", channels=3)
my_network = network("my_network", channels=3)
model_with_softmax = keras.Model(
    my_network.inputs, keras.layers.Softmax()(my_network.outputs[0])
)
