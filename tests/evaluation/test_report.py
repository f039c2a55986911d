"""A report whose every number is known by hand."""

import builtins
import dataclasses
import json
import os
import re

import numpy as np
import pytest
from scipy.stats import binomtest

from keras_adaad import attacks
from keras_adaad.evaluation import plots
from keras_adaad.evaluation.attack_result import AttackResult
from keras_adaad.evaluation.comparison import Comparisons
from keras_adaad.evaluation.report import RobustnessReport
from keras_adaad.evaluation.table import robustness_table
from keras_adaad.evaluation.threat_model import ThreatModel

pytestmark = pytest.mark.once

GROUP = "AutoAttack (standard)"


def bits(text):
    return np.array([character == "1" for character in text])


def result(name, robust, individual=None, **kwargs):
    kwargs = {
        "group": None,
        "parameters": {"class": "PGD", "input_range": (0.0, 1.0)},
        "attacked": 9,
        "seconds": 1.25,
        **kwargs,
    }
    return AttackResult(
        name=name,
        robust=bits(robust),
        individual=None if individual is None else bits(individual),
        **kwargs,
    )


def make_report(**kwargs):
    """Ten images of three classes: 9 right, 6 after PGD, 4 in the end."""
    kwargs = {
        "model_name": "student",
        "labels": [0, 0, 0, 0, 1, 1, 1, 1, 2, 2],
        "indices": [10, 11, 12, 13, 14, 15, 16, 17, 18, 19],
        "clean": bits("1111111110"),
        "results": [
            result("pgd-20", "1111001100", "1111001100"),
            result(
                "apgd-ce", "1110001100", "1110101110", group=GROUP, attacked=6
            ),
            result("square", "1110001000", None, group=GROUP, attacked=5),
        ],
        "threat_model": ThreatModel(8 / 255),
        "seed": 7,
        "batch_size": 5,
        "num_classes": 3,
        "max_perturbation": 0.031372,
        "flags": {},
        "environment": {"keras": "3.15.0", "backend": "torch"},
        "seconds": 12.5,
        "checked": True,
        **kwargs,
    }
    return RobustnessReport(**kwargs)


def stopped():
    """The same, but the budget ended Square."""
    report = make_report()
    report.results[2].complete = False
    return report


def with_images(channels=1, **kwargs):
    generator = np.random.default_rng(0)
    clean = generator.uniform(0.2, 0.8, (10, 8, 8, channels))
    adversarial = clean + generator.choice([-0.1, 0.1], clean.shape)
    probabilities = generator.dirichlet(np.ones(3), (2, 10))
    return make_report(
        images={
            "clean": clean,
            "adversarial": adversarial,
            "clean_probabilities": probabilities[0],
            "adversarial_probabilities": probabilities[1],
        },
        **kwargs,
    )


def row(report, name):
    (line,) = [
        x for x in str(report).splitlines() if x.strip().startswith(name)
    ]
    return line


# Accuracies.


def test_accuracies():
    report = make_report()
    assert report.clean_accuracy == 0.9
    assert report.robust_accuracy == 0.4
    np.testing.assert_array_equal(report.robust, bits("1110001000"))
    assert report.accuracy("clean") == 0.9
    assert report.accuracy("pgd-20") == 0.6
    assert report.accuracy("apgd-ce") == 0.5
    assert report.accuracy(GROUP) == 0.4


def test_worst_case_is_over_all_attacks_and_the_clean_image():
    report = make_report(
        results=[result("a", "0111111111"), result("b", "1011111111")]
    )
    np.testing.assert_array_equal(report.robust, bits("0011111110"))


def test_without_an_attack_the_number_is_not_reliable():
    report = make_report(results=[])
    assert report.robust_accuracy == report.clean_accuracy == 0.9
    assert report.complete and not report.reliable
    assert "No attack was run." in str(report)
    assert "worst" not in str(report)


def test_reliable_is_complete_without_flags():
    assert make_report().reliable
    assert not make_report(checked=False).reliable
    assert not make_report(flags={"masking": "..."}).reliable
    assert not stopped().reliable and not stopped().complete


def test_an_unknown_name_lists_the_names():
    with pytest.raises(ValueError, match=r"'pgd-20'.*'square'.*name='fab'"):
        make_report().accuracy("fab")


