"""MTARD, B-MTARD, DGAD, SAAD, IGDM and weights against transcriptions."""

import keras
import numpy as np
import pytest

from keras_adaad import recipes
from keras_adaad.attacks import PGD
from keras_adaad.methods import AdaAD
from keras_adaad.methods.absld import ABSLD
from keras_adaad.methods.bmtard import BMTARD
from keras_adaad.methods.dgad import DGAD
from keras_adaad.methods.dkl import DKL
from keras_adaad.methods.drops import dropped
from keras_adaad.methods.entropy_weighting import EntropyWeighting
from keras_adaad.methods.igdm import IGDM
from keras_adaad.methods.mtard import MTARD
from keras_adaad.methods.peeraid import PeerAiD
from keras_adaad.methods.rslad import RSLAD
from keras_adaad.methods.saad import SAAD
from keras_adaad.optimizers import PerNetwork
from keras_adaad.training.distiller import Distiller
from keras_adaad.training.sample_weighting import SampleWeighting
from tests import networks
from tests.methods import parity
from tests.oracles import stateful_methods as transcriptions
from tests.parameters import once_except

TWO_TEACHERS = ("student", "teacher", "clean_teacher")
ONE_TEACHER = ("student", "teacher")


def states(trainer):
    """Returns the values of all states, those of each class included."""
    return np.concatenate(
        [np.ravel(keras.ops.convert_to_numpy(v)) for v in trainer._states]
    ).tolist()


@pytest.mark.parametrize("reduction, scale", [("batchmean", 1), ("mean", 10)])
def test_mtard_is_the_papers_over_five_steps(batch, noise, reduction, scale):
    models, modules = parity.twins(*TWO_TEACHERS)
    oracle = transcriptions.Mtard(
        rate=0.3, scale=1.0 if reduction == "batchmean" else scale / 10
    )
    trainer = MTARD(**models, weight_rate=0.3, reduction=reduction, scale=scale)
    parity.compare_step(
        trainer, modules, oracle.attack, oracle.loss, *batch, noise, steps=5
    )
    assert abs(oracle.clean_weight - 0.5) > 1e-3
    np.testing.assert_allclose(
        [
            float(trainer.clean_weight),
            float(trainer.first_adversarial_loss),
            float(trainer.first_clean_loss),
        ],
        [oracle.clean_weight, *oracle.first],
        rtol=1e-5,
    )


def test_bmtard_is_the_papers_over_five_steps(batch, noise):
    models, modules = parity.twins(*TWO_TEACHERS)
    oracle = transcriptions.Bmtard(temperature_rate=0.5, ceiling=2.2)
    trainer = BMTARD(**models, temperature_rate=0.5, max_temperature=2.2)
    parity.compare_step(
        trainer, modules, oracle.attack, oracle.loss, *batch, noise, steps=5
    )
    ours = [
        float(trainer.adversarial_temperature),
        float(trainer.clean_temperature),
        float(trainer.clean_weight),
    ]
    theirs = [*oracle.temperatures, oracle.clean_weight]
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert max(oracle.temperatures) > 1.0


def test_bmtard_brings_the_entropies_together(batch):
    x, y = batch
    models, _ = parity.twins(*TWO_TEACHERS)
    kernel = models["clean_teacher"].get_layer("logits").kernel
    kernel.assign(4.0 * keras.ops.convert_to_tensor(kernel))
    trainer = BMTARD(**models, temperature_rate=0.1)
    trainer.compile("sgd")
    for _ in range(3):
        trainer.train_on_batch(x, y)
    assert float(trainer.clean_temperature) == pytest.approx(1.3)
    assert float(trainer.adversarial_temperature) == 1.0


