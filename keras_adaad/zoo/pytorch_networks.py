"""The published networks in PyTorch, for the parity check.

Each is a function of a state dict, written from the published code with
PyTorch's own padding; it shares nothing with `keras_adaad.models`. Only the
parity check needs PyTorch.
"""

import re

import numpy as np


def published_logits(arrays, architecture, arguments, images):
    """Returns the published network's logits of channels-first images."""
    import torch

    state = {
        name: torch.from_numpy(np.array(array, "float32"))
        for name, array in arrays.items()
        if array.ndim
    }
    net = _Net(state, arguments)
    with torch.no_grad():
        x = net.normalized(torch.from_numpy(images))
        return getattr(net, architecture)(x).numpy()


class _Net:
    def __init__(self, state, arguments):
        from torch.nn import functional

        self.functional = functional
        self.state = state
        self.arguments = arguments
        name = arguments.get("activation", "silu")
        self.dm_act = getattr(functional, name)

    def ResNet18(self, x, shortcut="shortcut", head="linear"):
        relu = self.functional.relu
        x = relu(self.norm(self.conv(x, "conv1", 1, 1), "bn1"))
        for p, stride in self.blocks(r"layer(\d)\.(\d+)\."):
            out = relu(
                self.norm(self.conv(x, p + "conv1", stride, 1), p + "bn1")
            )
            out = self.norm(self.conv(out, p + "conv2", 1, 1), p + "bn2")
            if self.has(f"{p}{shortcut}.0"):
                x = self.conv(x, f"{p}{shortcut}.0", stride)
                x = self.norm(x, f"{p}{shortcut}.1")
            x = relu(out + x)
        return self.linear(x, head)

    ResNet34 = ResNet18

    def ResNet56(self, x):
        return self.ResNet18(x, "downsample", "fc")

    def PreActResNet18(self, x):
        relu = self.functional.relu
        x = self.conv(x, "conv1", 1, 1)
        for p, stride in self.blocks(r"layer(\d)\.(\d+)\."):
            out = relu(self.norm(x, p + "bn1"))
            if self.has(p + "shortcut.0"):
                raw = not self.arguments["out_shortcut"]
                x = self.conv(x if raw else out, p + "shortcut.0", stride)
            out = self.conv(out, p + "conv1", stride, 1)
            out = self.conv(relu(self.norm(out, p + "bn2")), p + "conv2", 1, 1)
            x = out + x
        if self.arguments["bn_before_fc"]:
            x = relu(self.norm(x, "bn"))
        if size := self.arguments.get("pool_size"):
            # The pooled map is flattened to the channels of a 1x1 map.
            x = self.functional.avg_pool2d(x, size).flatten(1)[..., None, None]
        return self.linear(x, "linear")

    def MobileNetV2(self, x):
        relu = self.functional.relu
        strides = {3: 2, 6: 2, 13: 2}
        x = relu(self.norm(self.conv(x, "conv1", 1, 1), "bn1"))
        for block in range(17):
            p, stride = f"layers.{block}.", strides.get(block, 1)
            out = relu(self.norm(self.conv(x, p + "conv1"), p + "bn1"))
            groups = out.shape[1]
            out = self.conv(out, p + "conv2", stride, 1, groups)
            out = relu(self.norm(out, p + "bn2"))
            out = self.norm(self.conv(out, p + "conv3"), p + "bn3")
            if self.has(p + "shortcut.0"):
                x = self.conv(x, p + "shortcut.0")
                x = self.norm(x, p + "shortcut.1")
            x = out + x if stride == 1 else out
        x = relu(self.norm(self.conv(x, "conv2"), "bn2"))
        return self.linear(x, "linear")

    def WideResNet(self, x):
        relu = self.functional.relu
        x = self.conv(x, "conv1", 1, 1)
        for p, stride in self.blocks(r"block(\d)\.layer\.(\d+)\."):
            out = relu(self.norm(x, p + "bn1"))
            if self.has(p + "convShortcut"):
                x = self.conv(out, p + "convShortcut", stride)
            out = self.conv(out, p + "conv1", stride, 1)
            out = self.conv(relu(self.norm(out, p + "bn2")), p + "conv2", 1, 1)
            x = out + x
        return self.linear(relu(self.norm(x, "bn1")), "fc")

    def DMWideResNet(self, x):
        x = self.conv(x, "init_conv", 1, 1)
        for p, stride in self.blocks(r"layer\.(\d)\.block\.(\d+)\.", first=0):
            out = self.dm_act(self.norm(x, p + "batchnorm_0"))
            if self.has(p + "shortcut"):
                x = self.conv(out, p + "shortcut", stride)
            out = self.conv(self.dm_pad(out, stride), p + "conv_0", stride)
            out = self.dm_act(self.norm(out, p + "batchnorm_1"))
            x = self.conv(out, p + "conv_1", 1, 1) + x
        return self.linear(self.dm_act(self.norm(x, "batchnorm")), "logits")

    def DMPreActResNet18(self, x):
        x = self.conv(x, "conv_2d", 1, 1)
        for p, stride in self.blocks(r"layer_(\d)\.(\d+)\.", first=0):
            out = self.dm_act(self.norm(x, p + "batchnorm_0"))
            if self.has(p + "shortcut"):
                x = self.conv(self.dm_pad(x, stride), p + "shortcut", stride)
            out = self.conv(self.dm_pad(out, stride), p + "conv_2d_1", stride)
            out = self.dm_act(self.norm(out, p + "batchnorm_1"))
            x = self.conv(out, p + "conv_2d_2", 1, 1) + x
        return self.linear(self.dm_act(self.norm(x, "batchnorm")), "logits")

    def normalized(self, x):
        mean, std = self.arguments.get("mean"), self.arguments.get("std")
        if mean is None:
            return x
        if mean == "image":
            flat = x.flatten(1)
            floor = flat.shape[1] ** -0.5
            std = flat.std(1).clamp(min=floor).view(-1, 1, 1, 1)
            return (x - flat.mean(1).view(-1, 1, 1, 1)) / std
        return (x - x.new_tensor(mean).view(-1, 1, 1)) / x.new_tensor(std).view(
            -1, 1, 1
        )

    def blocks(self, pattern, first=1):
        """Yields the prefix and the stride of each residual block."""
        found = {re.match(pattern, name) for name in self.state}
        places = {
            (int(match[1]), int(match[2])): match[0] for match in found if match
        }
        for stage, i in sorted(places):
            yield places[stage, i], 2 if stage > first and i == 0 else 1

    def has(self, name):
        return name + ".weight" in self.state

    def conv(self, x, name, stride=1, padding=0, groups=1):
        weight = self.state[name + ".weight"]
        return self.functional.conv2d(
            x, weight, None, stride, padding, groups=groups
        )

    def dm_pad(self, x, stride):
        after = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1)
        return self.functional.pad(x, after)

    def norm(self, x, name):
        parts = ("running_mean", "running_var", "weight", "bias")
        values = [self.state[f"{name}.{part}"] for part in parts]
        return self.functional.batch_norm(x, *values, eps=1e-5)

    def linear(self, x, name):
        weight, bias = self.state[name + ".weight"], self.state[name + ".bias"]
        return self.functional.linear(x.mean((2, 3)), weight, bias)
