"""Teachers whose use for a student is known, and the report."""

import random

import keras
import numpy as np
import pytest

import keras_adaad
from keras_adaad.attacks import PGD
from keras_adaad.frozen.digest import digest
from keras_adaad.teachers import TeacherRanking
from keras_adaad.teachers import TeacherResult
from keras_adaad.teachers.candidates import candidates_of
from keras_adaad.teachers.ranking import search_radius
from keras_adaad.teachers.state import State
from tests import networks
from tests.docs import small
from tests.parameters import once_except

IMAGES = 60
ATTACK = PGD(epsilon=0.1, steps=2, start="normal", seed=0)


def linear(name, pixels=slice(None), seed=0, scale=1.0):
    """A linear network that sees some of the pixels."""
    inputs = keras.Input(networks.SHAPE)
    head = keras.layers.Dense(10)
    outputs = head(keras.layers.Flatten()(inputs))
    weights = np.zeros((64, 10))
    drawn = np.random.default_rng(seed).normal(size=weights.shape)
    weights[pixels] = scale * drawn[pixels]
    model = keras.Model(inputs, outputs, name=name)
    head.set_weights([weights, np.zeros(10)])
    return model


@pytest.fixture(scope="module")
def images():
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.float32(digits.images / 16)[..., None]
    return x[:IMAGES], digits.target[:IMAGES]


@pytest.fixture(scope="module")
def teachers():
    """One as the student, one that sees what the student does not."""
    return {
        "other pixels": linear("other", slice(32, 64), seed=1),
        "same": linear("same", slice(0, 32)),
    }


@pytest.fixture(scope="module")
def student():
    return linear("student", slice(0, 32))


def rank(teachers, student, x, y=None, attack=ATTACK, **options):
    options = {"warmup": 0, "verbose": 0, **options}
    return keras_adaad.rank_teachers(teachers, student, x, y, attack, **options)


@pytest.fixture(scope="module")
def ranking(teachers, student, images):
    return rank(teachers, student, *images)


def test_what_transfers_is_known(ranking):
    """All of the teacher that is the student, none of the blind spot's."""
    same, other = ranking.rows()
    assert (same["name"], other["name"]) == ("same", "other pixels")
    assert same["transferable"] == 1.0 and other["transferable"] == 0.0
    assert ranking.best == "same"
    assert ranking.first_shares == {"same": 1.0, "other pixels": 0.0}
    assert ranking.order_share == 1.0


def test_accuracy_is_that_of_an_evaluation(ranking, teachers, images):
    report = keras_adaad.evaluate_robustness(
        *(teachers["same"], *images, ["pgd"]),
        epsilon=ATTACK.epsilon,
        curve=ranking.epsilons,
        reliability_checks=False,
        verbose=0,
    )
    row = ranking.rows()[0]
    assert row["clean_accuracy"] == report.clean_accuracy
    assert row["robust_accuracy"] == pytest.approx(report.robust_accuracy)
    assert row["accuracy"][1:] == pytest.approx(report.curve["accuracy"])


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_entropy_is_that_on_the_students_adversarial_image(student, images):
    """One step on a linear student, by its gradient in closed form."""
    x = images[0]
    # A start so near that the ball hides it.
    start = {"start": "normal", "start_scale": 1e-7}
    attack = PGD(epsilon=0.05, step_size=0.05, steps=1, **start)
    teachers = [linear("a", seed=3, scale=0.3), linear("b", seed=4, scale=0.3)]
    found = rank(teachers, student, x, attack=attack)
    flat = x.reshape(IMAGES, 64)
    weights = student.get_weights()[0]
    for result in found.results:
        teacher = next(t for t in teachers if t.name == result.name)
        target = softmax(flat @ teacher.get_weights()[0])
        gradient = (softmax(flat @ weights) - target) @ weights.T
        x_adv = np.clip(flat + 0.05 * np.sign(gradient), 0.0, 1.0)
        p = softmax(x_adv @ teacher.get_weights()[0])
        np.testing.assert_allclose(
            result.entropy, -(p * np.log(p)).sum(-1), rtol=1e-3, atol=1e-4
        )