@pytest.mark.parametrize("consistency", [0.0, 1.0])
def test_dgad_is_the_papers(batch, noise, consistency):
    models, modules = parity.twins(*ONE_TEACHER)
    x, y = batch
    # An untrained teacher is right too seldom; make it right on every third.
    predicted = models["teacher"].predict(x, verbose=0).argmax(-1)
    y = np.where(np.arange(len(y)) % 3 == 0, predicted, y).astype("int32")
    parity.compare_step(
        DGAD(**models, consistency=consistency),
        modules,
        transcriptions.adaad_attack,
        transcriptions.dgad_loss(consistency),
        x,
        y,
        noise,
    )


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_saad_is_the_papers(batch, noise, clean_weight):
    models, modules = parity.twins(*ONE_TEACHER)
    trainer = SAAD(
        **models, igdm_weight=3.0, clean_weight=clean_weight, correction=0.7
    )
    trainer.epoch.assign(49.0)
    parity.compare_step(
        trainer,
        modules,
        transcriptions.saad_attack(correction=0.7),
        transcriptions.saad_loss(5.0, 3.0 * 50 / 200, clean_weight),
        *batch,
        noise,
        # The loss is small: 1e-5 of it is less than its terms' rounding.
        loss_rel=3e-5,
    )


def test_saad_differentiates_the_moving_target(batch, noise):
    """Fails if someone detaches the correction, or drops it."""
    models, _ = parity.twins(*ONE_TEACHER)
    x, y = batch
    x_adv = SAAD(**models).perturb(x, y, noise=noise)
    fixed = SAAD(**models, correction=0.0).perturb(x, y, noise=noise)
    assert (np.abs(x_adv - fixed) < 1e-5).mean() < 0.99


@pytest.mark.parametrize(
    "order", [None, ("adversarial", "clean", "opposite", "adversarial")]
)
def test_igdm_is_the_papers(batch, noise, order):
    models, modules = parity.twins(*ONE_TEACHER)
    term = IGDM(weight=2.0, order=order)
    trainer = AdaAD(**models, regularizers=[term])
    trainer.epochs.assign(4.0)
    parity.compare_step(
        trainer,
        modules,
        transcriptions.adaad_attack,
        transcriptions.adaad_igdm_loss(
            2.0 * 1 / 4, order or ("clean", "adversarial", "opposite")
        ),
        *batch,
        noise,
    )


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_other_methods_take_the_parts_of_saad(batch, noise, clean_weight):
    """AdaAD's loss with both parts is SAAD's, in SAAD's order of runs."""
    models, modules = parity.twins(*ONE_TEACHER)
    order = ("adversarial", "opposite", "clean")
    trainer = AdaAD(
        **models,
        regularizers=[IGDM(weight=2.0, order=order)],
        sample_weighting=EntropyWeighting(3.0, clean_weight),
    )
    trainer.epochs.assign(4.0)
    parity.compare_step(
        trainer,
        modules,
        transcriptions.adaad_attack,
        transcriptions.saad_loss(3.0, 2.0 / 4, clean_weight),
        *batch,
        noise,
        loss_rel=3e-5,
    )


def test_weights_multiply_the_whole_loss_of_a_method(batch, noise):
    models, modules = parity.twins(*ONE_TEACHER)
    parity.compare_step(
        RSLAD(**models, sample_weighting=EntropyWeighting(2.0, 0.3)),
        modules,
        transcriptions.rslad_attack,
        transcriptions.weighted_rslad_loss(2.0, 0.3),
        *batch,
        noise,
        loss_rel=3e-5,
    )


def test_dkl_is_the_papers(batch, noise):
    models, modules = parity.twins("student")
    oracle, trainer = transcriptions.Dkl(), DKL(**models)
    trainer.epoch.assign(149)
    oracle.begin_epoch(150 / 200)
    # Near the image, the gradient is lost in rounding.
    data = (*batch, 20 * noise)
    parity.compare_step(trainer, modules, oracle.attack, oracle.loss, *data)