def test_an_incomplete_group_has_no_accuracy():
    with pytest.raises(ValueError, match="attacks are all complete"):
        stopped().accuracy(GROUP)
    assert stopped().accuracy("apgd-ce") == 0.5


def test_confidence_intervals():
    report = make_report()
    for name, successes in ((None, 4), ("pgd-20", 6), ("clean", 9)):
        np.testing.assert_allclose(
            report.confidence_interval(name, 0.9),
            binomtest(successes, 10).proportion_ci(0.9, "wilson"),
        )


def test_per_class():
    rows = make_report(class_names=["cat", "dog", "owl"]).per_class()
    assert [(r["class"], r["name"], r["n"]) for r in rows] == [
        (0, "cat", 4),
        (1, "dog", 4),
        (2, "owl", 2),
    ]
    assert [r["clean"] for r in rows] == [1.0, 1.0, 0.5]
    assert [r["robust"] for r in rows] == [0.75, 0.25, 0.0]
    for r, clean, robust in zip(rows, (4, 4, 1), (3, 1, 0), strict=True):
        for key, successes in (("clean", clean), ("robust", robust)):
            np.testing.assert_allclose(
                r[f"{key}_interval"],
                binomtest(successes, r["n"]).proportion_ci(method="wilson"),
                atol=1e-12,
            )


def test_a_class_without_images_has_no_row():
    report = make_report(labels=[0] * 5 + [2] * 5)
    assert [r["name"] for r in report.per_class()] == ["0", "2"]


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("labels", {"labels": [0] * 9}),
        ("indices", {"indices": [0] * 11}),
        ("clean", {"clean": bits("")}),
        (
            r"results\[1\]\.robust",
            {"results": [result("a", "1" * 10), result("b", "1")]},
        ),
        (
            r"results\[0\]\.individual",
            {"results": [result("a", "1" * 10, "1")]},
        ),
    ],
)
def test_arrays_of_another_length_are_refused(name, kwargs):
    with pytest.raises(ValueError, match=f"`{name}`.*Received: shape"):
        make_report(**kwargs)


# Text.


def test_the_rows_of_the_text():
    report = make_report()
    assert row(report, "student") == (
        "student: 10 images, epsilon 0.03137 (8/255), linf"
    )
    assert row(report, "clean").split() == [
        *("clean", "10", "90.0", "[59.6,", "98.2]")
    ]
    assert row(report, "pgd-20").split() == [
        *("pgd-20", "9", "60.0", "[31.3,", "83.2]", "60.0", "1.2")
    ]
    assert row(report, GROUP).split()[2:] == [
        *("6", "40.0", "[16.8,", "68.7]", "-", "2.5")
    ]
    assert row(report, "apgd-ce").split()[2:] == [
        *("50.0", "[23.7,", "76.3]", "70.0", "1.2")
    ]
    assert row(report, "square").split()[-2:] == ["-", "1.2"]
    assert row(report, "worst case").split()[2:4] == ["10", "40.0"]
    assert row(report, "worst class").split()[:5] == [
        *("worst", "class:", "2", "2", "0.0")
    ]
    lines = str(report).splitlines()
    group = lines.index(row(report, GROUP))
    assert lines[group + 1].startswith("  apgd-ce")
    assert lines[group + 2].startswith("  square")
    assert not row(report, "pgd-20").startswith(" ")


def test_a_report_in_a_list_is_one_line():
    report = make_report()
    assert re.fullmatch(
        r"<RobustnessReport of 'student' on 10 images, .*: clean 90\.00 %, "
        r"robust 40\.00 %, flags: .*>",
        repr(report),
    )
    report.flags = {"small_epsilon": "why"}
    assert repr(report).endswith("flags: small_epsilon>")


def test_tables_need_names():
    with pytest.raises(TypeError, match="`reports` must be a dict"):
        robustness_table([make_report()] * 2)


def test_the_worst_class_is_the_least_robust():
    report = make_report(results=[result("a", "0001111111")])
    assert row(report, "worst class").startswith("worst class: 0 ")


