"""The pages of reports in a real browser."""

import numpy as np
import pytest

from keras_adaad.evaluation import Comparisons
from tests.evaluation import chromium
from tests.evaluation.test_report import with_images

pytest.importorskip("playwright", reason="needs the extra `test`")
pytestmark = pytest.mark.once

NAMES = ["cat", "<script>window.ran = true</script>", "owl"]


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as browser:
        if browser is None:
            pytest.skip(chromium.MISSING)
        yield browser


def with_paths(**options):
    """A report with the confidences at eleven points for each example."""
    report = with_images(3, class_names=NAMES, **options)
    ends = [
        report.images[f"{name}_probabilities"][[3, 4, 8]]
        for name in ("clean", "adversarial")
    ]
    shares = np.linspace(0.0, 1.0, 11)[:, None]
    report.images["path_positions"] = np.array([3, 4, 8])
    report.images["path_probabilities"] = (
        ends[0][:, None] * (1 - shares) + ends[1][:, None] * shares
    )
    return report


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a page, and what the page does beside showing."""
    events = []

    def open_page(report, width=1280, **options):
        path = tmp_path / "page.html"
        report.save_html(path)
        context = browser.new_context(
            viewport={"width": width, "height": 900}, **options
        )
        page = context.new_page()
        page.on("console", lambda message: events.append(message.text))
        page.on("pageerror", lambda error: events.append(str(error)))
        page.on("dialog", lambda dialog: events.append(dialog.message))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(path.as_uri())
        return page

    requests = []
    yield open_page
    assert events == []
    files = [url for url in requests if not url.startswith("data:")]
    assert all(url.startswith("file:") for url in files)
    assert len(files) == len(set(files)) == 1


def confidences(page):
    """Returns the confidences on the page by class, in percent."""
    rows = page.locator("#confidences tr").all()
    cells = [(row.locator("th"), row.locator("td").last) for row in rows]
    return {
        name.evaluate("cell => cell.firstChild.textContent"): float(
            value.inner_text()
        )
        for name, value in cells
    }


def expected(report, example, point):
    values = 100 * report.images["path_probabilities"][example, point]
    return {
        name: pytest.approx(value, abs=0.051)
        for name, value in zip(NAMES, values, strict=True)
    }


def frame(page):
    """Returns a picture of the perturbed image."""
    return page.locator(".frame").nth(1).screenshot()


def test_slider_changes_image_and_confidences(opened):
    report = with_paths()
    page = opened(report)
    slider = page.get_by_role("slider")
    assert slider.input_value() == "10"
    assert confidences(page) == expected(report, 0, 10)
    pictures = [frame(page)]
    slider.focus()
    for key, point in (("ArrowLeft", 9), ("Home", 0)):
        page.keyboard.press(key)
        assert confidences(page) == expected(report, 0, point)
        size = "0.09" if point else "0"
        assert slider.get_attribute("aria-valuetext") == f"size {size}"
        assert page.locator("#size-value").inner_text() == size
        pictures.append(frame(page))
    assert len(set(pictures)) == 3
    # At its left end the slider shows the clean image.
    opacity = "image => getComputedStyle(image).opacity"
    assert page.locator("#adversarial").evaluate(opacity) == "0"


def test_pixels_are_those_of_the_point(opened):
    """Halfway, each pixel is the mean of clean and adversarial."""
    report = with_paths()
    page = opened(report)
    page.get_by_role("slider").fill("5")
    pixels = page.evaluate(
        """() => {
          const canvas = document.createElement("canvas");
          canvas.width = canvas.height = 8;
          const context = canvas.getContext("2d");
          for (const image of document.querySelectorAll(".frame")[1].children) {
            context.globalAlpha = getComputedStyle(image).opacity;
            context.drawImage(image, 0, 0);
          }
          return [...context.getImageData(0, 0, 8, 8).data];
        }"""
    )
    pixels = np.reshape(pixels, (8, 8, 4))[..., :3]
    ends = (report.images[name][3] for name in ("clean", "adversarial"))
    np.testing.assert_allclose(pixels, 255 * sum(ends) / 2, atol=2)


def test_keyboard_chooses_the_image(opened):
    report = with_paths()
    page = opened(report)
    before = frame(page)
    page.get_by_role("radio").first.focus()
    page.keyboard.press("ArrowRight")
    assert confidences(page) == expected(report, 1, 10)
    assert frame(page) != before
    assert page.get_by_role("radio").nth(1).is_checked()
    focused = page.locator("input:focus + img")
    outline = focused.evaluate("image => getComputedStyle(image).outlineStyle")
    assert outline == "solid"


def test_a_class_named_script_is_shown_and_not_run(opened):
    report = with_paths(
        model_name="<img src=x onerror='window.ran = true'>",
        flags={"<b>": "</script><script>window.ran = true</script>"},
    )
    page = opened(report)
    assert page.get_by_role("rowheader", name=NAMES[1]).count() >= 2
    page.get_by_role("radio").nth(1).check()
    assert NAMES[1] in page.locator("#verdict").inner_text()
    assert page.get_by_role("heading", level=1).inner_text().startswith("<img")
    assert page.evaluate("window.ran") is None
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_scrolls_sideways(opened, width):
    page = opened(with_paths(), width)
    page.evaluate(
        "document.querySelectorAll('details').forEach(part => part.open = true)"
    )
    assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_light_or_dark(opened, scheme):
    page = opened(with_paths(), color_scheme=scheme)
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    values = [int(value) for value in color[4:-1].split(",")]
    assert min(values) > 250 if scheme == "light" else max(values) < 30


def test_all_but_the_viewer_works_without_javascript(opened):
    page = opened(with_paths(), java_script_enabled=False)
    assert page.get_by_text("40.0").first.is_visible()
    assert page.get_by_text("The viewer needs JavaScript.").is_visible()
    assert not page.locator("#viewer").is_visible()


def test_a_report_without_images_has_no_viewer(opened):
    report = with_paths()
    report.images = None
    page = opened(report)
    assert page.get_by_text("The images are missing").is_visible()
    assert page.get_by_role("slider").count() == 0


def test_one_viewer_shows_the_images_of_all_models(opened):
    report = with_paths()
    page = opened(Comparisons({"small": report, "<i>large": with_paths()}))
    page.get_by_role("radio").nth(3).check()
    verdict = page.locator("#verdict").inner_text()
    assert verdict.startswith("<i>large answers")
    assert "small was fooled by apgd-ce" in page.locator("#story").inner_text()
    assert confidences(page) == expected(report, 0, 10)
