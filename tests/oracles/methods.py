"""TRADES, ARD, IAD, RSLAD and AdaIAD in plain PyTorch, from the formulas.

Attacks and losses have the form that `parity` describes. Nothing here comes
from `keras_adaad`.
"""

import torch
import torch.nn.functional as F


def ascend(
    student, objective, x, noise, epsilon=8 / 255, step_size=2 / 255, steps=10
):
    """Takes sign steps from an unclipped start, student in eval mode."""
    student.eval()
    x_adv = x + noise
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(x_adv), x_adv)
        x_adv = x_adv.detach() + step_size * gradient.sign()
        x_adv = torch.min(torch.max(x_adv, x - epsilon), x + epsilon)
        x_adv = x_adv.clamp(0.0, 1.0)
    student.train()
    return x_adv


def divergences(target, predicted, temperature=1.0):
    """Returns KL(softmax(target / t) || softmax(predicted / t)) per sample."""
    # In float64: at temperature 30, float32 keeps only four digits of the sum.
    p = F.softmax(target.double() / temperature, dim=1)
    log_q = F.log_softmax(predicted.double() / temperature, dim=1)
    return F.kl_div(log_q, p, reduction="none").sum(1)


def cross_entropy_attack(modules, x, y, noise, steps=10):
    student = modules["student"]

    def objective(x_adv):
        return F.cross_entropy(student(x_adv), y, reduction="sum")

    return ascend(student, objective, x, noise, steps=steps)


def training_mode_attack(modules, x, y, noise):
    """As in the code of ARD and IAD: each forward pass updates BatchNorm."""
    student = modules["student"]

    def objective(x_adv):
        student.train()
        return F.cross_entropy(student(x_adv), y, reduction="sum")

    return ascend(student, objective, x, noise)


def trades_attack(modules, x, y, noise):
    student = modules["student"]

    def objective(x_adv):
        return divergences(student(x).detach(), student(x_adv)).sum()

    return ascend(student, objective, x, noise, 0.031, 0.007)


def trades_loss(modules, x, x_adv, y, beta=6.0):
    student = modules["student"]
    accuracy = F.cross_entropy(student(x), y)
    adversarial = student(x_adv)
    return accuracy + beta * divergences(student(x), adversarial).mean()


def ard_loss(
    modules, x, x_adv, y, alpha=1.0, temperature=30.0, reduction="batchmean"
):
    adversarial = modules["student"](x_adv)
    clean = modules["student"](x)
    with torch.no_grad():
        target = modules["teacher"](x)
    soft = divergences(target, adversarial, temperature).mean()
    if reduction == "mean":
        soft = soft / target.shape[1]
    hard = F.cross_entropy(clean, y)
    return alpha * temperature**2 * soft + (1 - alpha) * hard


def akd_loss(modules, x, x_adv, y, alpha=0.5):
    logits = modules["student"](x_adv)
    with torch.no_grad():
        target = F.softmax(modules["teacher"](x_adv), dim=1)
    labels = F.one_hot(y, logits.shape[1])
    mixed = alpha * target + (1 - alpha) * labels
    return -(mixed * F.log_softmax(logits, dim=1)).sum() / len(x)


def rslad_attack(modules, x, y, noise):
    student = modules["student"]
    with torch.no_grad():
        target = modules["teacher"](x)

    def objective(x_adv):
        return divergences(target, student(x_adv)).sum()

    return ascend(student, objective, x, noise)


def rslad_loss(
    modules, x, x_adv, y, alpha=5 / 6, reduction="batchmean", scale=1.0
):
    adversarial = modules["student"](x_adv)
    clean = modules["student"](x)
    with torch.no_grad():
        target = modules["teacher"](x)
    robust = divergences(target, adversarial).mean()
    natural = divergences(target, clean).mean()
    if reduction == "mean":
        scale = scale / target.shape[1]
    return scale * (alpha * robust + (1 - alpha) * natural)


def label_probability(logits, y):
    return F.softmax(logits, dim=1)[torch.arange(len(y)), y]


def iad_loss(modules, x, x_adv, y, epoch, alpha=1.0, beta=0.1, temperature=1.0):
    adversarial = modules["student"](x_adv)
    clean = modules["student"](x)
    with torch.no_grad():
        target, at_x_adv = modules["teacher"](x), modules["teacher"](x_adv)
    loss = temperature**2 * divergences(target, adversarial, temperature)
    if epoch >= 60:
        distrust = 1 - label_probability(at_x_adv, y) ** beta
        loss = loss + distrust * divergences(clean, adversarial)
    return alpha * loss.mean() + (1 - alpha) * F.cross_entropy(clean, y)


def iad_reference_loss(modules, x, x_adv, y, epoch):
    """With the forward passes of IAD-I's code that the loss does not use."""
    student = modules["student"]
    student(x_adv)
    if epoch >= 60:
        loss = iad_loss(modules, x, x_adv, y, epoch)
        student(x)
        return loss
    return iad_loss(modules, x, x_adv, y, epoch)


def iad2_reference_loss(modules, x, x_adv, y, epoch):
    """Before introspection begins, its code has no clean forward pass."""
    if epoch >= 40:
        return iad2_loss(modules, x, x_adv, y, epoch)
    adversarial = modules["student"](x_adv)
    with torch.no_grad():
        robust_target = modules["teacher"](x_adv)
        clean_target = modules["clean_teacher"](x_adv)
    return (
        0.5 * divergences(robust_target, adversarial).mean()
        + 0.25 * divergences(clean_target, adversarial).mean()
        + 0.25 * F.cross_entropy(adversarial, y)
    )


def adaiad_reference_loss(modules, x, x_adv, y, epoch):
    """From epoch 60 on, its code runs the clean images a third time."""
    loss = adaiad_loss(modules, x, x_adv, y, epoch)
    if epoch >= 60:
        modules["student"](x)
    return loss


def iad2_loss(
    modules,
    x,
    x_adv,
    y,
    epoch,
    alpha=0.5,
    clean_alpha=0.25,
    beta=0.1,
    temperature=1.0,
):
    adversarial = modules["student"](x_adv)
    clean = modules["student"](x)
    with torch.no_grad():
        robust_target = modules["teacher"](x_adv)
        clean_target = modules["clean_teacher"](x_adv)
    robust = divergences(robust_target, adversarial, temperature)
    if epoch >= 40:
        trust = label_probability(robust_target, y) ** beta
        own = divergences(clean, adversarial)
        robust = trust * robust + (1 - trust) * own
    natural = divergences(clean_target, adversarial, temperature)
    soft = alpha * robust.mean() + clean_alpha * natural.mean()
    hard = F.cross_entropy(adversarial, y)
    return temperature**2 * soft + (1 - alpha - clean_alpha) * hard


def adaiad_attack(modules, x, y, noise):
    student, teacher = modules["student"], modules["teacher"]

    def objective(x_adv):
        return divergences(teacher(x_adv), student(x_adv)).sum()

    return ascend(student, objective, x, noise)


def adaiad_loss(
    modules, x, x_adv, y, epoch, alpha=1.0, beta=0.1, temperature=30.0
):
    modules["student"](x)
    adversarial = modules["student"](x_adv)
    clean = modules["student"](x)
    with torch.no_grad():
        target = modules["teacher"](x_adv)
    loss = temperature**2 * divergences(target, adversarial, temperature)
    if epoch >= 60:
        distrust = 1 - label_probability(target, y) ** beta
        loss = loss + distrust * divergences(clean, adversarial)
    return alpha * loss.mean() + (1 - alpha) * F.cross_entropy(clean, y)