@pytest.mark.parametrize("length", range(60, 76))
def test_a_hyphenated_name_is_not_broken(length):
    environment = {"device": "x" * length, "keras-adaad": "0.2"}
    assert "keras-adaad" in str(make_report(environment=environment))


def test_the_remarks_of_the_text():
    text = str(make_report(flags={"zero_gradient": "half of them"}))
    assert "\nFLAG zero_gradient: half of them\n" in text
    assert "maximum perturbation 0.031372\n" in text
    assert "upper bound" in text
    assert "covers the sampling" in " ".join(text.split())
    assert "quick look" not in text
    assert text.splitlines()[-1] == (
        "keras 3.15.0, backend torch, seed 7, batch size 5, 12.5 s"
    )


def test_an_incomplete_group_never_shows_its_name():
    text = str(stopped())
    assert "AutoAttack" in str(make_report())
    assert "AutoAttack" not in text
    assert "incomplete: apgd-ce, square" in text
    assert "  square (incomplete)" in text
    assert "apgd-ce (incomplete)" not in text
    assert "quick look, not the full protocol" in text


@pytest.mark.parametrize(
    ("name", "attack", "title"),
    [
        ("pgd", attacks.get("pgd", epsilon=0.1), "pgd"),
        ("pgd", attacks.PGD(epsilon=0.1), "pgd (steps=10)"),
        (
            "pgd",
            attacks.PGD(epsilon=0.1, step_size=0.0001, steps=20),
            "pgd (step_size=0.0001)",
        ),
        ("pgd-10", attacks.get("pgd-10", epsilon=0.1, seed=3), "pgd-10"),
        ("cw", attacks.CW(epsilon=0.1, restarts=2), "cw (restarts=2)"),
        (
            "square",
            attacks.Square(epsilon=0.1, queries=9),
            "square (queries=9)",
        ),
        ("mine", attacks.PGD(epsilon=0.1, steps=1), "mine"),
        ("pgd (2)", attacks.PGD(epsilon=0.1, steps=50), "pgd (2) (steps=50)"),
    ],
)
def test_a_title_has_the_parameters_that_the_name_does_not_stand_for(
    name, attack, title
):
    measured = result(name, "1" * 10, parameters=attack.get_config())
    report = make_report(results=[measured])
    assert row(report, title).split("  ")[0] == title
    table = robustness_table({"student": report})
    assert (f"Attacks: {title}." in table) == (title != name)


def test_a_group_in_two_parts_is_one_group():
    report = make_report(
        results=[
            result("apgd-ce", "1111001100", group=GROUP),
            result("pgd-20", "1111001100"),
            result("square", "1111001100", group=GROUP, complete=False),
        ]
    )
    assert "AutoAttack" not in str(report)


def test_an_incomplete_attack_says_so():
    report = make_report(results=[result("pgd", "1" * 10, complete=False)])
    assert row(report, "incomplete: pgd")
    assert [name for name, _ in report.stages()] == ["incomplete: pgd"]
    with pytest.raises(ValueError, match="`name` must be a complete attack"):
        report.accuracy("pgd")


def test_alone_a_group_is_all_its_attacks():
    report = make_report()
    report.results[2].individual = bits("0111111111")
    assert row(report, GROUP).split()[-2:] == ["60.0", "2.5"]


def test_no_line_is_wider_than_80_columns():
    long = "a-name-without-end/" * 12
    report = make_report(
        model_name=long,
        flags={long: "why, " * 60},
        environment={"device": long, "date": "2026-05-09"},
        class_names=[long] * 3,
        results=[
            result(long, "1" * 10, "1" * 10, seconds=12345.6),
            result(long, "1" * 10, group=long, complete=False),
        ],
    )
    assert max(map(len, str(report).splitlines())) <= 80


@pytest.mark.parametrize(
    "epsilon, input_range, expected",
    [
        (8 / 255, (0, 1), "0.03137 (8/255)"),
        (np.float32(8 / 255), (0, 1), "0.03137 (8/255)"),
        (0.031, (0, 1), "0.031"),
        (0.5, (0, 1), "0.5"),
        (1.0, (0, 1), "1"),
        (0.0, (0, 1), "0"),
        (8, (0, 255), "8 (8/255 of the range)"),
        (16 / 255, (-1, 1), "0.06275 (8/255 of the range)"),
    ],
)
def test_epsilon_is_told_in_255ths(epsilon, input_range, expected):
    threat_model = ThreatModel(epsilon, input_range=input_range)
    assert str(threat_model) == f"epsilon {expected}, linf"