def test_a_teacher_that_cannot_be_attacked_is_last(images, tmp_path):
    """Its divergences are equal: all of its samples would be transferable."""
    constant = linear("constant", scale=0.0)
    saturated = linear("saturated", seed=1, scale=1e4)
    found = rank([constant, saturated, linear("good")], linear("s"), *images)
    assert found.best == "good"
    for result in found.results[1:]:
        assert result.moved.mean() < 0.5
        assert result.transfers.mean() <= result.moved.mean()
        assert "masked gradients" in found.flags[result.name]
        if result.name == "constant":
            assert not result.transfers.any()
    assert "trusted. Its clean accuracy" in found.flags["constant"]
    assert "a guess among 10 classes" in found.flags["constant"]
    assert "masked gradients" not in found.flags.get("good", "")
    found.save(tmp_path / "r.json")
    loaded = TeacherRanking.load(tmp_path / "r.json")
    assert loaded.flags == found.flags


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_no_image_is_robust_because_the_gradient_is_nan(student, images):
    inputs = keras.Input(networks.SHAPE)
    # The gradient of the root at zero times zero is NaN.
    nothing = keras.ops.sqrt(keras.ops.sum(0.0 * inputs, (1, 2, 3)))
    outputs = linear("finite", scale=0.01)(inputs) + nothing[:, None]
    teachers = {"nan": keras.Model(inputs, outputs), "good": linear("good")}
    with pytest.warns(UserWarning, match=r"teacher 'nan' met NaN .* robust"):
        found = rank(teachers, student, *images)
    (row,) = (row for row in found.rows() if row["name"] == "nan")
    assert row["clean_accuracy"] > 0.0
    assert row["robust_accuracy"] == 0.0


def test_without_labels_there_are_no_accuracies(teachers, student, images):
    found = rank(teachers, student, images[0])
    row = found.rows()[0]
    assert row["clean_accuracy"] is row["robust_accuracy"] is None
    # Its own classes of the clean images are right.
    assert found.results[0].clean.all() and row["search_radius"] > 0.0


def test_all_is_left_as_it_was(images):
    """Weights, statistics, flags, compile state, and random numbers.

    Each teacher has the same warm-up: two that are equal have equal results.
    """
    student = networks.randomized(small.network("student"), seed=2)
    teachers = [small.network(name) for name in "ab"]
    teachers[1].set_weights(teachers[0].get_weights())
    for teacher in teachers:
        teacher.layers[1].trainable = False
    optimizer = keras.optimizers.SGD()
    student.compile(optimizer, "mse")
    everything = [student, *teachers]
    before = [networks.snapshot(model) for model in everything]
    flags = [[v.trainable for v in model.variables] for model in everything]
    states = random.getstate(), np.random.get_state()[1].copy()

    found = rank(
        *(teachers, student, *images, PGD(epsilon=0.1, steps=1)),
        **{"warmup": 3, "batch_size": 30, "num_images": 50},
    )
    for model, old, flag in zip(everything, before, flags, strict=True):
        networks.assert_same(old, networks.snapshot(model))
        assert [v.trainable for v in model.variables] == flag
    assert student.optimizer is optimizer and not optimizer.built
    assert random.getstate() == states[0]
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])
    first, second = found.results
    np.testing.assert_allclose(first.entropy, second.entropy, rtol=1e-5)
    np.testing.assert_array_equal(first.transfers, second.transfers)
    assert first.seconds["AdaAD"] > first.seconds["RSLAD"] > 0.0
    assert found.num_images == 50


class Killed(Exception):
    pass


def test_a_killed_ranking_resumes(
    teachers, student, images, ranking, tmp_path, monkeypatch, capsys
):
    path = tmp_path / "state.json"
    add = State.add

    def add_and_die(*arguments):
        add(*arguments)
        raise Killed

    monkeypatch.setattr(State, "add", add_and_die)
    with pytest.raises(Killed):
        rank(teachers, student, *images, state_path=path)
    monkeypatch.undo()
    # Its layers have other names: Keras numbers them.
    student = linear("student", slice(0, 32))
    found = rank(teachers, student, *images, state_path=path, verbose=2)
    assert capsys.readouterr().out == "same:\n100.0 % transferable\n"
    for resumed, whole in zip(found.results, ranking.results, strict=True):
        np.testing.assert_array_equal(resumed.survived, whole.survived)
        np.testing.assert_allclose(resumed.entropy, whole.entropy, rtol=1e-6)
    with pytest.raises(ValueError, match="belongs to another ranking"):
        rank(teachers, student, *images, state_path=path, seed=1)
    path.write_text("{}")
    with pytest.raises(ValueError, match="damaged"):
        rank(teachers, student, *images, state_path=path)


