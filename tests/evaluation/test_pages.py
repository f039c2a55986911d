"""What a page of a report says, without a browser."""

import base64
import hashlib
import html.parser
import importlib.util
import io
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

import keras_adaad
from keras_adaad import attacks
from keras_adaad.evaluation import Comparison
from keras_adaad.evaluation import Comparisons
from keras_adaad.evaluation.curve import sampled
from keras_adaad.evaluation.pages import charts
from keras_adaad.evaluation.pages import rendering
from tests.evaluation.test_report import full_report
from tests.evaluation.test_report import make_report
from tests.evaluation.test_report import result
from tests.evaluation.test_report import stopped
from tests.evaluation.test_report import teacher
from tests.evaluation.test_report import with_images

pytestmark = pytest.mark.once

CURVE = {
    "attack": "PGD-20",
    "epsilons": [4 / 255, 8 / 255, 32 / 255, 0.5],
    "accuracy": [0.8, 0.6, 0.2, 0.0],
    "num_images": 10,
}
PNG = "data:image/png;base64,"
HOSTILE = "</script><script>alert(1)</script>\"'&"


class Page(html.parser.HTMLParser):
    """The text, the tables and the tags of a page whose tags are balanced."""

    VOID = frozenset({"br", "img", "input", "link", "meta"})

    def __init__(self, text):
        super().__init__()
        self.source, self.open = text, []
        self.tags, self.rows, self.text, self.data = [], [], "", ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("br", "dd"):
            self.text += " "
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data = self.data or data
        elif "style" not in self.open:
            self.text += data
            if "td" in self.open or "th" in self.open:
                self.rows[-1][-1] += data

    def row(self, name):
        """Returns the cells of the first row that begins with a name."""
        rows = [[" ".join(c.split()) for c in row] for row in self.rows]
        return next(row for row in rows if row and row[0] == name)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(self.text.split())


@pytest.fixture
def page_of(tmp_path):
    def page_of(report):
        path = tmp_path / "page.html"
        report.save_html(path)
        return Page(path.read_text("utf-8"))

    return page_of


def examples(page):
    return json.loads(page.data)


def test_the_numbers_are_those_of_the_report(page_of):
    page = page_of(make_report(class_names=["cat", "dog", "owl"], curve=CURVE))
    assert "40.0 % robust accuracy" in page.words
    assert "95 % interval 16.8 to 68.7 %" in page.words
    for row in (
        ["clean images", "", "90.0 59.6 to 98.2", ""],
        ["pgd-20", "", "60.0 31.3 to 83.2", "3"],
        ["AutoAttack (standard)", "", "40.0 16.8 to 68.7", "2"],
        ["apgd-ce", "", "50.0 23.7 to 76.3", "1"],
        ["square", "", "40.0 16.8 to 68.7", "1"],
        ["worst case", "", "40.0 16.8 to 68.7", ""],
        ["owl 2 images", "", "0.0 0.0 to 65.8", "50.0"],
        ["0.03137", "60.0", "31.3 to 83.2"],
    ):
        assert page.row(row[0]) == row
    assert ["apgd-ce", "6", "1", "70.0", "1.2"] in page.rows
    assert ["square", "5", "1", "not measured", "1.2"] in page.rows
    assert "The least robust class comes first: owl, with 0.0 %" in page.words
    for setting in ("epsilon 0.0313725", "norm linf", "keras 3.15.0", "seed 7"):
        assert setting in page.words
    assert page.words.count("input_range [0.0, 1.0]") == 3


def test_the_waterfall_is_drawn_to_scale(page_of):
    widths = [
        (bar["x"], bar["width"])
        for bar in page_of(make_report()).all("rect")
        if bar.get("class") == "lost"
    ]
    assert widths[:4] == [
        ("60.0%", "30.0%"),
        ("40.0%", "20.0%"),
        ("50.0%", "10.0%"),
        ("40.0%", "10.0%"),
    ]