def test_one_image_shows_in_the_percentages():
    n = 2000
    flags = np.arange(n) > 0
    report = make_report(
        labels=[0] * n, indices=range(n), clean=flags, results=[]
    )
    assert row(report, "clean").split()[2] == "99.95"


# Files.


def full_report():
    report = with_images(
        class_names=("cat", "dog", "owl"),
        curve={
            "attack": "pgd-20",
            "epsilons": np.linspace(0, 0.1, 3),
            "accuracy": [np.float32(0.9), 0.1 + 0.2, 0.0],
            "num_images": np.int64(10),
        },
        flags={"masking": "ünsicher"},
        max_perturbation=np.float32(8 / 255),
        labels=np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2], "uint8"),
    )
    report.results[0] = result(
        "pgd-20",
        "1111001100",
        parameters={
            "loss": np.mean,
            "epsilon": np.float64(0.1),
            "on": np.True_,
        },
    )
    report.results[1].complete = False
    return report


def test_a_saved_report_comes_back(tmp_path):
    report = full_report()
    report.save(tmp_path / "report.json")
    loaded = RobustnessReport.load(tmp_path / "report.json")
    assert loaded.to_dict() == report.to_dict()
    assert str(loaded) == str(report)
    assert loaded.threat_model == ThreatModel(8 / 255)
    assert loaded.images is None and report.images is not None
    for field in dataclasses.fields(report):
        if field.name not in ("images", "results"):
            before, after = (getattr(x, field.name) for x in (report, loaded))
            assert type(before) is type(after), field.name
            np.testing.assert_array_equal(before, after)
    assert loaded.labels.dtype == report.labels.dtype
    for before, after in zip(report.results, loaded.results, strict=True):
        for name, value in vars(before).items():
            np.testing.assert_array_equal(value, getattr(after, name))
    assert loaded.results[0].parameters == {
        "loss": "mean",
        "epsilon": 0.1,
        "on": True,
    }
    assert os.listdir(tmp_path) == ["report.json"]


def test_the_dictionary_is_compact_and_its_own():
    report = make_report(flags={"a": "b"})
    values = report.to_dict()
    assert values["clean"] == "1111111110"
    assert values["results"][0]["robust"] == "1111001100"
    assert values["results"][2]["individual"] is None
    assert (values["clean_accuracy"], values["robust_accuracy"]) == (0.9, 0.4)
    assert "images" not in values
    values["flags"]["a"] = "changed"
    values["results"][0]["parameters"].clear()
    assert report.flags == {"a": "b"}
    assert report.results[0].parameters


def broken(change):
    values = make_report().to_dict()
    change(values)
    return json.dumps(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "[]",
        "{}",
        '"text"',
        broken(lambda values: values.pop("labels")),
        broken(lambda values: values.pop("results")),
        broken(lambda values: values.update(format="another")),
        broken(lambda values: values.update(unknown=1)),
        broken(lambda values: values.update(clean="1111x11110")),
        broken(lambda values: values.update(clean=1)),
        broken(lambda values: values.update(labels=[0])),
        broken(lambda values: values["results"][0].pop("robust")),
    ],
)
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="`RobustnessReport.save` wrote") as e:
        RobustnessReport.load(path)
    assert str(path) in str(e.value)


# What `print`, `plot` and `compare` would fail on, or show wrong.
WRONG_TYPES = {
    "model_name": [None, 3],
    "epsilon": ["0.1", None, True, float("nan"), [0.1]],
    "norm": [None, 2],
    "input_range": [[0.0], [1.0, 0.0], [0.0, 0.0], ["0", "1"], None, 1],
    "seed": ["0", 0.5, None],
    "batch_size": ["5", 2.5],
    "num_classes": ["3", 2, None],
    "max_perturbation": ["0.1", float("inf"), None],
    "flags": [[], None, {"masking": 1}],
    "environment": [[], "torch", {"keras": None}],
    "seconds": ["1", None],
    "curve": [[], {}, {"attack": "PGD-20", "epsilons": [], "accuracy": []}],
    "class_names": ["abc", ["a", "b"], [1, 2, 3], {}],
    "labels": [9 * [0] + [3], 10 * [0.5], 10 * ["0"], 10 * [-1], None],
    "indices": [10 * [0.5], None],
    "results": [None, {}, ["pgd"]],
}
WRONG_RESULTS = {
    "name": [None, 1],
    "group": [1],
    "parameters": [None, []],
    "attacked": ["9", None],
    "seconds": ["1", None],
    "complete": [None, "yes", 1],
    "robust": [None, 10 * [True], "111"],
    "individual": [5, "111"],
}


