"""Algorithm 1 of the FMN paper in PyTorch, image by image, in float64."""

import math

import torch

from tests.oracles import attacks as oracles

P = {"linf": math.inf, "l2": 2.0}
DUAL = {"linf": 1.0, "l2": 2.0}


def fmn_states(module, norm, x, y, steps):
    """Returns the states at the start and after each step, as dicts."""
    state = {
        "x_adv": x,
        "radius": len(x) * [math.inf],
        "closest": x,
        "distance": len(x) * [math.inf],
    }
    found = [state]
    for k in range(steps):
        found.append(fmn_step(module, norm, x, y, found[-1], k, steps))
    return found


def fmn_step(module, norm, x, y, state, k, steps, alpha=1.0, gamma=0.05):
    """Returns the state after step `k`, which is 0 for the first one."""
    alpha = _cosine(alpha, alpha / 100, k, steps)
    gamma = _cosine(gamma, 0.001, k, steps)
    x, x_adv, closest = (
        oracles.to_torch(a).double()
        for a in (x, state["x_adv"], state["closest"])
    )
    module = module.double()
    moved = [
        _step(module, P[norm], DUAL[norm], *image, alpha, gamma)
        for image in zip(
            x,
            oracles.labels(y),
            x_adv - x,
            state["radius"],
            closest - x,
            state["distance"],
            strict=True,
        )
    ]
    module.float()
    delta, radius, best, distance = zip(*moved, strict=True)
    return {
        "x_adv": oracles.to_keras(x + torch.stack(delta)),
        "radius": radius,
        "closest": oracles.to_keras(x + torch.stack(best)),
        "distance": distance,
    }


def _step(
    module, p, q, x0, label, delta, epsilon, best, smallest, alpha, gamma
):
    loss, gradient = _difference_of_logits(module, x0 + delta, label)
    length = _size(delta, p)
    if loss < 0:
        if length < smallest:
            best, smallest = delta, length
        epsilon = min(epsilon * (1 - gamma), smallest)
    elif smallest < math.inf:
        epsilon = epsilon * (1 + gamma)
    else:
        epsilon = length + loss / _size(gradient, q)
    delta = delta - alpha * gradient / _size(gradient, 2.0)
    if p == math.inf:
        delta = delta.clamp(-epsilon, epsilon)
    elif _size(delta, p) > epsilon:
        delta = epsilon * delta / _size(delta, p)
    delta = (x0 + delta).clamp(0.0, 1.0) - x0
    return delta, epsilon, best, smallest


def _difference_of_logits(module, x, label):
    x = x.clone().requires_grad_()
    logits = module(x[None])[0]
    others = torch.cat([logits[:label], logits[label + 1 :]])
    loss = logits[label] - others.max()
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.item(), gradient


def _size(delta, p):
    return torch.linalg.vector_norm(delta, p).item()


def _cosine(first, last, k, steps):
    return last + 0.5 * (first - last) * (1 + math.cos(math.pi * k / steps))