def test_curve_begins_with_the_clean_accuracy_and_ends_at_four_epsilon():
    chart = charts.curve_chart({"student": make_report(curve=CURVE)})
    (line,) = chart["drawn"].values()
    assert [(p["x"], p["share"].percent) for p in line] == [
        (0.0, 90.0),
        (12.5, 80.0),
        (25.0, 60.0),
        (100.0, 20.0),
    ]
    assert chart["epsilon"] == 25.0 and not chart["all_drawn"]
    assert len(chart["lines"]["student"]) == 5
    assert charts.curve_chart({"student": make_report()}) is None


def test_a_table_of_attacks_is_of_the_same_attacks():
    def measured(steps):
        parameters = attacks.PGD(epsilon=0.1, steps=steps).get_config()
        return make_report(
            results=[result("pgd", "1" * 10, parameters=parameters)]
        )

    table = charts.attack_table({"a": measured(1), "b": measured(1)})
    assert table["names"] == ["pgd (steps=1)"]
    assert charts.attack_table({"a": measured(1), "b": measured(20)}) is None


def test_the_clean_accuracy_of_a_curve_is_that_of_its_images():
    """The first five are correct, and two of the sample are not."""
    places = sampled(np.arange(10), 5)
    clean = np.ones(10, bool)
    clean[places[places >= 5][:2]] = False
    zeros = result("pgd", "0" * 10)
    report = make_report(
        clean=clean, results=[zeros], curve={**CURVE, "num_images": 5}
    )
    (line,) = charts.curve_chart({"student": report})["drawn"].values()
    assert line[0]["share"].percent == 60.0


@pytest.mark.parametrize("epsilons", [[0.0], [0.5], [0.1, 0.2, 0.5]])
def test_curve_of_any_epsilons(page_of, epsilons):
    accuracy = [0.5] * len(epsilons)
    curve = {**CURVE, "epsilons": epsilons, "accuracy": accuracy}
    page = page_of(make_report(curve=curve))
    assert page.row(f"{epsilons[-1]:.4g}")[1] == "50.0"


def test_flags_and_what_is_incomplete(page_of):
    assert "Nothing was flagged" in page_of(make_report()).words
    page = page_of(make_report(flags={"masking": "why", "epsilon": "how"}))
    assert "2 flags" in page.words and "masking: why" in page.words
    assert "Nothing was flagged" not in page.words
    page = page_of(stopped())
    assert "Incomplete" in page.words and "quick look" in page.words
    assert "incomplete: apgd-ce, square" in page.words
    page = page_of(make_report(results=[]))
    assert "No attack was run." in page.words
    assert "90.0 % clean accuracy" in page.words


def test_page_needs_no_network_and_runs_one_script(page_of):
    page = page_of(full_report())
    assert "http:" not in page.source and "https:" not in page.source
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith("data:")
    policy = next(m["content"] for m in page.all("meta") if "content" in m)
    assert "default-src 'none'" in policy
    script = re.findall(r"<script>(.*?)</script>", page.source, re.DOTALL)
    digest = hashlib.sha256(script[-1].encode()).digest()
    assert f"'sha256-{base64.b64encode(digest).decode()}'" in policy
    assert len(script) == 1


def hostile(**options):
    report = with_images(
        model_name=HOSTILE,
        class_names=[HOSTILE, "dog", HOSTILE],
        flags={HOSTILE: HOSTILE},
        environment={HOSTILE: HOSTILE},
        curve={**CURVE, "attack": HOSTILE},
        **options,
    )
    report.results[0] = result(
        HOSTILE, "1111001100", group=HOSTILE, parameters={HOSTILE: HOSTILE}
    )
    return report