@pytest.mark.parametrize("field", WRONG_TYPES)
def test_a_value_of_another_type_is_refused(field):
    for value in WRONG_TYPES[field]:
        values = {**make_report().to_dict(), field: value}
        with pytest.raises(ValueError, match="RobustnessReport.to_dict"):
            RobustnessReport.from_dict(json.loads(json.dumps(values)))


@pytest.mark.parametrize("field", WRONG_RESULTS)
def test_a_result_of_another_type_is_refused(field):
    for value in WRONG_RESULTS[field]:
        values = make_report().to_dict()
        values["results"][1][field] = value
        with pytest.raises(ValueError, match="RobustnessReport.to_dict"):
            RobustnessReport.from_dict(json.loads(json.dumps(values)))


def test_a_wrong_type_is_named():
    with pytest.raises(ValueError, match="`seed` .*integer.*'0'.*str"):
        make_report(seed="0")


def test_a_binary_file_is_refused(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ValueError, match="`RobustnessReport.save` wrote"):
        RobustnessReport.load(tmp_path / "model.keras")


def test_from_dict_says_what_it_wants():
    with pytest.raises(ValueError, match="`RobustnessReport.to_dict`"):
        RobustnessReport.from_dict({"format": "another"})


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    make_report().save(path)
    before = path.read_bytes()

    def fail(*args):
        assert path.read_bytes() == before
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        make_report(seed=8).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["report.json"]


# Two models.


def teacher(**kwargs):
    """Right on the last clean image too, and robust on 5 images."""
    return make_report(
        **{
            "model_name": "teacher",
            "clean": bits("1" * 10),
            "results": [
                result("pgd-20", "1111011100", "1111011100"),
                result("apgd-ce", "1101011100", None, group=GROUP),
                result("square", "1001011100", None, group=GROUP),
            ],
            **kwargs,
        }
    )


def test_compare():
    comparison = make_report().compare(teacher())
    robust, clean = comparison.robust, comparison.clean
    assert robust[:4] == (0.4, 0.5, 2, 3)
    assert robust.difference == pytest.approx(-10)
    assert robust.p_value == pytest.approx(binomtest(2, 5).pvalue)
    assert clean == (0.9, 1.0, 0, 1, 1.0)
    assert comparison.same_attacks
    lines = str(comparison).splitlines()
    assert lines[0] == (
        "student (1) against teacher (2): 10 images, "
        "epsilon 0.03137 (8/255), linf"
    )
    assert lines[3].split() == ["clean", "90.00", "100.00", "-10.00", *"011"]
    assert lines[4].split()[2:] == ["40.00", "50.00", "-10.00", *"231"]
    assert max(map(len, lines)) <= 80
    assert "differ" not in str(comparison)


def test_compare_tells_other_attacks():
    other = teacher()
    other.results[0].parameters["steps"] = 1
    for first, second in (
        (make_report(), other),
        (make_report(), make_report(results=[])),
        (stopped(), make_report()),
        (stopped(), stopped()),
    ):
        comparison = first.compare(second)
        assert not comparison.same_attacks
        assert "The attacks differ" in str(comparison)


def test_a_loaded_report_met_the_same_attacks(tmp_path):
    make_report().save(tmp_path / "report.json")
    loaded = RobustnessReport.load(tmp_path / "report.json")
    assert loaded.compare(make_report()).same_attacks


DIFFERENT_TASKS = [
    ("same images", {"labels": [1] * 10}),
    ("same images", {"indices": range(10)}),
    *(
        ("same threat model", {"threat_model": threat_model})
        for threat_model in (
            ThreatModel(4 / 255),
            ThreatModel(8 / 255, "l2"),
            ThreatModel(8 / 255, input_range=(0.0, 255.0)),
        )
    ),
]


