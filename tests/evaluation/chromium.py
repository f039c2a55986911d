"""Headless Chromium, and the pictures of a page for the documentation.

    python -m tests.evaluation.chromium report.html docs/images

writes `report_wide.png`, `report_phone.png` and `report_dark.png`.
"""

import contextlib
import io
import os
import pathlib
import shutil
import sys

NAMES = (
    "chromium",
    "chromium-headless-shell",
    "chromium-browser",
    "google-chrome",
)
MISSING = (
    "no Chromium: install it (`apt-get install chromium` or `playwright "
    "install chromium`), or set CHROMIUM to the path of one"
)


@contextlib.contextmanager
def launched():
    """Yields a browser, or `None` where no Chromium is installed.

    The environment variable CHROMIUM names it. If it is not set, a browser on
    PATH is taken, or the one that Playwright has installed.
    """
    from playwright.sync_api import Error
    from playwright.sync_api import sync_playwright

    paths = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    path = next(filter(None, paths), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=path,
                # The sandbox refuses to run as root, as in many containers.
                args=["--no-sandbox"],
            )
        except Error as error:
            if path is not None or "Executable doesn't exist" not in str(error):
                raise
            browser = None
        yield browser
        if browser is not None:
            browser.close()


def take_pictures(path, folder):
    """Writes three screenshots of a page, with 256 colors to be small."""
    from PIL import Image

    path, folder = pathlib.Path(path).resolve(), pathlib.Path(folder)
    # The size, the color scheme, and what is at the top of the picture.
    views = {
        "wide": (1280, 1240, "light", "body"),
        "phone": (390, 1080, "light", "fieldset"),
        "dark": (1280, 880, "dark", "fieldset"),
    }
    with launched() as browser:
        if browser is None:
            sys.exit(MISSING)
        for name, (width, height, scheme, top) in views.items():
            page = browser.new_page(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
            )
            page.goto(path.as_uri())
            y = max(0, page.locator(top).first.bounding_box()["y"] - 16)
            clip = {"x": 0, "y": y, "width": width, "height": height}
            content = page.screenshot(full_page=True, clip=clip)
            picture = Image.open(io.BytesIO(content))
            picture = picture.convert("RGB").quantize(256)
            picture.save(folder / f"{path.stem}_{name}.png", optimize=True)


if __name__ == "__main__":
    take_pictures(*sys.argv[1:])