@pytest.mark.parametrize("several", [False, True])
def test_every_value_is_escaped(page_of, several):
    report = hostile()
    shown = report
    if several:
        shown = Comparisons({HOSTILE: report, "other": hostile()})
    page = page_of(shown)
    assert "<script>alert" not in page.source
    assert "<script>alert" not in shown._repr_html_()
    assert HOSTILE in page.text
    assert examples(page)[0]["label"] == HOSTILE


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images(page_of, channels):
    report = with_images(channels)
    page = page_of(report)
    shown = examples(page)
    # Fooled: 3 of class 0; 4, 5, 7 of class 1; 8 of class 2.
    assert [example["index"] for example in shown] == [13, 14, 18, 15, 17]
    clean = [i["src"] for i in page.all("img") if i.get("src")]
    for example, source, position in zip(
        shown, clean, (3, 4, 8, 5, 7), strict=True
    ):
        assert example["factor"] == 5
        images = [
            report.images[name][position] for name in ("clean", "adversarial")
        ]
        images.append(0.5 + 5 * (images[1] - images[0]))
        pictures = (source, example["adversarial"], example["perturbation"])
        for picture, image in zip(pictures, images, strict=True):
            content = base64.b64decode(picture.removeprefix(PNG))
            pixels = np.array(Image.open(io.BytesIO(content)))
            np.testing.assert_allclose(
                pixels, 255 * np.squeeze(np.clip(image, 0, 1)), atol=0.51
            )


def test_without_paths_there_are_two_points(page_of):
    report = with_images()
    example = examples(page_of(report))[0]
    assert example["shares"] == [0.0, 1.0]
    assert example["sizes"] == ["0", "0.1"]
    for values, name in zip(
        example["confidences"], ("clean", "adversarial"), strict=True
    ):
        probabilities = report.images[f"{name}_probabilities"][3]
        order = [int(name) for name in example["classes"]]
        assert order[0] == 0 and sorted(order) == [0, 1, 2]
        np.testing.assert_allclose(
            values, 100 * probabilities[order], atol=0.051
        )
    assert example["verdict"] == "was fooled by apgd-ce"


def test_an_example_with_nan_is_left_out(page_of):
    report = with_images()
    report.images["adversarial_probabilities"][3, 1] = np.nan
    assert [e["index"] for e in examples(page_of(report))] == [14, 18, 15, 17]


def test_reasons_for_no_images(page_of, tmp_path):
    report = with_images()
    report.save(tmp_path / "report.json")
    loaded = keras_adaad.RobustnessReport.load(tmp_path / "report.json")
    page = page_of(loaded)
    assert "the JSON file of a report has none" in page.words
    assert page.all("input") == []
    robust = with_images(results=[result("a", "1" * 10)])
    assert "No attack fooled the model" in page_of(robust).words
    for name in ("clean", "adversarial"):
        report.images[name] = np.zeros((10, 3, 8, 8))
    assert "images of shape (3, 8, 8)" in page_of(report).words


def large_report(side, n=1000):
    """A thousand images of noise, and as many classes with long names."""
    generator = np.random.default_rng(0)
    clean, adversarial = generator.uniform(size=(2, side, side, 3))
    probabilities = np.full((n, n), 1 / n)
    fooled = np.zeros(n, bool)
    return make_report(
        labels=np.arange(n),
        indices=np.arange(n),
        clean=~fooled,
        results=[result("a" * 99, "0" * n) for _ in range(9)],
        num_classes=n,
        class_names=[f"a class with the number {k}" for k in range(n)],
        images={
            "clean": np.broadcast_to(clean, (n, *clean.shape)),
            "adversarial": np.broadcast_to(adversarial, (n, *clean.shape)),
            "clean_probabilities": probabilities,
            "adversarial_probabilities": probabilities,
        },
    )


@pytest.mark.parametrize("side, count, every", [(32, 24, 1), (300, 4, 2)])
def test_a_thousand_images_take_less_than_3_mb(page_of, side, count, every):
    page = page_of(large_report(side))
    assert len(page.source.encode()) < 3_000_000
    assert len(examples(page)) >= count
    assert ("Every pixel number 2" in page.words) == (every == 2)
    assert "The other 980 classes" in page.words