@pytest.mark.parametrize("message, change", DIFFERENT_TASKS)
def test_compare_refuses_another_task(message, change):
    with pytest.raises(ValueError, match=rf"`other`.*{message}.*Received: "):
        make_report().compare(teacher(**change))


def test_other_images_with_the_same_labels_are_refused(tmp_path):
    means = np.linspace(0.1, 0.2, 10)
    make_report(image_means=means).save(tmp_path / "report.json")
    report = RobustnessReport.load(tmp_path / "report.json")
    np.testing.assert_array_equal(report.image_means, means)
    with pytest.raises(ValueError, match=r"`other`.*same images.*0\.1 of"):
        report.compare(teacher(image_means=means[::-1]))
    # The same up to rounding, and a report of an earlier version.
    report.compare(teacher(image_means=means + 1e-7))
    report.compare(teacher())


def test_comparisons_name_what_is_in_doubt():
    """A number that is too good must not pass without its flag."""
    sound, flagged = make_report(), teacher(flags={"gradients": "..."})
    unchecked = make_report(checked=False, model_name="unchecked")
    for shown in (
        str(sound.compare(flagged)),
        str(Comparisons({"student": sound, "teacher": flagged})),
        robustness_table({"student": sound, "teacher": flagged}),
    ):
        assert "teacher: flagged for gradients." in shown
        assert "student:" not in shown
        assert max(map(len, shown.splitlines())) <= 80
    assert "unchecked: not all reliability checks were run." in str(
        sound.compare(unchecked)
    )
    both = stopped().compare(make_report(results=[], flags={"a": "", "b": ""}))
    assert "student (1): not all attacks finished." in str(both)
    assert "student (2): flagged for a, b; not attacked." in str(both)


def test_epsilon_may_differ_by_rounding():
    other = teacher(threat_model=ThreatModel(np.float32(8 / 255)))
    assert other.threat_model.epsilon != 8 / 255
    make_report().compare(other)


def test_robustness_table():
    table = robustness_table({"teacher": teacher(), "student": make_report()})
    assert table.splitlines()[0] == (
        "accuracy (%), 10 images, epsilon 0.03137 (8/255), linf"
    )
    upper, lower, *rows = table.splitlines()[2:]
    assert upper.split() == ["AutoAttack"]
    assert lower.split() == ["clean", "pgd-20", "(standard)", "worst", "case"]
    assert [line.split() for line in rows] == [
        ["teacher", "100.00", "70.00", "50.00", "50.00"],
        ["student", "90.00", "60.00", "40.00", "40.00"],
        ["gap", "+10.00", "+10.00", "+10.00", "+10.00"],
    ]
    # Every number ends under its heading.
    assert len({len(line) for line in table.splitlines()[2:]}) == 1


def test_only_two_have_a_gap():
    assert "gap" not in robustness_table({"student": make_report()})
    three = robustness_table(dict.fromkeys("abc", make_report()))
    assert "gap" not in three
    assert len(re.findall("(?m)^[abc] ", three)) == 3


def test_an_incomplete_group_has_no_column():
    table = robustness_table({"student": stopped()})
    assert "AutoAttack" not in table
    assert "incomplete" in table


@pytest.mark.parametrize("message, change", DIFFERENT_TASKS)
def test_robustness_table_refuses_another_task(message, change):
    with pytest.raises(ValueError, match=rf"reports\['b'\].*{message}"):
        robustness_table({"a": make_report(), "b": teacher(**change)})


def test_robustness_table_refuses_other_attacks():
    with pytest.raises(ValueError, match=r"reports\['b'\].*same attacks"):
        robustness_table({"a": make_report(), "b": stopped()})
    weaker = teacher()
    weaker.results[0].parameters["steps"] = 1
    with pytest.raises(ValueError, match=r"same parameters.*pgd-20.*'steps'"):
        robustness_table({"a": make_report(), "b": weaker})
    seeded = make_report()
    seeded.results[0].parameters["seed"] = 1
    robustness_table({"a": make_report(), "b": seeded})
    with pytest.raises(ValueError, match="at least one"):
        robustness_table({})