def test_dkl_weights_classes_by_the_epoch_before(batch, noise):
    models, modules = parity.twins("student")
    x, y = batch
    y = np.where(y == 3, 4, y)  # No image of class 3.
    # Small weights: the second step starts from almost the same student.
    options = {"inner_beta": 1.0, "alpha": 0.2, "beta": 0.1, "temperature": 2.0}
    oracle, trainer = transcriptions.Dkl(**options), DKL(**models, **options)
    trainer.epochs.assign(4.0)
    for epoch in (0, 1):
        trainer.epoch.assign(epoch)
        oracle.begin_epoch((epoch + 1) / 4)
        parity.compare_step(
            *(trainer, modules, oracle.attack, oracle.loss),
            *(x, y, 20 * noise),
        )
    means = keras.ops.convert_to_numpy(trainer.class_means)
    np.testing.assert_allclose(means, oracle.means, rtol=1e-4)
    assert means[3] == pytest.approx(0.1) and means[4].max() > 0.11
    sums = keras.ops.convert_to_numpy(trainer.class_sums)
    np.testing.assert_allclose(sums, oracle.sums, rtol=1e-4)


def test_absld_moves_its_temperatures_between_epochs(batch, noise):
    models, modules = parity.twins(*ONE_TEACHER)
    limits = {"rate": 2.0, "low": 0.25, "high": 2.5}
    oracle = transcriptions.Absld(**limits)
    trainer = ABSLD(
        **models,
        temperature_rate=limits["rate"],
        min_temperature=limits["low"],
        max_temperature=limits["high"],
    )
    for epoch in (0, 1, 2):
        trainer.epoch.assign(epoch)
        parity.compare_step(
            trainer, modules, oracle.attack, oracle.loss, *batch, noise
        )
        ours = [trainer.adversarial_temperatures, trainer.clean_temperatures]
        ours = [keras.ops.convert_to_numpy(t) for t in ours]
        np.testing.assert_allclose(ours, oracle.temperatures, rtol=1e-4)
        oracle.end_epoch()
    assert np.min(ours) == 0.25 and np.max(ours) == 2.5


@pytest.mark.parametrize(
    "cls, state", [(DKL, "class_means"), (ABSLD, "clean_temperatures")]
)
def test_epochs_of_a_loop_are_epochs(batch, cls, state):
    """`fit` counts from 0 in each call."""
    models, _ = parity.twins(*(ONE_TEACHER if cls is ABSLD else ("student",)))
    trainer = cls(**models, attack=PGD(epsilon=0.1, steps=1, seed=0))
    trainer.compile("sgd")
    for moved in (False, True):
        trainer.fit(*batch, verbose=0)
        found = keras.ops.convert_to_numpy(getattr(trainer, state))
        assert (np.ptp(found) > 0.0) == moved


@pytest.mark.parametrize(
    "cls, state", [(DKL, "class_means"), (ABSLD, "clean_temperatures")]
)
def test_an_epoch_that_begins_again_counts_once(batch, cls, state):
    """After Ctrl-C, or a backup in the middle of an epoch."""
    models, _ = parity.twins(*(ONE_TEACHER if cls is ABSLD else ("student",)))
    trainer = cls(**models, attack=PGD(epsilon=0.1, steps=1, seed=0))
    trainer.compile("sgd")
    found = []
    # The first and the second epoch, which is cut short twice.
    for epoch in (0, 1, 1, 1):
        trainer.start_epoch(epoch, 3)
        trainer.train_on_batch(*batch)
        found.append(keras.ops.convert_to_numpy(getattr(trainer, state)))
    assert np.ptp(found[0]) == 0.0 < np.ptp(found[1])
    networks.assert_same(found[1:3], found[2:4])


CHANGES = {
    "drops": (ABSLD, lambda trainer: setattr(trainer, "drops", (0.5,))),
    "order": (
        RSLAD,
        lambda trainer: setattr(
            trainer, "forward_order", ("adversarial", "clean")
        ),
    ),
    "a term": (SAAD, lambda trainer: setattr(trainer.igdm, "weight", 7.0)),
    "weights": (SAAD, lambda trainer: setattr(trainer.weighting, "scale", 9.0)),
}