def test_two_models(page_of):
    comparison = make_report(curve=CURVE).compare(teacher(curve=CURVE))
    page = page_of(comparison)
    assert "student against teacher: -10.00 points" in page.words
    assert page.row("student against teacher") == [
        *("student against teacher", "clean", "90.00", "100.00"),
        *("-10.00", "0", "1", "1"),
    ]
    assert page.row("student") == ["student", "", "40.0 16.8 to 68.7", "90.0"]
    assert ["teacher", "100.0", "70.0", "50.0"] in page.rows
    assert page.row("2") == ["2", "2", "worst 0.0", "worst 0.0"]
    assert "Nothing was flagged" in page.words
    assert "The attacks differ" not in page.words


def test_three_models(page_of):
    reports = {"a": make_report(), "b": teacher(), "c": make_report()}
    comparisons = Comparisons(reports)
    assert [(p.first, p.second) for p in comparisons.pairs] == [
        ("a", "b"),
        ("a", "c"),
    ]
    assert "a (1) against c (2)" in str(comparisons)
    page = page_of(comparisons)
    for name in reports:
        assert page.row(name)[0] == name
    assert "not corrected for the number of comparisons" in page.words


def test_models_of_one_name_are_numbered(page_of):
    page = page_of(make_report().compare(make_report(flags={"a": "b"})))
    assert page.row("student (1)") and page.row("student (2)")
    assert "1 flag" in page.words


def test_other_attacks_are_told(page_of):
    comparison = make_report().compare(stopped())
    page = page_of(comparison)
    assert "The attacks differ" in page.words
    assert "The attacks differ" in comparison._repr_html_()
    assert "Attack by attack" not in page.words


def test_comparisons_refuse_what_cannot_be_compared():
    with pytest.raises(TypeError, match=r"dictionary.*of type list"):
        Comparisons([make_report(), teacher()])
    with pytest.raises(ValueError, match=r"at least two.*\['a'\]"):
        Comparisons({"a": make_report()})
    with pytest.raises(ValueError, match=r"`reports\['c'\]`.*same images"):
        Comparisons(
            {"a": make_report(), "b": teacher(), "c": teacher(labels=[1] * 10)}
        )


def test_a_comparison_without_reports_has_no_page(tmp_path):
    pair = make_report().compare(teacher())
    bare = Comparison("", "a", "b", pair.clean, pair.robust, True)
    with pytest.raises(ValueError, match="RobustnessReport.compare"):
        bare.save_html(tmp_path / "page.html")
    assert "a against b" in bare._repr_html_()


def test_notebooks_show_the_short_form():
    page = Page(make_report(flags={"masking": "why"})._repr_html_())
    assert page.row("worst case") == ["worst case", "40.0", "16.8 to 68.7"]
    assert page.row("pgd-20") == ["pgd-20", "60.0", "31.3 to 83.2"]
    assert "masking: why" in page.words
    page = Page(make_report().compare(teacher())._repr_html_())
    assert page.row("student against teacher")[4] == "-10.00"


def test_without_jinja2_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install jinja2"):
        make_report().save_html(tmp_path / "page.html")
    assert make_report()._repr_html_() is None
    assert list(tmp_path.iterdir()) == []


def luminance(color):
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(
        values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4
    )
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(*colors):
    low, high = sorted(map(luminance, colors))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_colors_have_the_contrast_of_wcag(dark):
    """4.5 for text, and 3 for what is drawn."""
    environment = rendering._environment()
    style = environment.loader.get_source(environment, "style.css")[0]
    light, after = style.split("@media (prefers-color-scheme: dark)")
    part = after.split("* {")[0] if dark else light
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", part))
    for ground in ("ground", "panel"):
        for ink in ("ink", "muted", "good", "lost", "warn-ink"):
            assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
        for drawn in ("kept", "neutral", "focus", *(f"s{i}" for i in range(6))):
            assert contrast(colors[drawn], colors[ground]) >= 3, drawn
    assert contrast(colors["warn-ink"], colors["warn-ground"]) >= 4.5
