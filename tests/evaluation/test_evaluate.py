"""The driver: who is attacked, what is counted, what is kept."""

import keras
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

import keras_adaad
from keras_adaad.attacks import APGD
from keras_adaad.attacks import FAB
from keras_adaad.attacks import PGD
from keras_adaad.attacks import Square
from keras_adaad.attacks import TargetedAPGD
from keras_adaad.attacks import autoattack
from keras_adaad.evaluation import stages
from keras_adaad.evaluation.threat_model import ThreatModel
from tests import networks
from tests.attacks.test_norms import size
from tests.oracles import attacks as oracles
from tests.parameters import once_except

EPSILON = 0.1
FAST = ["fgsm", "pgd-10", "cw"]


@pytest.fixture(scope="module")
def model():
    return oracles.trained_pair()[0]


@pytest.fixture(scope="module")
def data():
    """Digits that the model has not seen, the wrong ones included."""
    x, y = oracles.digits()
    return oracles.to_keras(x[1300:1364]), y[1300:1364].numpy()


def evaluate(model, data, attacks=FAST, epsilon=EPSILON, **options):
    options = {
        "batch_size": 32,
        "reliability_checks": False,
        "curve": False,
        "verbose": 0,
        **options,
    }
    return keras_adaad.evaluate_robustness(
        model, *data, attacks, epsilon, **options
    )


def right(model, x, y, batch_size):
    return model.predict(x, batch_size, verbose=0).argmax(-1) == y


def test_only_what_is_left_goes_on(model, data):
    report = evaluate(model, data)
    before = report.clean
    assert (~before).sum() > 0
    for result in report.results:
        assert result.attacked == before.sum()
        assert (result.robust <= before).all()
        before = result.robust
    np.testing.assert_array_equal(
        report.results[0].individual, report.results[0].robust
    )
    assert report.results[1].individual is None
    assert 0.2 < report.robust_accuracy < report.clean_accuracy


def test_verdicts_are_those_of_the_images(model, data):
    """Classified again, by Keras, in other batches."""
    report = evaluate(model, data)
    x, y = data
    x_adv = report.images["adversarial"]
    np.testing.assert_array_equal(right(model, x, y, 64), report.clean)
    np.testing.assert_array_equal(right(model, x_adv, y, 7), report.robust)
    fooled = report.clean & ~report.robust
    np.testing.assert_array_equal(x_adv[~fooled], x[~fooled])
    sizes = size(x_adv - x, "linf")
    assert sizes.max() == pytest.approx(report.max_perturbation)
    assert 0.99 * EPSILON < sizes.max() <= EPSILON + 1e-6
    assert x_adv.min() >= 0.0 and x_adv.max() <= 1.0
    for kind in ("clean", "adversarial"):
        probabilities = report.images[f"{kind}_probabilities"]
        np.testing.assert_allclose(probabilities.sum(-1), 1.0, rtol=1e-5)


def test_paths_lead_from_clean_to_adversarial(model, data, tmp_path):
    """The confidences of the page are the model's at these points."""
    report = evaluate(model, data, ["fgsm", "pgd-10"])
    images, positions = report.images, report.images["path_positions"]
    assert 5 < len(positions) <= 24
    assert (report.clean & ~report.robust)[positions].all()
    paths = images["path_probabilities"]
    assert paths.shape == (len(positions), 11, 10)
    clean, x_adv = (images[k][positions] for k in ("clean", "adversarial"))
    for i in range(11):
        points = (clean + i / 10 * (x_adv - clean)).astype("float32")
        expected = scipy.special.softmax(model.predict(points, verbose=0), -1)
        np.testing.assert_allclose(paths[:, i], expected, rtol=1e-3, atol=1e-5)
    report.save_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.count('type="radio"') == len(positions)


def test_without_time_or_a_fooled_image_there_is_no_path(model, data):
    for options in ({"epsilon": 0.0}, {"time_budget": 0.0}):
        report = evaluate(model, data, ["fgsm"], **options)
        assert "path_positions" not in report.images