@pytest.mark.once
def test_seconds_of_another_device_are_left_out(tmp_path):
    path = tmp_path / "state.json"
    result = made([1, 2], a=1.0, b=1.0).results[0]
    logits = np.array([[1.0, 2.0]])
    teacher = ("identity", logits)

    def state(device, student=logits):
        return State(path, "task", student, device)

    state("a GPU").add(*teacher, result)
    assert state("a GPU").get(*teacher).seconds
    other = state("cpu")
    assert not other.get(*teacher).seconds
    other.add("another", logits, result)
    assert other.get("another", logits).seconds
    assert state("a GPU").get(*teacher).seconds
    # Rounding differs, and is not another network.
    assert state("cpu", logits * 1.0001).get("identity", logits * 1.0001)
    assert state("cpu").get("identity", logits * 1.1) is None
    with pytest.raises(ValueError, match="student"):
        state("cpu", logits * 1.1)


@pytest.mark.once
def test_a_ranking_goes_on_without_its_file(tmp_path, caplog):
    path = tmp_path / "state.json"
    result = made([1, 2], a=1.0, b=1.0).results[0]
    logits = np.array([[1.0, 2.0]])
    first = State(path, "task", logits, "cpu")
    State(tmp_path / "other.json", "other", logits, "cpu").add(
        "identity", logits, result
    )
    (tmp_path / "other.json").rename(path)
    content = path.read_bytes()
    first.add("identity", logits, result)
    assert "Another ranking has taken `state_path" in caplog.text
    assert path.read_bytes() == content


class Scaled(networks.Subclassed):
    """Whose layers do not know its factor."""

    def __init__(self, factor):
        super().__init__(4)
        self.factor = factor

    def call(self, x, training=False):
        return self.factor * super().call(x, training)

    def get_config(self):
        return {"factor": self.factor}


def scaled(factor):
    model = Scaled(factor)
    model(np.zeros((1, *networks.SHAPE), "float32"))
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 0.1))
    return model


def with_operations(factor, crossed=False, dtype=None):
    """Two layers of the same shapes, and operations without weights."""
    inputs = keras.Input(networks.SHAPE)
    x = keras.layers.Flatten()(inputs)
    a, b = (
        keras.layers.Dense(3, dtype=dtype, kernel_initializer="ones")(x)
        for _ in range(2)
    )
    relu = keras.ops.relu
    outputs = (relu(a) - b if crossed else a - relu(b)) / factor
    return keras.Model(inputs, keras.ops.log_softmax(outputs))


def test_teachers_of_the_same_layers_are_told_apart():
    different = [
        *(scaled(1.0), scaled(9.0)),
        *(with_operations(1.0), with_operations(5.0)),
        with_operations(1.0, crossed=True),
        with_operations(1.0, dtype="mixed_bfloat16"),
    ]
    identities = [digest(model) for model in different]
    assert len(set(identities)) == len(different)
    # Keras gives other names to the same model.
    assert digest(scaled(9.0)) == identities[1]
    assert digest(with_operations(5.0)) == identities[3]


class AtTemperature(keras.Model):
    """Without `get_config`: Keras can't know its arguments."""

    def __init__(self, network, temperature):
        super().__init__()
        self.network, self.temperature = network, temperature

    def call(self, x):
        return self.network(x) / self.temperature


def test_teachers_without_configurations_are_told_apart(
    student, images, tmp_path
):
    network = linear("same", slice(0, 32))
    teachers = {str(t): AtTemperature(network, t) for t in (1.0, 0.5)}
    for teacher in teachers.values():
        teacher(images[0][:1])
    path = tmp_path / "state.json"
    results = rank(teachers, student, *images, state_path=path).results
    assert not np.allclose(results[0].entropy, results[1].entropy)
    again = rank(teachers, student, *images, state_path=path).results
    for result, same in zip(results, again, strict=True):
        assert result.name == same.name
        np.testing.assert_array_equal(result.entropy, same.entropy)