@pytest.mark.once
@pytest.mark.parametrize("name", CHANGES)
def test_what_is_set_between_two_fits_counts(name):
    """TensorFlow and JAX compile it into the step."""
    method, change = CHANGES[name]
    models, _ = parity.twins(*ONE_TEACHER)
    trainer = method(**models)
    before = trainer._settings()
    assert trainer._settings() == before
    change(trainer)
    assert trainer._settings() != before


@pytest.mark.once
def test_arguments_of_saad_may_be_set():
    models, _ = parity.twins(*ONE_TEACHER)
    trainer = SAAD(**models)
    for name in ("entropy_scale", "igdm_weight", "clean_weight"):
        before = trainer._settings()
        setattr(trainer, name, 7.0)
        assert trainer._settings() != before
    weighting = trainer.weighting
    assert weighting.scale == weighting.clean_weight == 7.0
    assert trainer.igdm.weight == trainer.get_config()["igdm_weight"] == 7.0


@pytest.mark.parametrize(
    "number", [np.float32, np.asarray, keras.ops.convert_to_tensor]
)
def test_numbers_of_other_types_count(number):
    models, _ = parity.twins(*ONE_TEACHER)
    trainer = RSLAD(**models)
    trainer.alpha = number(0.25)
    before = trainer._settings()
    assert trainer._settings() == before
    trainer.alpha = number(0.5)
    assert trainer._settings() != before


def test_absld_stays_put_without_a_previous_epoch(batch):
    """A run that begins later, and classes that are equally hard."""
    models, _ = parity.twins(*ONE_TEACHER)
    trainer = ABSLD(**models, attack=PGD(epsilon=0.1, steps=2, seed=0))
    trainer.compile("sgd")
    trainer.epoch.assign(5.0)
    logs = trainer.train_on_batch(batch[0][:16], batch[1][:16])
    assert np.isfinite(logs).all()
    temperatures = keras.ops.convert_to_numpy(trainer.clean_temperatures)
    np.testing.assert_array_equal(temperatures, 1.0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.0, "lambda1": 0.3, "gamma1": 0.5, "gamma2": 4.0},
    ],
)
def test_peeraid_trains_both_networks_as_published(batch, noise, options):
    models, modules = parity.twins("student", "peer")
    loss = transcriptions.peeraid_loss(
        options.get("temperature", 5.0),
        (options.get("lambda1", 0.0), 1.0, 1.0),
        (options.get("gamma1", 1.0), options.get("gamma2", 0.1)),
    )
    parity.compare_step(
        PeerAiD(**models, **options),
        *(modules, transcriptions.peeraid_attack, loss, *batch, noise),
        # The divergence of two networks at temperature 5 is small.
        loss_rel=3e-5,
        trained=("student", "peer"),
    )


def test_peeraid_evaluates_the_student_alone(batch):
    """Neither `evaluate` nor the weight perturbation moves the peer."""
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins("student", "peer")
    attack = PGD(epsilon=0.1, steps=2, seed=0)
    options = {"attack": attack, "evaluation_attack": None}
    trainer = PeerAiD(**models, **options, weight_perturbation=0.01)
    trainer.compile(keras.optimizers.SGD(0.1), metrics=["accuracy"])
    before = networks.snapshot(trainer)
    logs = trainer.evaluate(x, y, verbose=0, return_dict=True)
    networks.assert_same(before, networks.snapshot(trainer))
    expected = models["student"].predict(x, verbose=0).argmax(-1)
    assert logs["accuracy"] == pytest.approx(np.mean(expected == y))
    peer = trainer.peer.get_weights()
    assert np.isfinite(trainer.train_on_batch(x, y)).all()
    moved = [
        not np.array_equal(a, b)
        for a, b in zip(peer, trainer.peer.get_weights(), strict=True)
    ]
    assert all(moved)


