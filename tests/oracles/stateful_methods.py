"""MTARD, B-MTARD, DGAD, CIARD and others in plain PyTorch, from formulas.

Attacks and losses have the form that `parity.compare_step` takes. The state of
a method is kept in attributes of its transcription, as Python numbers.
"""

import math

import torch
import torch.nn.functional as F

EPSILON, STEP_SIZE = 8 / 255, 2 / 255


def divergence(target, predicted):
    """Returns the KL divergence of the softmax outputs per sample."""
    log_q = F.log_softmax(predicted, 1)
    return F.kl_div(log_q, F.softmax(target, 1), reduction="none").sum(1)


def entropy(logits):
    # In float64, because SAAD subtracts entropies.
    return torch.distributions.Categorical(logits=logits.double()).entropy()


def ascend(
    modules, objective, x, noise, steps=10, epsilon=EPSILON, step_size=STEP_SIZE
):
    """Takes sign steps from an unclipped start, student in eval mode."""
    modules["student"].eval()
    x_adv = x + noise
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective(x_adv).sum(), x_adv)
        x_adv = x_adv.detach() + step_size * gradient.sign()
        x_adv = x + (x_adv - x).clamp(-epsilon, epsilon)
        x_adv = x_adv.clamp(0.0, 1.0)
    modules["student"].train()
    return x_adv


@torch.no_grad()
def target(modules, x, teacher="teacher"):
    return modules[teacher](x)


class Mtard:
    """`first` has the losses of the first step; `None` before it."""

    def __init__(self, rate=0.025, scale=1.0):
        self.rate, self.scale = rate, scale
        self.clean_weight, self.first = 0.5, None

    def attack(self, modules, x, y, noise):
        def cross_entropy(x_adv):
            return F.cross_entropy(modules["student"](x_adv), y)

        return ascend(modules, cross_entropy, x, noise)

    def targets(self, modules, x, x_adv):
        return target(modules, x_adv), target(modules, x, "clean_teacher")

    def loss(self, modules, x, x_adv, y):
        on_adversarial = modules["student"](x_adv)
        on_clean = modules["student"](x)
        robust, clean = self.targets(modules, x, x_adv)
        losses = (
            divergence(robust, on_adversarial).mean(),
            divergence(clean, on_clean).mean(),
        )
        values = [value.item() for value in losses]
        self.first = self.first or values
        relative = [v / f for v, f in zip(values, self.first, strict=True)]
        goal = relative[1] / sum(relative)
        self.clean_weight += self.rate * (goal - self.clean_weight)
        weights = (1 - self.clean_weight, self.clean_weight)
        total = weights[0] * losses[0] + weights[1] * losses[1]
        return self.scale * total


class Bmtard(Mtard):
    """Tests use a large rate and a small ceiling, to reach both clips."""

    def __init__(self, temperature_rate, ceiling):
        super().__init__()
        self.temperature_rate, self.ceiling = temperature_rate, ceiling
        self.temperatures = [1.0, 1.0]

    def targets(self, modules, x, x_adv):
        softened = [
            logits / temperature
            for logits, temperature in zip(
                super().targets(modules, x, x_adv),
                self.temperatures,
                strict=True,
            )
        ]
        robust, clean = (entropy(z).mean().item() for z in softened)
        step = self.temperature_rate if robust > clean else 0.0
        step -= self.temperature_rate if clean > robust else 0.0
        moved = (self.temperatures[0] - step, self.temperatures[1] + step)
        self.temperatures = [min(max(t, 1.0), self.ceiling) for t in moved]
        return softened


def adaad_attack(modules, x, y, noise):
    def disagreement(x_adv):
        return divergence(modules["teacher"](x_adv), modules["student"](x_adv))

    return ascend(modules, disagreement, x, noise)


def corrected(logits, y):
    """Swaps the largest logit and the label's logit in each row."""
    logits = logits.clone()
    for row, label in zip(logits, y.tolist(), strict=True):
        largest = int(row.argmax())
        row[[largest, label]] = row[[label, largest]]
    return logits


def dgad_loss(consistency):
    """Weights each group's mean by its share of the batch, as published."""

    def loss(modules, x, x_adv, y):
        clean, adversarial = modules["student"](x), modules["student"](x_adv)
        on_clean, on_adversarial = target(modules, x), target(modules, x_adv)
        errs = on_clean.argmax(1) != y
        share = errs.double().mean().item()
        assert 0.0 < share < 1.0
        total = share * divergence(
            corrected(on_clean, y)[errs], clean[errs]
        ).mean() + (1 - share) * (
            divergence(corrected(on_adversarial, y)[~errs], adversarial[~errs])
        ).mean(0)
        probabilities = F.softmax(adversarial, 1), F.softmax(clean, 1)
        return total + consistency * F.mse_loss(*probabilities)

    return loss


