"""The studies: their published tables, and the whole of them in small."""

import dataclasses
import gzip
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_adaad
from benchmarks import gpu
from benchmarks.study import cifar10
from benchmarks.study import fashion_mnist
from benchmarks.study import image_order
from benchmarks.study import machine
from benchmarks.study import methods
from benchmarks.study import report
from benchmarks.study import results
from benchmarks.study import run
from benchmarks.study import schedule
from benchmarks.study import tables
from benchmarks.study import training
from keras_adaad.models import WideResNet
from tests import networks

FASHION = fashion_mnist.STUDY
CIFAR = cifar10.STUDY


@pytest.mark.once
@pytest.mark.parametrize("path", report.PAGES)
def test_the_runs_make_the_published_tables(path):
    text = path.read_text()
    for name in report.PAGES[path]:
        table = report.table(name)
        assert table in text
        assert report.filled(text, name, table) == text


@pytest.mark.once
def test_the_runs_make_the_published_pictures(tmp_path):
    """To the pixel, but for another Matplotlib's letters."""
    from matplotlib import image

    for path in report.draw_published(tmp_path):
        drawn = image.imread(path)
        published = image.imread(report.IMAGES / path.name)
        assert drawn.shape == published.shape
        assert np.mean(drawn != published) < 0.01


@pytest.mark.once
def test_what_the_published_runs_are():
    """Every method, of one configuration, the rivals with three seeds."""
    runs = results.load(FASHION, report.PUBLISHED / FASHION.name / "small")
    assert set(runs) == {arm.name for arm in FASHION.arms}
    for name in ("AdaAD", "RSLAD", "ARD", "PGD-AT"):
        assert len(runs[name]) >= 3
    configurations = [
        {**result["config"], "method": None, "seed": None}
        for name, seeds in runs.items()
        for result in seeds.values()
        if name != "teacher"
    ]
    assert all(c == configurations[0] for c in configurations)


def write_files(folder):
    """Writes scikit-learn's digits as files of Fashion-MNIST's format."""
    digits = load_digits()
    images = digits.images.repeat(3, axis=1).repeat(3, axis=2)
    images = np.pad(images * 15, [(0, 0), (2, 2), (2, 2)]).astype("uint8")
    for name, part in (("train", slice(0, 160)), ("t10k", slice(160, 200))):
        for kind, header, values in (
            ("images-idx3", 16, images[part]),
            ("labels-idx1", 8, digits.target[part].astype("uint8")),
        ):
            with gzip.open(folder / f"{name}-{kind}-ubyte.gz", "wb") as file:
                file.write(bytes(header) + values.tobytes())
    return images, digits.target