def test_files_are_teachers(teachers, student, images, ranking, tmp_path):
    path = tmp_path / "same.keras"
    teachers["same"].save(path)
    before = random.getstate()
    found = rank([teachers["other pixels"], path], student, *images)
    assert random.getstate() == before
    assert [result.name for result in found.results] == ["same", "other"]
    np.testing.assert_array_equal(
        found.results[0].survived, ranking.results[0].survived
    )


# The report.


def made(transfers, **names):
    """A ranking of teachers with so many transferable samples of 400."""
    rows = np.arange(400)
    results = [
        TeacherResult(
            name=name,
            parameters=10,
            moved=rows >= 0,
            transfers=rows < count,
            entropy=np.full(400, entropy),
            clean=rows < 300,
            survived=np.where(rows < 300, rows // 100, 0),
            seconds={"RSLAD": 1.0},
        )
        for (name, entropy), count in zip(names.items(), transfers, strict=True)
    ]
    return TeacherRanking(
        results=results,
        student_name="student",
        threat_model=keras_adaad.evaluation.ThreatModel(8 / 255),
        epsilons=[4 / 255, 8 / 255],
        passes={"RSLAD": 2, "AdaAD": 21},
        num_classes=10,
        has_labels=True,
        warmup=10,
        batch_size=128,
        seed=0,
        environment={"backend": "torch"},
        seconds=1.0,
    )


@pytest.mark.once
def test_order_and_interval():
    report = made([100, 200, 200], c=9.0, b=1.0, a=2.0)
    rows = report.rows()
    assert [row["name"] for row in rows] == ["a", "b", "c"]
    low, high = rows[2]["transferable_interval"]
    # Wilson's: where the share would be 1.96 deviations away.
    for bound in (low, high):
        deviation = (bound * (1 - bound) / 400) ** 0.5
        assert abs(bound - 0.25) == pytest.approx(1.96 * deviation, rel=1e-3)
    # Equal on every image: only the entropy decides.
    assert set(report.first_shares.values()) == {0.0}
    assert report.order_share == 0.0
    assert "400 images were drawn anew 2,000 times" in report.certainty
    assert "In 100 % of the draws, several teachers share" in report.certainty
    assert "only the entropy decides" in report.certainty
    assert "entropy" not in made([200, 199], a=1.0, b=1.0).certainty
    assert rows[0]["clean_accuracy"] == 0.75
    assert rows[0]["accuracy"] == [0.75, 0.5, 0.25]


@pytest.mark.once
def test_intervals_of_all_and_none():
    last, first = made([0, 400], none=1.0, all=1.0).rows()[::-1]
    assert last["transferable_interval"] == pytest.approx((0, 0.01), abs=1e-3)
    low, high = first["transferable_interval"]
    assert 0.98 < low < 1.0 and high == 1.0


@pytest.mark.once
def test_what_the_images_do_not_decide_is_said():
    report = made([200, 190], a=1.0, b=1.0)
    near = made([200, 200], a=1.0, b=1.0)
    shift = near.results[1].transfers
    near.results[1].transfers = np.roll(shift, 150)
    near = TeacherRanking.from_dict(near.to_dict())
    assert report.first_shares["a"] > 0.99
    assert 0.4 < near.first_shares[near.best] < 0.6
    first, second = (result.name for result in near.results)
    assert f"do not decide between {first} and {second}." in near.certainty
    # One image is missing in a resample with probability 1 / e.
    one = made([1, 0], a=1.0, b=1.0)
    assert one.first_shares["a"] == pytest.approx(0.63, abs=0.03)
    assert one.first_shares["b"] == 0.0
    assert "In 36 % of the draws, several teachers" in one.certainty
    assert one.order_share == one.first_shares["a"]


@pytest.mark.once
def test_radius_is_where_half_of_the_answers_are_left():
    radii = [0.0, 1.0, 2.0]
    curves = [[0.8, 0.6, 0.2], [0.8, 0.7, 0.5], [0.0, 0.0, 0.0], [1, 0, 0]]
    found = search_radius(np.array(curves), radii)
    np.testing.assert_allclose(found, [1.5, 2.0, 0.0, 0.5])


@pytest.mark.once
def test_report_prints_plots_and_is_saved(tmp_path):
    report = made([100, 300], weak=0.5, a_very_long_name_of_a_teacher=0.1)
    report.threat_model = keras_adaad.evaluation.ThreatModel(8 / 255)
    text = str(report)
    assert repr(report) == (
        "<TeacherRanking for 'student' on 400 images: "
        "a_very_long_name_of_a_teacher, weak>"
    )
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("a_very_long_name") < text.index("weak")
    assert "75.0 [70." in text and "AdaAD 21" in text
    # Half of 75 % is left at 6/255.
    assert set(report.flags) == {"weak", "a_very_long_name_of_a_teacher"}
    report.save(tmp_path / "ranking.json")
    loaded = TeacherRanking.load(tmp_path / "ranking.json")
    assert str(loaded) == text and loaded.to_dict() == report.to_dict()
    figure = report.plot(tmp_path / "ranking.png")
    bars, curves = figure.axes
    assert [bar.get_width() for bar in bars.patches] == [75.0, 25.0]
    np.testing.assert_allclose(curves.lines[0].get_ydata(), [75, 50, 25])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"TeacherRanking\.save"):
        TeacherRanking.load(tmp_path / "other.json")


