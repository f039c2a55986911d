"""The published PyTorch networks, and random weights for them.

RobustBench's own classes are loaded from the files of the installed package,
because its `__init__` needs packages that no test needs. The MobileNetV2 of
`pytorch-cifar` is a transcription, because no package contains it.
"""

import functools
import importlib.util
import pathlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn

PARTS = ("model_zoo", "architectures")


@functools.cache
def robustbench(module):
    """Returns a module of RobustBench's architectures."""
    package = importlib.util.find_spec("robustbench")
    if package is None:
        pytest.skip("needs `pip install --no-deps robustbench`")
    folder = pathlib.Path(package.submodule_search_locations[0], *PARTS)
    spec = importlib.util.spec_from_file_location(
        f"robustbench_{module}", folder / f"{module}.py"
    )
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def resnet(blocks, num_classes=10):
    module = robustbench("resnet")
    return module.ResNet(module.BasicBlock, blocks, num_classes)


def preact_resnet(block, num_classes=10, **arguments):
    module = robustbench("resnet")
    return module.PreActResNet(
        getattr(module, block), [2, 2, 2, 2], num_classes, **arguments
    )


def wide_resnet(depth, width, num_classes=10, sub_block1=False):
    return robustbench("wide_resnet").WideResNet(
        depth, num_classes, width, sub_block1
    )


def dm_wide_resnet(depth, width, num_classes=10, **arguments):
    return robustbench("dm_wide_resnet").DMWideResNet(
        num_classes, depth, width, **{"activation_fn": nn.SiLU, **arguments}
    )


def dm_preact_resnet(num_classes=10, **arguments):
    return robustbench("dm_wide_resnet").DMPreActResNet(
        num_classes, **{"activation_fn": nn.SiLU, **arguments}
    )


class Normalized(nn.Module):
    """Has `mu` and `sigma` in its checkpoint, as some RobustBench models do."""

    def __init__(self, net, mean, std):
        super().__init__()
        self.net = net
        self.register_buffer("mu", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("sigma", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x):
        return self.net((x - self.mu) / self.sigma)


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        blocks, channels = [], 32
        for expansion, filters, depth, strides in (
            (1, 16, 1, 1),
            (6, 24, 2, 1),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ):
            for i in range(depth):
                stride = strides if i == 0 else 1
                blocks.append(Inverted(channels, filters, expansion, stride))
                channels = filters
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(320, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.linear = nn.Linear(1280, num_classes)

    def forward(self, x):
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.linear(x.mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, channels, filters, expansion, stride):
        super().__init__()
        self.stride, wide = stride, channels * expansion
        self.conv1 = nn.Conv2d(channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(
            wide, wide, 3, stride, padding=1, groups=wide, bias=False
        )
        self.bn2 = nn.BatchNorm2d(wide)
        self.conv3 = nn.Conv2d(wide, filters, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Sequential()
        if stride == 1 and channels != filters:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, bias=False),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return out + self.shortcut(x) if self.stride == 1 else out


class PooledPreActResNet(nn.Module):
    """DGAD's network for Tiny-ImageNet: it flattens 4x4-pooled features."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.net = preact_resnet(
            "PreActBlock", num_classes, bn_before_fc=False, out_shortcut=True
        )
        self.net.linear = nn.Linear(2048, num_classes)

    def forward(self, x):
        x = self.net.conv1(x)
        for stage in (1, 2, 3, 4):
            x = getattr(self.net, f"layer{stage}")(x)
        return self.net.linear(F.avg_pool2d(x, 4).flatten(1))

    def state_dict(self):
        return self.net.state_dict()


class CifarResNet(nn.Module):
    """The ResNet-56 of `pytorch-cifar-models`."""

    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self.stage(16, 16, 1)
        self.layer2 = self.stage(16, 32, 2)
        self.layer3 = self.stage(32, 64, 2)
        self.fc = nn.Linear(64, num_classes)

    def stage(self, channels, filters, stride):
        rest = [Basic(filters, filters, 1) for _ in range(8)]
        return nn.Sequential(Basic(channels, filters, stride), *rest)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Basic(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (self.downsample(x) if self.downsample else x))


def randomized(net, seed=0):
    """Randomizes BatchNorm layers and convolutions; sets eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
        elif isinstance(module, nn.Conv2d):
            bound = (module.weight[0].numel() / 3) ** -0.5
            module.weight.data.uniform_(-bound, bound, generator=generator)
    return net.eval()