@pytest.mark.once
def test_fashion_mnist(tmp_path):
    """Teacher, method, tables and pictures; what is done is not done again."""
    images, labels = write_files(tmp_path)
    budget = FASHION.budgets["tiny"]
    data = FASHION.load_data(budget, tmp_path)
    np.testing.assert_allclose(
        data["held out"][0][..., 0], images[128:160] / 255, atol=1e-7
    )
    np.testing.assert_array_equal(data["test"][1], labels[160:168])

    command = ["-m", "benchmarks.study", "fashion_mnist", "--budget", "tiny"]
    command += ["--methods", "plain training", "AdaAD", "--processes", "2"]
    command += ["--data", tmp_path, "--output", tmp_path / "runs"]
    printed = subprocess.run(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    output = tmp_path / "runs" / "fashion_mnist" / "tiny"
    files = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert set(files) == {
        *(f"{n}-0.{s}" for n in RUNS for s in ("json", "keras")),
        *("plain-training-0.log", "AdaAD-0.log"),
        *("accuracy.png", "curves.png", "unfinished"),
    }
    assert not list((output / "unfinished").iterdir())
    result = json.loads((output / "AdaAD-0.json").read_text())
    assert [row["epoch"] for row in result["history"]] == [0, 1]
    assert all(row["seconds"] > 0 for row in result["history"])
    flags = results.outcomes(FASHION, result)
    assert all(len(right) == 8 for right in flags.values())
    assert not (flags["AutoAttack"] & ~flags["clean"]).any()
    share = 100 * np.mean(flags["AutoAttack"])
    assert f"| {share:.1f} |" in row_of(printed, "**AdaAD**")
    assert "- fashion_mnist: TRADES" in printed

    def again(study, names):
        schedule.run_all(
            study, "tiny", None, names, [0], tmp_path, tmp_path / "runs"
        )

    again(FASHION, ["plain training", "AdaAD"])
    for name in files:
        if name.endswith((".json", ".keras")):
            assert (output / name).stat().st_mtime_ns == files[name]
    longer = dataclasses.replace(budget, epochs=3)
    other = dataclasses.replace(FASHION, budgets={"tiny": longer})
    with pytest.raises(SystemExit, match="other values of .*'epochs'"):
        again(other, ["AdaAD"])
    with pytest.raises(SystemExit, match="Unknown: FGSM-AT"):
        again(FASHION, ["FGSM-AT"])


RUNS = ("teacher", "plain-training", "AdaAD")


def row_of(printed, name):
    (row,) = (r for r in printed.splitlines() if r.startswith(f"| {name} |"))
    return row


@pytest.mark.once
def test_differences_are_paired():
    """Equal gains on all images are sure; the same mean by chance is not."""
    first = np.array([1.0, 0.0] * 50)
    assert tables.difference([first], [first]) == ("+0.0 ± 0.0", "1", "-")
    second = first.copy()
    second[:40:2] = 0.0  # 20 images, all in favour of the first.
    points, p, _ = tables.difference([first], [second])
    assert points.startswith("+20.0") and float(p) < 1e-4
    second[1:41:2] = 1.0  # and 20 in favour of the second.
    points, p, _ = tables.difference([first], [second])
    assert points.startswith("+0.0") and float(p) == 1.0


@pytest.mark.once
def test_seeds_have_a_p_value_of_their_own():
    """Two gains that differ as much as they gain: sure of images alone."""
    rows = np.arange(1000)
    first = [rows < 600, rows < 520]
    second = [rows < 500, rows < 500]
    _, over_images, over_seeds = tables.difference(first, second)
    assert float(over_images) < 1e-10
    # A t of 60 / 40 with one degree of freedom.
    assert float(over_seeds) == pytest.approx(0.37, abs=0.005)


@pytest.mark.once
def test_two_runs_are_compared_exactly():
    """Five coins that all fall alike: 2 / 2 ** 5."""
    first = np.arange(100) < 55
    second = np.arange(100) < 50
    assert tables.difference([first], [second], exact=True)[1] == "0.062"


@pytest.mark.once
def test_interval_is_that_of_a_share():
    low, high = results.interval([np.arange(400) < 100])
    assert (low + high) / 2 == pytest.approx(25.0)
    assert (high - low) / 2 == pytest.approx(196 * (0.25 * 0.75 / 399) ** 0.5)
    # None of 500: up to 3.84 / (500 + 3.84), Wilson's.
    low, high = results.interval([np.zeros(500, bool)])
    assert (low, high) == pytest.approx((0.0, 0.762), abs=1e-3)


# CIFAR-10.


@pytest.fixture
def images_file(tmp_path):
    """As many images as the budget "tiny" has, of ten colours."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 100), ("test", 4)):
        labels = rng.permutation(np.arange(count) % 10).astype("uint8")
        noise = rng.integers(0, 30, (count, 32, 32, 3))
        arrays[f"x_{part}"] = (noise + 20 * labels[:, None, None, None]).astype(
            "uint8"
        )
        arrays[f"y_{part}"] = labels
    path = tmp_path / "cifar10.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.once
def test_cifar10(images_file, tmp_path, capsys):
    """Teachers first: one from images without labels, one of A in D."""
    schedule.run_all(
        *(CIFAR, "tiny", ["B", "D"], ["PGD-AT", "AdaAD"]),
        data_path=images_file,
        output=tmp_path,
    )
    output = tmp_path / "cifar10" / "tiny"
    assert {path.name for path in output.glob("*.json")} == {
        *("teacher-0.json", "A-PGD-AT-0.json", "B-PGD-AT-0.json"),
        *("B-AdaAD-0.json", "D-AdaAD-0.json"),
    }
    result = json.loads((output / "B-AdaAD-0.json").read_text())
    # 2 epochs of 40 images are one of 80.
    assert result["updates"] == 4 and len(result["history"]) == 1
    printed = capsys.readouterr().out
    assert "gate: teacher" in printed
    assert "| 0.5 | 0.75 | 1 | 1.25 | 1.5 | 2 |" in printed
    assert "- A: TRADES\n" in printed and "- A: PGD-AT\n" not in printed


@pytest.mark.once
def test_a_teacher_at_half_temperature_is_surer():
    teacher, student = (cifar10.tiny_network() for _ in range(2))
    arm = cifar10.arm("A", "sharper", "AdaAD", options=cifar10.SHARP)
    trainer = methods.make_trainer(arm, 0.03, 1, teacher, student)
    x = np.random.default_rng(0).uniform(size=(4, 32, 32, 3))
    np.testing.assert_allclose(
        trainer.teacher.predict(x, verbose=0),
        2 * teacher.predict(x, verbose=0),
        rtol=1e-5,
    )
    assert trainer.teacher_in_attack == "linear"


class Killed(Exception):
    pass


@pytest.mark.once
def test_a_killed_run_goes_on_exactly(images_file, tmp_path, monkeypatch):
    """With a moving average, whose state is the optimizer's.

    In float32: rounded to bfloat16, a sum in another order is another number.
    """
    study = dataclasses.replace(CIFAR, mixed_precision=False)
    budget = dataclasses.replace(CIFAR.budgets["tiny"], epochs=3)
    arm = cifar10.arm("A", "PGD-AT", "PGDAT", steps=1, averaging=0.9)
    data = CIFAR.load_data(budget, images_file)

    def do(name):
        run.run(study, budget, arm, 0, data, tmp_path / name)
        result = json.loads((tmp_path / name / "A-PGD-AT-0.json").read_text())
        losses = [row["loss"] for row in result["history"]]
        network = keras.saving.load_model(tmp_path / name / "A-PGD-AT-0.keras")
        return losses, network.get_weights()

    whole = do("whole")

    def kill(self, epoch, logs=None):
        if epoch == 2:
            raise Killed
        begin(self, epoch, logs)

    begin = training.SecondsPerEpoch.on_epoch_begin
    monkeypatch.setattr(training.SecondsPerEpoch, "on_epoch_begin", kill)
    with pytest.raises(Killed):
        do("killed")
    monkeypatch.undo()

    def kill_attack(*args, **kwargs):
        raise Killed

    # And again when all epochs are done.
    monkeypatch.setattr(run, "attack", kill_attack)
    with pytest.raises(Killed):
        do("killed")
    monkeypatch.undo()
    losses, weights = do("killed")
    np.testing.assert_allclose(losses, whole[0], rtol=1e-5)
    for resumed, expected in zip(weights, whole[1], strict=True):
        np.testing.assert_allclose(resumed, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.once
def test_pseudo_labels_stand_where_there_are_no_others(images_file):
    budget = CIFAR.budgets["tiny"]
    data = CIFAR.load_data(budget, images_file)
    images, labels = data["all"]
    assert np.bincount(data["labelled"][1]).tolist() == [4] * 10
    network = run.build(CIFAR, budget, "teacher")
    found = run.with_pseudo_labels(data, network)[1]
    answers = network.predict(images / 255.0, verbose=0).argmax(axis=-1)
    known = np.isin(np.arange(80), data["known"])
    np.testing.assert_array_equal(found[known], labels[known])
    np.testing.assert_array_equal(found[~known], answers[~known])


@pytest.mark.once
@pytest.mark.parametrize("arm", CIFAR.arms, ids=lambda arm: arm.file_name(0))
def test_every_arm_makes_a_trainer(arm):
    budget = CIFAR.budgets["tiny"]
    teacher, network = (run.build(CIFAR, budget, "student") for _ in "12")
    trainer = methods.make_trainer(arm, CIFAR.epsilon, 2, teacher, network)
    assert training.trained_network(trainer) is network
    if arm.method != "plain training":
        config = trainer.attack.get_config()
        epsilon = 8 / 255 * arm.attack.get("radius", 1.0)
        assert config["epsilon"] == pytest.approx(epsilon)
        assert config["step_size"] == pytest.approx(epsilon / 2)


@pytest.mark.once
@pytest.mark.parametrize("arm", CIFAR.arms, ids=lambda arm: arm.file_name(0))
def test_every_arm_takes_a_step(arm, images_file):
    budget = CIFAR.budgets["tiny"]
    teacher, network = (run.build(CIFAR, budget, "student") for _ in "12")
    before = network.get_weights()[0]
    data = CIFAR.load_data(budget, images_file)
    x, y = run.images_for(arm, data, teacher)
    assert (y is None) == (arm.images == "unlabelled")
    trainer = methods.make_trainer(arm, CIFAR.epsilon, 2, teacher, network)
    training.compile_trainer(trainer, arm, steps=10)
    batch = (x[:4] / 255).astype("float32")
    logs = trainer.train_on_batch(
        batch, None if y is None else y[:4], return_dict=True
    )
    assert np.isfinite(logs["loss"])
    assert not np.array_equal(network.get_weights()[0], before)


@pytest.mark.once
def test_the_steps_drop_at_60_and_85_percent():
    arm = CIFAR.arm("AdaAD", "A")
    rate = training.make_optimizer(arm, 1000)._learning_rate
    rates = [float(rate(step)) for step in (0, 599, 601, 849, 851)]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01, 0.001], rtol=1e-5)


def test_float32_has_the_weights_of_mixed_precision():
    """They are float32 numbers under both policies: not a bit is lost."""
    with run.dtype_policy("mixed_bfloat16"):
        trained = WideResNet(10, 1)
    network = WideResNet(10, 1)
    network.set_weights(trained.get_weights())
    for ours, theirs in zip(network.weights, trained.weights, strict=True):
        assert keras.backend.standardize_dtype(theirs.dtype) == "float32"
        np.testing.assert_array_equal(ours, theirs)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.once
def test_processor_flags(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text("processor\t: 0\nflags\t\t: fpu amx_bf16 avx2\n")
    assert machine.processor_flags(path) == {"fpu", "amx_bf16", "avx2"}
    assert machine.processor_flags(tmp_path / "none") == set()


# What waits for a GPU.


@pytest.mark.once
def test_gpu_script_goes_on(tmp_path, monkeypatch, capsys):
    """A step that failed is left, and done again; one that is done is not."""
    ready = tmp_path / "ready"
    marks = tmp_path / "marks"

    def steps(output, data, tiny):
        def step(name, code, minutes=1):
            code = f"open({str(marks)!r}, 'a').write({name!r}); {code}"
            return gpu.Step(name, [sys.executable, "-c", code], minutes)

        return [
            step("a", "pass"),
            step("b", f"open({str(ready)!r})"),
            step("c", "import time; time.sleep(60)", minutes=0.5 / 60),
        ]

    monkeypatch.setattr(gpu, "steps", steps)
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path)])
    gpu.main()
    assert "Left: b, c." in capsys.readouterr().out
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["a"]["done"] and found["b"]["exit code"] == 1
    assert "FileNotFoundError" in found["b"]["log"][-1]
    assert found["c"]["exit code"] == "out of time"
    marks.write_text("")
    ready.touch()
    gpu.main()
    assert "Left: c." in capsys.readouterr().out
    assert marks.read_text().startswith("b")


@pytest.mark.once
def test_images_of_any_order_are_put_into_one(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 4, 3)).astype("uint8")
    labels = np.arange(30) % 10
    path = tmp_path / "order.npz"
    image_order.write(path, train=(images, labels), test=(images, labels))
    shuffled = rng.permutation(30)
    for x, y in (images, labels), (images[shuffled], labels[shuffled]):
        found = image_order.in_published_order("test", x, y, path)
        np.testing.assert_array_equal(found[0], images)
        np.testing.assert_array_equal(found[1], labels)
    # Images of something else keep their order.
    found = image_order.in_published_order("train", 255 - images, labels, path)
    np.testing.assert_array_equal(found[0], 255 - images)


@pytest.mark.once
def test_runs_of_other_images_are_refused(tmp_path):
    rows = np.arange(20)
    report = keras_adaad.evaluate_robustness(
        *(networks.dense_net(), np.zeros((20, *networks.SHAPE)), rows % 10),
        *(["fgsm"], 0.1),
        reliability_checks=False,
        curve=False,
        verbose=0,
    )
    runs = []
    for labels in (rows % 10, (rows + 1) % 10):
        attacks = {"autoattack": {**report.to_dict(), "labels": labels}}
        runs.append({0: {"reports": attacks}})
    with pytest.raises(ValueError, match="same images"):
        tables.compared(CIFAR, "a", *runs)
    for known in ({"images": "a digest"}, {}):  # The second was made earlier.
        run.check_same_images(known, "a digest", tmp_path)
    with pytest.raises(SystemExit, match="other images"):
        run.check_same_images({"images": "another"}, "a digest", tmp_path)