def igdm_term(modules, x, x_adv, on_adversarial, on_opposite):
    opposite = x - (x_adv - x)
    change = target(modules, x_adv) - target(modules, opposite)
    return divergence(change, on_adversarial - on_opposite)


def adaad_igdm_loss(weight, order):
    def loss(modules, x, x_adv, y):
        images = {"clean": x, "adversarial": x_adv, "opposite": 2 * x - x_adv}
        logits = {view: modules["student"](images[view]) for view in order}
        term = igdm_term(
            modules, x, x_adv, logits["adversarial"], logits["opposite"]
        )
        host = divergence(target(modules, x_adv), logits["adversarial"])
        return (host + weight * term).mean()

    return loss


def saad_attack(correction):
    def attack(modules, x, y, noise):
        leaf = x.clone().requires_grad_(True)
        fixed = modules["teacher"](leaf)
        of_label = fixed[torch.arange(len(y)), y].sum()
        (slope,) = torch.autograd.grad(of_label, leaf)

        def disagreement(x_adv):
            change = (slope * (x_adv - x)).sum((1, 2, 3))
            linear = (
                fixed.detach()
                + correction * F.one_hot(y, 10) * (change[:, None])
            )
            return divergence(linear, modules["student"](x_adv))

        return ascend(modules, disagreement, x, noise)

    return attack


def weighted(per_sample, modules, x, x_adv, on_clean, scale, clean_weight):
    """SAAD's weights times the loss per sample, and its clean term."""
    uncertainty = entropy(target(modules, x_adv))
    weight = scale * (uncertainty - uncertainty.min())
    rank = (weight - weight.min()) / (weight.max() - weight.min())
    clean = (1 - rank) * divergence(target(modules, x), on_clean)
    return weight * per_sample + clean_weight * clean


def saad_loss(scale, igdm, clean_weight):
    def loss(modules, x, x_adv, y):
        on_adversarial = modules["student"](x_adv)
        on_opposite = modules["student"](2 * x - x_adv)
        on_clean = modules["student"](x)
        term = igdm_term(modules, x, x_adv, on_adversarial, on_opposite)
        host = divergence(target(modules, x_adv), on_adversarial)
        return weighted(
            *(host + igdm * term, modules, x, x_adv, on_clean),
            *(scale, clean_weight),
        ).mean()

    return loss


def weighted_rslad_loss(scale, clean_weight):
    def loss(modules, x, x_adv, y):
        on_adversarial = modules["student"](x_adv)
        on_clean = modules["student"](x)
        soft = target(modules, x)
        host = 5 / 6 * divergence(soft, on_adversarial)
        host = host + 1 / 6 * divergence(soft, on_clean)
        return weighted(
            host, modules, x, x_adv, on_clean, scale, clean_weight
        ).mean()

    return loss


def rslad_attack(modules, x, y, noise):
    soft = target(modules, x)

    def objective(x_adv):
        return divergence(soft, modules["student"](x_adv))

    return ascend(modules, objective, x, noise)


class Dkl:
    """`means` has a row for each class; `sums` is that of the epoch so far."""

    def __init__(self, alpha=4.0, beta=20.0, temperature=4.0, inner_beta=0.0):
        self.alpha, self.beta, self.inner_beta = alpha, beta, inner_beta
        self.temperature, self.share = temperature, 0.0
        self.means, self.sums = torch.full((10, 10), 0.1), torch.zeros(10, 10)

    def begin_epoch(self, share):
        """`share` is that of the radius. Classes without images stay."""
        self.share = share
        for label, row in enumerate(self.sums):
            if row.sum() > 0:
                self.means[label] = row / row.sum()
        self.sums = torch.zeros(10, 10)

    def square_error(self, a, b, y):
        w = self.means[y]
        pairs = (a[:, :, None] - a[:, None]) - (b[:, :, None] - b[:, None])
        weights = w[:, :, None] * w[:, None]
        return 0.25 * (weights * pairs**2).sum((1, 2))

    def attack(self, modules, x, y, noise):
        modules["student"].eval()
        with torch.no_grad():
            clean = modules["student"](x)

        def objective(x_adv):
            logits = modules["student"](x_adv)
            value = divergence(clean, logits)
            return value + self.inner_beta * self.square_error(clean, logits, y)

        epsilon = EPSILON * self.share
        return ascend(modules, objective, x, noise, 5, epsilon, epsilon / 2)

    def loss(self, modules, x, x_adv, y):
        adversarial, clean = modules["student"](x_adv), modules["student"](x)
        for label, logits in zip(y, clean.detach(), strict=True):
            self.sums[label] += F.softmax(logits / self.temperature, 0)
        soft = F.softmax(clean, 1).detach()
        return (
            F.cross_entropy(clean, y)
            + self.beta * self.square_error(clean, adversarial, y).mean()
            + self.alpha * F.cross_entropy(adversarial, soft)
        )