# Bad input.


def of_five_classes():
    inputs = keras.Input(networks.SHAPE)
    outputs = keras.layers.Dense(5)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, outputs, name="five")


def of_probabilities():
    model = linear("p")
    return keras.Model(model.inputs, keras.layers.Softmax()(model.outputs[0]))


class Probabilities(networks.Subclassed):
    """Whose softmax only its outputs show."""

    def call(self, x, training=False):
        return keras.ops.softmax(super().call(x, training))


def built_probabilities():
    model = Probabilities(4)
    model(np.zeros((1, *networks.SHAPE), "float32"))
    return model


A = "a"
BAD = {
    "one teacher": (lambda: {"teachers": {A: linear(A)}}, "at least two"),
    "no list": (lambda: {"teachers": linear(A)}, "`teachers` must be a list"),
    "two of a name": (lambda: {"teachers": [linear(A)] * 2}, "'a' twice"),
    "number": (lambda: {"teachers": [linear(A), 3]}, "must hold `keras.Model"),
    "classes": (
        lambda: {"teachers": [linear(A), of_five_classes()]},
        r"classes of `teachers\['five'\]`",
    ),
    "softmax": (
        lambda: {"teachers": [linear(A), of_probabilities()]},
        "ends in a softmax",
    ),
    "hidden softmax": (
        lambda: {"teachers": {A: linear(A), "b": built_probabilities()}},
        r"outputs of `teachers\['b'\]` are probabilities",
    ),
    "not built": (
        lambda: {"teachers": {A: linear(A), "b": networks.Subclassed(4)}},
        "must be built",
    ),
    "published": (
        lambda: {"teachers": [linear(A), "Chen2021LTD_WRN34"]},
        "Did you mean",
    ),
    "few images": (lambda: {"x": np.zeros((49, *networks.SHAPE))}, "49 images"),
    "images": (lambda: {"x": np.full((60, *networks.SHAPE), 2.0)}, "`x` has"),
    "labels": (lambda: {"y": np.full(60, 10)}, r"\[0, 9\]"),
    "attack": (lambda: {"attack": "pgd"}, "Argument `attack`"),
    "start": (
        lambda: {"attack": PGD(epsilon=0.1, steps=2, start=None)},
        "needs a random start",
    ),
    "warm-up": (lambda: {"warmup": -1}, "`warmup` must be at least 0"),
    "number of images": (lambda: {"num_images": 5}, "at least 50"),
    "state": (lambda: {"state_path": "no/such/folder.json"}, "folder"),
}


@pytest.mark.parametrize("case", once_except(BAD, "hidden softmax"))
def test_bad_input_is_refused(case, teachers, student, images):
    make, message = BAD[case]
    arguments = {"teachers": teachers, "x": images[0], "y": images[1]}
    arguments = {**arguments, "student": student, "attack": ATTACK, **make()}
    if "x" in make():
        arguments["y"] = None
    with pytest.raises((TypeError, ValueError), match=message):
        keras_adaad.rank_teachers(**arguments, verbose=0)


@pytest.mark.once
def test_published_teachers_need_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    name = "Addepalli2022Efficient_RN18"
    a, b = candidates_of({name: "no.pt", "b": linear("b")}, 10, "linf")
    assert (a.name, b.name) == (name, "b")
    with pytest.raises(FileNotFoundError, match=r"no\.pt.*Addepalli"):
        a.load()
    a, _ = candidates_of([name, linear("b")], 10, "linf")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        a.load()