def test_peeraid_with_two_optimizers(batch, tmp_path):
    x, y = (array[:16] for array in batch)
    student, peer = networks.dense_net("student"), networks.dense_net("peer")
    trainer = PeerAiD(peer, student, PGD(epsilon=0.1, steps=1, seed=0))
    parts = {"student": "sgd", "peer": keras.optimizers.SGD(0.0)}
    trainer.compile(PerNetwork(parts))
    before = peer.get_weights(), student.get_weights()
    trainer.train_on_batch(x, y)
    networks.assert_same(before[0], peer.get_weights())
    assert not np.array_equal(before[1][0], student.get_weights()[0])
    trainer.save(tmp_path / "trainer.keras")
    resumed = keras.models.load_model(tmp_path / "trainer.keras")
    assert resumed.train_on_batch(x, y) == pytest.approx(
        trainer.train_on_batch(x, y)
    )
    assert int(resumed.optimizer.parts["peer"].iterations) == 2


@pytest.mark.once
def test_a_missing_peer_is_named():
    student = networks.student_net()
    with pytest.raises(TypeError, match="`peer` must be"):
        PeerAiD(None, student)
    with pytest.raises(ValueError, match="`peer` and `student`"):
        PeerAiD(student, student)


class OfStudent(SampleWeighting):
    """Weights through which a gradient could flow, or the given ones."""

    def __init__(self, given=None):
        self.given = given

    def weights(self, distiller, views, logits, y):
        if self.given is not None:
            return keras.ops.convert_to_tensor(self.given)
        return keras.ops.max(logits["clean"], axis=-1)


