"""AdaAD in plain PyTorch, as the reference for tests and benchmarks.

It is written from the paper, independently of `keras_adaad` and of any other
code. The tests compare the library's attack and step with it; `step_speed.py`
compares the speed.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ConvNet(nn.Module):
    """The twin of `networks.conv_net`."""

    def __init__(self, widths, channels=1, num_classes=10):
        super().__init__()
        self.depth = len(widths)
        for i, width in enumerate(widths):
            stride = 1 if i == 0 else 2
            self.add_module(f"conv{i}", _conv(channels, width, 3, stride))
            self.add_module(f"bn{i}", nn.BatchNorm2d(width))
            channels = width
        self.logits = nn.Linear(channels, num_classes)

    def forward(self, x):
        for i in range(self.depth):
            conv, bn = getattr(self, f"conv{i}"), getattr(self, f"bn{i}")
            x = F.relu(bn(conv(x)))
        return self.logits(x.mean((2, 3)))


class ResNet(nn.Module):
    """The twin of `networks.resnet`."""

    def __init__(
        self,
        widths=(64, 128, 256, 512),
        blocks=(2, 2, 2, 2),
        channels=3,
        num_classes=10,
    ):
        super().__init__()
        self.conv = _conv(channels, widths[0], 3, 1)
        self.bn = nn.BatchNorm2d(widths[0])
        self.prefixes = []
        channels = widths[0]
        for stage, (width, depth) in enumerate(
            zip(widths, blocks, strict=True)
        ):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                prefix = f"s{stage}b{block}_"
                self._add(prefix, "1", _conv(channels, width, 3, stride))
                self._add(prefix, "2", _conv(width, width, 3, 1))
                if stride != 1 or channels != width:
                    self._add(prefix, "_s", _conv(channels, width, 1, stride))
                self.prefixes.append(prefix)
                channels = width
        self.logits = nn.Linear(channels, num_classes)

    def _add(self, prefix, name, conv):
        self.add_module(f"{prefix}conv{name}", conv)
        self.add_module(f"{prefix}bn{name}", nn.BatchNorm2d(conv.out_channels))

    def _apply_block(self, prefix, name, x):
        conv = getattr(self, f"{prefix}conv{name}")
        return getattr(self, f"{prefix}bn{name}")(conv(x))

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        for prefix in self.prefixes:
            h = F.relu(self._apply_block(prefix, "1", x))
            h = self._apply_block(prefix, "2", h)
            if hasattr(self, f"{prefix}conv_s"):
                x = self._apply_block(prefix, "_s", x)
            x = F.relu(h + x)
        return self.logits(x.mean((2, 3)))


class WideResNet(nn.Module):
    """WideResNet-(6n + 4)-k: BatchNorm and ReLU before each convolution."""

    def __init__(self, depth=28, widen_factor=4, num_classes=10):
        super().__init__()
        self.conv = _conv(3, 16, 3, 1)
        blocks, channels = [], 16
        for stage in range(3):
            width = 16 * 2**stage * widen_factor
            for block in range((depth - 4) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(PreActivationBlock(channels, width, stride))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.logits = nn.Linear(channels, num_classes)

    def forward(self, x):
        x = F.relu(self.bn(self.blocks(self.conv(x))))
        return self.logits(x.mean((2, 3)))


class PreActivationBlock(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = _conv(channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, 1)
        if channels != width:
            self.shortcut = _conv(channels, width, 1, stride)

    def forward(self, x):
        h = F.relu(self.bn1(x))
        if hasattr(self, "shortcut"):
            x = self.shortcut(h)
        h = F.relu(self.bn2(self.conv1(h)))
        return x + self.conv2(h)


def _conv(channels, width, kernel, stride):
    return nn.Conv2d(
        channels, width, kernel, stride, padding=kernel // 2, bias=False
    )


def kl_divergence(target_logits, predicted_logits, reduction):
    """KL(softmax(target) || softmax(predicted)) with PyTorch's own loss."""
    total = F.kl_div(
        F.log_softmax(predicted_logits, dim=1),
        F.softmax(target_logits, dim=1),
        reduction="sum",
    )
    count = {
        "sum": 1,
        "batchmean": target_logits.shape[0],
        "mean": target_logits.numel(),
    }
    return total / count[reduction]


def adaad_attack(
    teacher,
    student,
    x,
    noise,
    epsilon=8 / 255,
    step_size=2 / 255,
    steps=10,
    detach_teacher=False,
):
    """Searches for the point where teacher and student disagree most.

    `detach_teacher=True` is a wrong attack, and a likely mistake of a port: it
    loses the gradient through the teacher.
    """
    training = student.training
    student.eval()
    teacher.eval()
    x_adv = x + noise
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        target = teacher(x_adv)
        if detach_teacher:
            target = target.detach()
        divergence = kl_divergence(target, student(x_adv), "sum")
        (gradient,) = torch.autograd.grad(divergence, x_adv)
        x_adv = x_adv.detach() + step_size * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
        x_adv = x_adv.clamp(0.0, 1.0)
    student.train(training)
    return x_adv


def adaad_step(
    teacher, student, optimizer, x, noise, alpha=1.0, reduction="batchmean"
):
    """Takes a step of AdaAD: attack, clean and adversarial forward, update."""
    x_adv = adaad_attack(teacher, student, x, noise)
    student.train()
    clean_logits = student(x)
    adversarial_logits = student(x_adv)
    with torch.no_grad():
        clean_target, adversarial_target = teacher(x), teacher(x_adv)
    loss = alpha * kl_divergence(
        adversarial_target, adversarial_logits, reduction
    ) + (1 - alpha) * kl_divergence(clean_target, clean_logits, reduction)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return x_adv, loss.item()


@torch.no_grad()
def copy_weights(keras_model, module):
    """Copies the weights and BatchNorm statistics of a Keras twin."""
    for name, child in module.named_children():
        weights = [torch.tensor(w) for w in _arrays(keras_model, name)]
        if isinstance(child, nn.Conv2d):
            child.weight.copy_(weights[0].permute(3, 2, 0, 1))
        elif isinstance(child, nn.Linear):
            child.weight.copy_(weights[0].T)
            child.bias.copy_(weights[1])
        else:
            gamma, beta, mean, variance = weights
            child.weight.copy_(gamma)
            child.bias.copy_(beta)
            child.running_mean.copy_(mean)
            child.running_var.copy_(variance)
    return module


def _arrays(keras_model, name):
    return keras_model.get_layer(name).get_weights()
