"""Two PyTorch networks that know some digits, a batch, and short data sets."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import keras_adaad


class Block(nn.Module):
    """Under the names of the published wide ResNets, as their files have."""

    def __init__(self, channels, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = conv(channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, 1)
        if channels != width:
            self.convShortcut = conv(channels, width, 1, stride)

    def forward(self, x):
        h = F.relu(self.bn1(x))
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(h)
        return x + self.conv2(F.relu(self.bn2(self.conv1(h))))


class Group(nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        self.layer = nn.Sequential(Block(*arguments))

    def forward(self, x):
        return self.layer(x)


class WideResNet(nn.Module):
    """Depth 10: one block in each group."""

    def __init__(self, width):
        super().__init__()
        self.conv1 = conv(3, 16, 3, 1)
        self.block1 = Group(16, 16 * width, 1)
        self.block2 = Group(16 * width, 32 * width, 2)
        self.block3 = Group(32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, 10)

    def forward(self, x):
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


def conv(channels, width, size, stride):
    return nn.Conv2d(channels, width, size, stride, size // 2, bias=False)


def trained(width, steps=20):
    torch.manual_seed(width)
    net = WideResNet(width)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for step in range(steps):
        rows = slice(16 * step, 16 * step + 16)
        loss = F.cross_entropy(net(all_images[rows]), all_labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net


digits = load_digits()
# Of the size of CIFAR's: each pixel is a square of four by four, in grey.
pixels = np.kron(digits.images / 16.0, np.ones((1, 4, 4))).astype("float32")
all_images = torch.tensor(pixels)[:, None].repeat(1, 3, 1, 1)
all_labels = torch.tensor(digits.target)

torch_teacher, torch_student = trained(2), trained(1)
# Enough images that a pixel whose gradient is nearly 0 moves the step little:
# its sign, and so x*, depends on the rounding of the processor.
images, labels = all_images[-32:], all_labels[-32:]

x, y = pixels[:16, ..., None].repeat(3, axis=-1), digits.target[:16]
train = keras_adaad.data.load_arrays(x, y, 8, training=True)
validation = keras_adaad.data.load_arrays(x[:8], y[:8], 8)
epochs = 1