# Pictures.


def test_plot(tmp_path):
    report = make_report()
    figure = report.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "plot.png").stat().st_size > 5000
    (axis,) = figure.axes
    widths = [bar.get_width() for bar in axis.patches]
    np.testing.assert_allclose(widths, [90, 60, 40])
    labels = [
        label.get_text().split("\n")[0] for label in axis.get_yticklabels()
    ]
    assert labels == ["clean", "pgd-20", GROUP]
    (bars,) = [c for c in axis.containers if hasattr(c, "has_xerr")]
    segments = bars.lines[2][0].get_segments()
    for segment, successes in zip(segments, (9, 6, 4), strict=True):
        expected = binomtest(successes, 10).proportion_ci(method="wilson")
        np.testing.assert_allclose(segment[:, 0], 100 * np.array(expected))


def test_plot_of_all_and_nothing_right():
    report = make_report(clean=bits("1" * 10), results=[result("a", "0" * 10)])
    report.plot()


def test_plot_with_a_curve(tmp_path):
    figure = full_report().plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000
    _, axis = figure.axes
    curve, marked = axis.lines
    np.testing.assert_allclose(curve.get_xdata(), [0, 0.05, 0.1])
    np.testing.assert_allclose(curve.get_ydata(), [90, 30, 0], atol=1e-5)
    np.testing.assert_allclose(marked.get_xdata(), 8 / 255)


def test_an_incomplete_group_has_no_bar():
    (axis,) = stopped().plot().axes
    text = " ".join(label.get_text() for label in axis.get_yticklabels())
    assert "AutoAttack" not in text and "incomplete" in text


@pytest.mark.parametrize("channels", [1, 3])
def test_plot_examples(tmp_path, channels):
    report = with_images(channels)
    figure = report.plot_examples(tmp_path / "plot.png", num_images=4)
    assert (tmp_path / "plot.png").stat().st_size > 5000
    assert len(figure.axes) == 3 * 4
    # 0.5 / 0.1: the largest perturbation becomes white or black.
    assert "perturbation x 5" in figure._suptitle.get_text()
    shown = [axis.images[0].get_array() for axis in figure.axes]
    # Fooled: 3 of class 0; 4, 5, 7 of class 1; 8 of class 2.
    for column, position in enumerate((3, 4, 8, 5)):
        clean = report.images["clean"][position]
        adversarial = report.images["adversarial"][position]
        magnified = 0.5 + 5 * (adversarial - clean)
        for i, image in enumerate((clean, adversarial, magnified)):
            np.testing.assert_allclose(
                np.squeeze(shown[4 * i + column]),
                np.squeeze(np.clip(image, 0, 1)),
                atol=1e-9,
            )
        for i, name in enumerate(("clean", "adversarial")):
            values = report.images[f"{name}_probabilities"][position]
            title = figure.axes[4 * i + column].get_title().split()
            assert title == [
                str(values.argmax()),
                f"{100 * values.max():.0f}",
                "%",
            ]


def test_examples_follow_the_indices_and_the_range():
    report = with_images(indices=range(10, 0, -1))
    assert list(plots.fooled_examples(report, 9)) == [3, 7, 8, 5, 4]
    for name in ("clean", "adversarial"):
        report.images[name] = 255 * report.images[name]
    report.threat_model = ThreatModel(255 * 8 / 255, input_range=(0.0, 255.0))
    figure = report.plot_examples(num_images=1)
    assert "perturbation x 5" in figure._suptitle.get_text()


def test_plot_examples_without_images():
    with pytest.raises(ValueError, match="not stored in the JSON"):
        make_report().plot_examples()


def test_plot_examples_without_a_fooled_image():
    report = with_images(results=[result("a", "1" * 10)])
    with pytest.raises(ValueError, match="no attack fooled"):
        report.plot_examples()


def test_plot_examples_refuses_channels_first():
    report = with_images()
    for name in ("clean", "adversarial"):
        report.images[name] = np.zeros((10, 3, 8, 8))
    with pytest.raises(ValueError, match=r"channels, last.*\(3, 8, 8\)"):
        report.plot_examples()


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        make_report().plot()