def test_a_path_through_nan_is_left_out():
    """Between two images may lie a point where a function has no answer."""

    def function(x):
        x = x.reshape(-1, 1)
        between = (x > 0.4) & (x < 0.6)
        logits = np.concatenate([x - 0.5, 0.5 - x], -1)
        return np.where(between, np.nan, logits)

    x = np.array([0.9, 0.1], "float32").reshape(2, 1, 1, 1)
    report = evaluate(function, (x, [0, 1]), ["square"], 0.8)
    assert report.robust_accuracy == 0.0
    assert "path_positions" not in report.images


def test_individual_is_each_attack_alone(model, data):
    together = evaluate(model, data, individual=True)
    worst = together.clean
    for result in together.results:
        assert result.attacked == together.clean.sum()
        alone = evaluate(model, data, [result.name])
        np.testing.assert_array_equal(result.individual, alone.robust)
        worst = worst & result.individual
        np.testing.assert_array_equal(result.robust, worst)


def test_batch_size_does_not_change_verdicts(model, data):
    reports = [evaluate(model, data, batch_size=n) for n in (64, 20)]
    for a, b in zip(*(report.results for report in reports), strict=True):
        np.testing.assert_array_equal(a.robust, b.robust)


def test_seed_decides(model, data):
    attacks = [PGD(epsilon=EPSILON, steps=1, step_size=0.02)]
    found = [
        evaluate(model, data, attacks, seed=seed).images["adversarial"]
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 1e-3
    free = evaluate(model, data, attacks, seed=None)
    again = evaluate(model, data, attacks, seed=free.seed)
    np.testing.assert_array_equal(free.robust, again.robust)


@settings(max_examples=8, deadline=None)
@given(
    norm=st.sampled_from(["linf", "l2"]),
    scale=st.floats(0.0, 2.0),
    growth=st.floats(1.5, 3.0),
)
def test_accuracy_falls_with_epsilon_and_attacks(
    model, data, norm, scale, growth
):
    epsilon = scale * {"linf": 0.1, "l2": 0.6}[norm]
    attacks = ["fgsm", "pgd-10"]
    small = evaluate(model, data, attacks, epsilon, norm=norm)
    large = evaluate(model, data, attacks, epsilon * growth, norm=norm)
    fewer = evaluate(model, data, attacks[:1], epsilon, norm=norm)
    assert large.robust_accuracy <= small.robust_accuracy
    assert small.robust_accuracy <= fewer.robust_accuracy
    assert small.max_perturbation <= epsilon * (1 + 1e-5) + 1e-6


def test_epsilon_zero_is_clean_accuracy(model, data):
    report = evaluate(model, data, ["fgsm", "pgd-10", "cw"], 0.0)
    np.testing.assert_array_equal(report.robust, report.clean)
    assert report.max_perturbation == 0.0


def test_curve_never_rises(model, data):
    epsilons = [0.3, 0.0, 0.05, 0.1]
    report = evaluate(model, data, ["fgsm"], curve=epsilons)
    curve = report.curve
    assert curve["epsilons"] == sorted(epsilons)
    assert curve["accuracy"][0] == report.clean_accuracy
    assert curve["accuracy"] == sorted(curve["accuracy"], reverse=True)
    assert curve["accuracy"][-1] < curve["accuracy"][1] - 0.2
    assert curve["num_images"] == len(data[0])


def test_indices_choose(model, data):
    whole = evaluate(model, data, ["fgsm"])
    indices = [40, 3, 17, 5]
    some = evaluate(model, data, ["fgsm"], indices=indices)
    np.testing.assert_array_equal(some.robust, whole.robust[indices])
    assert some.indices.tolist() == indices
    np.testing.assert_array_equal(some.labels, data[1][indices])


def test_one_hot_labels_and_names(model, data):
    x, y = data
    names = [f"digit {k}" for k in range(10)]
    report = evaluate(model, (x, np.eye(10)[y]), "fgsm", class_names=names)
    np.testing.assert_array_equal(report.labels, y)
    assert "digit" in str(report)


def test_report_holds_what_is_needed_to_repeat(model, data):
    attack = APGD(epsilon=EPSILON, steps=5, seed=7)
    report = evaluate(model, data, ["pgd-20-trades", attack, attack], seed=3)
    trades, apgd, again = report.results
    assert trades.parameters["attack"] == "PGD"
    assert trades.parameters["steps"] == 20
    assert trades.parameters["step_size"] == pytest.approx(
        0.003 * EPSILON / (8 / 255)
    )
    assert trades.parameters["seed"] == 3
    assert apgd.parameters["seed"] == 7 and apgd.parameters["rho"] == 0.75
    assert [r.name for r in report.results[1:]] == ["apgd", "apgd (2)"]
    assert again.robust.sum() == apgd.robust.sum()
    environment = report.environment
    assert environment["backend"] == keras.config.backend()
    assert environment["keras"] == keras.__version__
    assert environment["dtype"] == "float32" and environment["device"]


# Nothing is lost.


class Killed(PGD):
    """An attack during which the process dies."""

    alive = False
    runs = 0

    def _run(self, *args, **options):
        if not Killed.alive:
            raise KeyboardInterrupt
        Killed.runs += 1
        return super()._run(*args, **options)


def test_a_killed_evaluation_resumes(model, data, tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    attacks = ["fgsm", Killed(epsilon=EPSILON, steps=5), "cw"]
    monkeypatch.setattr(Killed, "alive", True)
    expected = evaluate(model, data, attacks)

    monkeypatch.setattr(Killed, "alive", False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model, data, attacks, state_path=path)
    monkeypatch.setattr(Killed, "alive", True)
    # What is done is not done again.
    monkeypatch.setattr(
        keras_adaad.attacks.FGSM,
        "_run",
        lambda *args, **options: pytest.fail("FGSM was done already"),
    )
    resumed = evaluate(model, data, attacks, state_path=path, batch_size=64)
    for a, b in zip(expected.results, resumed.results, strict=True):
        np.testing.assert_array_equal(a.robust, b.robust)
        assert a.parameters == b.parameters
    np.testing.assert_allclose(
        expected.images["adversarial"],
        resumed.images["adversarial"],
        atol=1e-5,
    )
    runs = Killed.runs
    evaluate(model, data, attacks, state_path=path)
    assert Killed.runs == runs


def test_state_of_another_evaluation_is_refused(model, data, tmp_path):
    path = tmp_path / "state.npz"
    evaluate(model, data, ["fgsm"], state_path=path)
    for change in (
        {"seed": 1},
        {"epsilon": 0.2},
        {"attacks": ["pgd-10"]},
        {"individual": True},
        {"indices": range(10)},
    ):
        with pytest.raises(ValueError, match="another evaluation"):
            evaluate(
                model, data, **{"attacks": ["fgsm"], **change}, state_path=path
            )
    path.write_text("not a state")
    with pytest.raises(ValueError, match="state_path"):
        evaluate(model, data, ["fgsm"], state_path=path)


def small_autoattack(monkeypatch):
    monkeypatch.setitem(
        autoattack.VERSIONS,
        "standard",
        {
            "apgd-ce": (APGD, {"steps": 3}),
            "apgd-t": (TargetedAPGD, {"steps": 2}),
            "fab-t": (FAB, {"steps": 2}),
            "square": (Square, {"queries": 20}),
        },
    )


def test_time_budget_is_a_quick_look(model, data, monkeypatch):
    small_autoattack(monkeypatch)
    report = evaluate(model, data, ["fgsm", "autoattack"], time_budget=0.0)
    assert not report.complete and not report.reliable
    assert "AutoAttack" not in str(report) and "quick look" in str(report)
    np.testing.assert_array_equal(report.robust, report.clean)
    generous = evaluate(model, data, ["autoattack"], time_budget=1e6)
    assert generous.complete and "AutoAttack (standard)" in str(generous)


def test_a_subclass_is_not_the_protocol(model, data, monkeypatch):
    """It may hold other attacks, so its name is its own."""
    small_autoattack(monkeypatch)

    class Quick(keras_adaad.attacks.AutoAttack):
        def attacks(self):
            return {"apgd-ce": super().attacks()["apgd-ce"]}

    report = evaluate(model, data, [Quick(epsilon=EPSILON)])
    assert [name for name, _ in report.stages()] == ["Quick (standard)"]


def test_a_stopped_attack_keeps_what_it_found(model, data, monkeypatch):
    """The time runs out in the second of four batches."""
    steps = []

    def advance(bar, images):
        steps.append(images)
        return len(steps) == 30

    monkeypatch.setattr(stages._Bar, "advance", advance)
    report = evaluate(
        model, data, ["pgd-20-sat"], time_budget=1e6, batch_size=16
    )
    (result,) = report.results
    assert not result.complete and result.individual is None
    assert (report.clean & ~result.robust).sum() > 0
    assert len(steps) == 30
    assert result.robust[40:].sum() == report.clean[40:].sum()


def test_autoattack_is_taken_apart(model, data, monkeypatch):
    small_autoattack(monkeypatch)
    report = evaluate(model, data, ["autoattack"])
    names = ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert [r.name for r in report.results] == names
    assert {r.group for r in report.results} == {"AutoAttack (standard)"}
    assert report.accuracy("AutoAttack (standard)") == report.robust_accuracy
    direct = keras_adaad.attacks.AutoAttack(epsilon=EPSILON, seed=0)(
        model, *data, batch_size=32
    )
    fooled = ~right(model, direct, data[1], 64)
    np.testing.assert_array_equal(report.robust, ~fooled)


@pytest.mark.parametrize("num_classes, left", [(3, 2), (5, 4)])
def test_too_few_classes_are_not_autoattack(monkeypatch, num_classes, left):
    small_autoattack(monkeypatch)
    few = oracles.smooth_pair(num_classes)[0]
    x, y = oracles.smooth_batch(8, num_classes)
    report = evaluate(
        few, (x, y), ["autoattack"], 0.05, reliability_checks=True
    )
    assert "AutoAttack" not in str(report)
    assert "fewer_classes" in report.flags
    expected = ["apgd-ce", "apgd-t", "fab-t", "square"]
    if num_classes == 3:
        expected.remove("apgd-t")
    assert [r.name for r in report.results] == expected
    with pytest.raises(ValueError, match="at least 4"):
        evaluate(oracles.smooth_pair(3)[0], (x, y % 3), ["apgd-t"])


@pytest.mark.once
def test_a_second_autoattack_does_not_hide_what_the_first_lacks():
    attacks = [
        keras_adaad.attacks.AutoAttack(epsilon=EPSILON, version=version)
        for version in ("standard", "rand")
    ]
    threat_model = ThreatModel(EPSILON, "linf", (0.0, 1.0))
    _, alone = stages.plan(attacks[0], threat_model, 5)
    assert "apgd-t has 4 targets" in alone and "fab-t" in alone
    _, missing = stages.plan(attacks, threat_model, 5)
    assert missing == alone
    _, missing = stages.plan(2 * attacks[:1], threat_model, 5)
    assert missing == alone
    assert stages.plan(attacks, threat_model, 10)[1] is None


# Cost.


def test_new_weights_need_no_new_program(model, data):
    traces = []
    # One size of batch, however many images are left.
    options = {"batch_size": 1, "indices": range(20)}

    def loss(labels, logits):
        traces.append(0)
        return keras_adaad.losses.margin_from_logits(labels, logits)

    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    attack = PGD(epsilon=EPSILON, steps=3, loss=loss)
    first = evaluate(clone, data, [attack], **options)
    count = len(traces)
    clone.set_weights([0.5 * w for w in model.get_weights()])
    second = evaluate(clone, data, [attack], **options)
    assert not np.array_equal(first.clean, second.clean)
    if keras.config.backend() != "torch":
        assert len(traces) == count
    # Another epsilon or number of steps needs none either.
    evaluate(
        clone, data, [PGD(epsilon=0.2, steps=5, loss=loss)], 0.2, **options
    )
    if keras.config.backend() != "torch":
        assert len(traces) == count
    margin = PGD(epsilon=EPSILON, steps=3, loss="margin")
    fresh = evaluate(clone, data, [margin], **options)
    np.testing.assert_array_equal(fresh.robust, second.robust)


def test_model_is_left_alone(model, data):
    before = networks.snapshot(model)
    evaluate(
        model, data, ["fgsm", "pgd-10"], reliability_checks=True, curve=True
    )
    networks.assert_same(before, networks.snapshot(model))


def test_progress(model, data, capsys):
    evaluate(model, data, ["fgsm", "pgd-10"], verbose=1)
    output = capsys.readouterr().out
    assert "fgsm" in output and "pgd-10" in output
    assert output.count("robust_accuracy") == 2
    evaluate(model, data, ["fgsm"])
    assert capsys.readouterr().out == ""


# Bad input.


class Unused(PGD):
    def _run(self, *args, **options):
        raise AssertionError("an attack ran")


def softmax_head(model):
    return keras.Model(model.inputs, keras.ops.softmax(model.outputs[0]))


def with_nan(x):
    x = x.copy()
    x[3, 2, 2] = np.nan
    return x


BAD = {
    "label range": (dict(y=lambda y: y + 1), "y"),
    "lengths": (dict(y=lambda y: y[:-1]), "y"),
    "no labels": (dict(y=lambda y: None), "y"),
    "empty": (dict(x=lambda x: x[:0], y=lambda y: y[:0]), "x"),
    "nan": (dict(x=with_nan), "NaN"),
    "range": (dict(x=lambda x: 255 * x), "input_range"),
    "unknown attack": (dict(attacks=["pgdd"]), "pgdd"),
    "no attack": (dict(attacks=[]), "attacks"),
    "other epsilon": (dict(attacks=[Unused(epsilon=0.3)]), "epsilon"),
    "other norm": (dict(attacks=[Unused(epsilon=0.1, norm="l2")]), "norm"),
    "norm": (dict(norm="l1"), "norm"),
    "epsilon": (dict(epsilon=-0.1), "epsilon"),
    "indices": (dict(indices=[0, 64]), "indices"),
    "batch size": (dict(batch_size=0), "batch_size"),
    "seed": (dict(seed=-1), "seed"),
    "class names": (dict(class_names=["one"]), "class_names"),
    "curve": (dict(curve=[0.1, -0.1]), "curve"),
    "empty curve": (dict(curve=[]), "curve.*at least one epsilon"),
    "no list": (dict(curve=None), "curve.*False"),
    "time budget": (dict(time_budget=-1), "time_budget"),
}


@pytest.mark.parametrize("name", once_except(BAD, "label range"))
def test_bad_input(model, data, name):
    change, match = BAD[name]
    change = dict(change)
    x, y = (
        change.pop(key, lambda value: value)(value)
        for key, value in zip("xy", data, strict=True)
    )
    options = {"attacks": [Unused(epsilon=EPSILON)], **change}
    with pytest.raises(ValueError, match=match):
        evaluate(model, (x, y), **options)


def test_bad_types(model, data):
    with pytest.raises(TypeError, match="attacks"):
        evaluate(model, data, [PGD])
    with pytest.raises(TypeError, match="model"):
        evaluate(lambda x: x, data)


def test_probabilities_are_refused(model, data):
    with pytest.raises(ValueError, match="softmax"):
        evaluate(softmax_head(model), data)

    class Hidden(keras.Model):
        def call(self, x, training=False):
            return keras.ops.softmax(model(x, training=training))

    with pytest.raises(ValueError, match="probabilities"):
        evaluate(Hidden(), data, [Unused(epsilon=EPSILON)])