def test_weights_of_ones_own_are_constants_of_the_step(batch):
    """The step is that with the same numbers, and no gradient, as weights."""
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*ONE_TEACHER)
    student = models["student"]
    start = student.get_weights()
    given = keras.ops.convert_to_numpy(student(x, training=True)).max(-1)
    after = []
    for weights in (None, given):
        student.set_weights(start)
        trainer = AdaAD(
            **models,
            attack=PGD(epsilon=0.1, steps=2, seed=0),
            sample_weighting=OfStudent(weights),
        )
        trainer.compile(keras.optimizers.SGD(0.1))
        trainer.train_on_batch(x, y)
        after.append(student.get_weights())
    for ours, theirs in zip(*after, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_target_is_computed_once_for_each_loss(batch):
    models, _ = parity.twins(*ONE_TEACHER)
    trainer = RSLAD(**models)
    x = keras.ops.convert_to_tensor(batch[0][:4])
    seen = []

    class Asks(SampleWeighting):
        def weights(self, distiller, views, logits, y):
            targets = [distiller.teacher_logits(views["clean"]) for _ in "12"]
            seen.extend(targets)
            return keras.ops.ones(len(views["clean"]))

    trainer.sample_weighting = Asks()
    views = {"clean": x, "adversarial": x}
    logits = dict.fromkeys(views, trainer.student(x))
    for _ in range(2):
        trainer.total_loss(views, logits, None)
    assert seen[0] is seen[1] and seen[1] is not seen[2]


NAMES = ["absld", "mtard", "bmtard", "dgad", "dkl", "peeraid", "saad"]


def methods(models):
    clean_teacher = models.pop("clean_teacher")
    # Few steps: JAX unrolls and compiles each.
    models["attack"] = PGD(epsilon=0.1, steps=2, seed=0)
    student, peer = models["student"], networks.teacher_net("peer")
    return {
        "peeraid": lambda: PeerAiD(peer, student, models["attack"]),
        "absld": lambda: ABSLD(**models, temperature_rate=0.2),
        "dkl": lambda: DKL(student, models["attack"]),
        "mtard": lambda: MTARD(**models, clean_teacher=clean_teacher),
        "bmtard": lambda: BMTARD(
            **models, clean_teacher=clean_teacher, temperature_rate=0.1
        ),
        "dgad": lambda: DGAD(
            **models,
            regularizers=[IGDM(2.0)],
            sample_weighting=EntropyWeighting(2.0, clean_weight=0.5),
        ),
        "saad": lambda: SAAD(**models, clean_weight=0.5),
    }


@pytest.mark.parametrize(
    "name",
    once_except(
        ["absld", "mtard", "bmtard", "dgad", "dkl", "saad"], "mtard", "saad"
    ),
)
def test_trains_and_resumes_in_the_middle(tmp_path, batch, name):
    """One run per method: `fit` moves the state, a file keeps all of it."""
    # One batch size, so that `fit` and the steps after it share a program.
    x, y = (array[:16] for array in batch)
    models, _ = parity.twins(*TWO_TEACHERS)
    trainer = methods(models)[name]()
    trainer.compile(keras.optimizers.SGD(0.1, momentum=0.9))
    before = states(trainer)
    trainer.fit(x, y, batch_size=16, epochs=2, verbose=0)
    assert float(trainer.epoch) == 1.0 and float(trainer.epochs) == 2.0
    moved = [a != b for a, b in zip(before, states(trainer), strict=True)]
    # A temperature stays at its bound.
    assert sum(moved) >= len(moved) - 1

    trainer.save(tmp_path / "trainer.keras")
    resumed = keras.models.load_model(tmp_path / "trainer.keras")
    assert states(resumed) == states(trainer)
    for name, value in trainer.get_config().items():
        if name not in (*TWO_TEACHERS, "peer"):
            assert resumed.get_config()[name] == value
    ours = resumed.train_on_batch(x, y)
    assert ours == pytest.approx(trainer.train_on_batch(x, y), rel=1e-5)
    assert states(resumed) == pytest.approx(states(trainer), rel=1e-5)
    for a, b in zip(
        resumed.student.get_weights(),
        trainer.student.get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

    before = states(trainer)
    assert np.isfinite(trainer.test_on_batch(x, y)).all()
    assert states(trainer) == before


def test_rates_fall_after_the_published_epochs():
    models, _ = parity.twins(*TWO_TEACHERS)
    trainer = MTARD(**models)
    trainer.epochs.assign(300.0)
    rates = []
    for epoch in (214, 215, 259, 260, 284, 285):
        trainer.epoch.assign(epoch)
        rates.append(float(trainer.dropped(1.0)))
    np.testing.assert_allclose(
        rates, [1.0, 0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-6
    )


@pytest.mark.once
def test_rates_fall_with_the_learning_rate():
    """However many epochs there are."""
    recipe = recipes.get("MTARD", "cifar10")
    fraction = recipe.schedule.after[0] / recipe.epochs
    for epochs in range(1, 301, 7):
        drop = recipe.with_epochs(epochs).schedule.after[0]
        rates = [
            float(dropped(1.0, [fraction], float(epoch), float(epochs)))
            for epoch in (drop - 1, drop)
        ]
        np.testing.assert_allclose(rates, [1.0, 0.1], rtol=1e-6)


def test_two_equal_networks_keep_the_weight_finite(batch):
    """No loss at the first step, nothing to divide by."""
    x, y = batch
    models, _ = parity.twins(*TWO_TEACHERS)
    for name in ("teacher", "clean_teacher"):
        models[name] = keras.models.clone_model(models["student"])
    for model in models.values():
        kernel = model.get_layer("logits").kernel
        kernel.assign(np.zeros(kernel.shape))
    trainer = MTARD(**models)
    trainer.compile(keras.optimizers.SGD(0.0))
    trainer.train_on_batch(x, y)
    assert np.isfinite(states(trainer)).all()


@pytest.mark.once
@pytest.mark.parametrize("method", [MTARD, BMTARD])
def test_a_missing_clean_teacher_is_named(method):
    teacher, student = networks.teacher_net(), networks.student_net()
    with pytest.raises(TypeError, match="clean_teacher"):
        method(teacher, student)
    with pytest.raises(TypeError, match="`clean_teacher` must be"):
        method(teacher, student, clean_teacher=None)
    with pytest.raises(ValueError, match="`clean_teacher` and `student`"):
        method(teacher, student, clean_teacher=student)


@pytest.mark.once
@pytest.mark.parametrize(
    "method, argument, value",
    [
        (MTARD, "weight_rate", 1.1),
        (MTARD, "beta", -1.0),
        (MTARD, "drops", [1.5]),
        (MTARD, "reduction", "sum"),
        (MTARD, "scale", 0.0),
        (BMTARD, "temperature_rate", -0.1),
        (BMTARD, "max_temperature", 0.5),
        (DGAD, "consistency", -1.0),
        (ABSLD, "temperature_rate", -1.0),
        (ABSLD, "min_temperature", 0.0),
        (ABSLD, "max_temperature", 0.9),
        (ABSLD, "drops", [1.5]),
        (DKL, "alpha", -1.0),
        (DKL, "beta", -1.0),
        (DKL, "temperature", 0.0),
        (DKL, "inner_beta", -1.0),
        (PeerAiD, "temperature", 0.0),
        *((PeerAiD, f"lambda{i}", -1.0) for i in (1, 2, 3)),
        *((PeerAiD, f"gamma{i}", -1.0) for i in (1, 2)),
        (SAAD, "entropy_scale", -1.0),
        (SAAD, "igdm_weight", -1.0),
        (SAAD, "clean_weight", -1.0),
        (SAAD, "correction", float("nan")),
    ],
)
def test_bad_arguments_are_named(method, argument, value):
    models = {
        "teacher": networks.teacher_net(),
        "student": networks.student_net(),
    }
    if not issubclass(method, Distiller):
        teacher = models.pop("teacher")
        models |= {"peer": teacher} if method is PeerAiD else {}
    if issubclass(method, MTARD):
        models["clean_teacher"] = networks.teacher_net("clean_teacher")
    with pytest.raises(ValueError, match=f"`{argument}"):
        method(**models, **{argument: value})


@pytest.mark.once
def test_bad_terms_are_named():
    networks_ = networks.teacher_net(), networks.student_net()
    with pytest.raises(TypeError, match="`regularizers`"):
        AdaAD(*networks_, regularizers=IGDM())
    with pytest.raises(TypeError, match="`regularizers`"):
        AdaAD(*networks_, regularizers=["igdm"])
    for weighting in (EntropyWeighting, "entropy", [EntropyWeighting()]):
        with pytest.raises(TypeError, match="`sample_weighting`"):
            AdaAD(*networks_, sample_weighting=weighting)
    with pytest.raises(ValueError, match="`scale`"):
        EntropyWeighting(scale=-1.0)
    with pytest.raises(TypeError, match="`clean_weight`"):
        EntropyWeighting(clean_weight="much")
    with pytest.raises(ValueError, match="`weight`"):
        IGDM(weight=-1.0)
    with pytest.raises(ValueError, match="opposite"):
        IGDM(order=("clean", "adversarial"))
    # It would fail in the first step, where the accuracy is logged.
    with pytest.raises(ValueError, match="'clean'. are missing"):
        IGDM(order=("adversarial", "opposite"))


@pytest.mark.once
@pytest.mark.parametrize(
    "name", ["absld", "mtard", "bmtard", "dgad", "dkl", "saad"]
)
def test_labels_are_needed(batch, name):
    models, _ = parity.twins(*TWO_TEACHERS)
    trainer = methods(models)[name]()
    trainer.compile("sgd")
    with pytest.raises(ValueError, match="needs labels"):
        trainer.fit(batch[0], verbose=0)