class Absld:
    """As the code: both soft labels are divided by both temperatures."""

    def __init__(self, rate=0.1, low=0.5, high=5.0):
        self.rate, self.low, self.high = rate, low, high
        # For x* and for the clean images, a number for each class.
        self.temperatures = [[1.0] * 10, [1.0] * 10]
        self.sums = [[0.0] * 10, [0.0] * 10]

    def end_epoch(self):
        for temperatures, sums in zip(
            self.temperatures, self.sums, strict=True
        ):
            gaps = [value - sum(sums) / 10 for value in sums]
            largest = max(map(abs, gaps))
            for c in range(10):
                moved = temperatures[c] - self.rate * gaps[c] / largest
                temperatures[c] = min(max(moved, self.low), self.high)
        self.sums = [[0.0] * 10, [0.0] * 10]

    def soft_label(self, modules, x, y):
        logits = target(modules, x)
        for temperatures in self.temperatures:
            divisors = [temperatures[c] for c in y.tolist()]
            logits = logits / torch.tensor(divisors)[:, None]
        return logits

    def attack(self, modules, x, y, noise):
        soft = self.soft_label(modules, x, y)

        def objective(x_adv):
            return divergence(soft, modules["student"](x_adv))

        return ascend(modules, objective, x, noise)

    def loss(self, modules, x, x_adv, y):
        logits = modules["student"](x_adv), modules["student"](x)
        for sums, predicted in zip(self.sums, logits, strict=True):
            losses = F.cross_entropy(predicted, y, reduction="none").tolist()
            for label, value in zip(y.tolist(), losses, strict=True):
                sums[label] += value
        soft = self.soft_label(modules, x, y)
        robust, clean = (divergence(soft, z).mean() for z in logits)
        return 5 / 6 * robust + 1 / 6 * clean


def peeraid_attack(modules, x, y, noise):
    peer = modules["peer"].eval()
    soft = target(modules, x, "peer")
    peer.train()

    def objective(x_adv):
        return divergence(soft, modules["student"](x_adv))

    return ascend(modules, objective, x, noise)


def peeraid_loss(temperature, lambdas, gammas):
    """The means are over the classes too, as those of `F.kl_div` are."""

    def soft(target, predicted, t):
        log_q = F.log_softmax(predicted / t, 1)
        p = F.softmax(target / t, 1)
        return t * t * F.kl_div(log_q, p, reduction="none").mean()

    def loss(modules, x, x_adv, y):
        student, peer = modules["student"], modules["peer"]
        of_peer, first = peer(x_adv), student(x_adv)
        of_student, clean = student(x_adv), student(x)
        return (
            gammas[0] * F.cross_entropy(of_peer, y)
            + gammas[1] * soft(first, of_peer, 1.0)
            + lambdas[0] * F.cross_entropy(of_student, y)
            + lambdas[1] * soft(of_peer.detach(), of_student, temperature)
            + lambdas[2] * soft(clean, of_student, temperature)
        )

    return loss


class Ciard:
    """Its means are over the classes too. `errors` is that of the last step."""

    def __init__(
        self, rate=0.001, ceiling=10.0, push=1.0, push_temperature=5.0
    ):
        self.rate, self.ceiling, self.push = rate, ceiling, push
        self.push_temperature = push_temperature
        self.temperatures, self.errors = [1.0, 1.0], 0

    def attack(self, modules, x, y, noise):
        def cross_entropy(x_adv):
            return F.cross_entropy(modules["student"](x_adv), y)

        return ascend(modules, cross_entropy, x, noise)

    def losses(self, modules, x, x_adv, y):
        """Returns the scalars that train the student, and the teacher."""
        student, teacher = modules["student"], modules["teacher"].train()
        on_clean = student(x)
        target(modules, x)
        on_adversarial, robust = student(x_adv), teacher(x_adv)
        natural = target(modules, x, "clean_teacher")
        misled = target(modules, x_adv, "clean_teacher")

        t_a, t_c = self.temperatures
        l_a = divergence(robust.detach() / t_a, on_adversarial).mean() / 10
        l_c = divergence(natural / t_c, on_clean).mean() / 10
        total = l_a + l_c
        errs = [i for i in range(len(y)) if misled[i].argmax() != y[i]]
        self.errors = len(errs)
        if errs:
            softer = on_adversarial[errs] / self.push_temperature
            l_p = divergence(misled[errs], softer).mean() / 10
            orders = [
                math.floor(math.log10(abs(value.item()) or 1e-7))
                for value in (l_a, l_c, l_p)
            ]
            m = 10.0 ** (min(orders[:2]) - orders[2])
            total = total - self.push * m * l_p

        ratio = entropy(robust.detach() / t_a).mean() / (
            entropy(natural / t_c).mean()
        )
        step = self.rate * torch.sign(ratio - 1.0).item()
        moved = (t_a - step, t_c + step)
        self.temperatures = [max(min(self.ceiling, t), 1.0) for t in moved]
        return total, F.cross_entropy(robust, y)
