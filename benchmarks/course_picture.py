"""Film the course for the README: the player of notebook 03, as an exported page shows it, in ``course.gif``.

``python benchmarks/course_picture.py`` needs Chromium and Playwright (the extra ``test``).
"""

import io
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from musicgen.lab.course.pages import export
from musicgen.utils.files import atomic_write

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks" / "03_building.ipynb"
PICTURE = ROOT / "notebooks" / "figures" / "course.gif"
TITLE = "your model"  # the player that is filmed
WIDTH, HEIGHT = 1000, 760  # pixels
ABOVE = 60  # pixels of the page above the player
N_PICTURES, SECONDS_APART = 20, 0.4


def film(page) -> list[Image.Image]:
    """Play the player, and take a picture of the page every now and then."""
    frame = page.locator(f'iframe[title*="{TITLE}"]').first
    frame.scroll_into_view_if_needed()
    page.evaluate("distance => window.scrollBy(0, distance)", frame.bounding_box()["y"] - ABOVE)
    player = frame.content_frame
    player.locator('[data-ready="yes"]').wait_for()
    player.get_by_test_id("play").click()
    pictures = []
    for _ in range(N_PICTURES):
        pictures.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
        page.wait_for_timeout(1000 * SECONDS_APART)
    return pictures


def main() -> None:
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        options = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        path = Path(folder) / "page.html"
        path.write_text(export(NOTEBOOK), encoding="utf-8")
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(path.as_uri())
        pictures = film(page)
        browser.close()
    first, *others = [picture.quantize(64, dither=Image.Dither.NONE) for picture in pictures]
    duration = round(1000 * SECONDS_APART)
    with atomic_write(PICTURE) as temporary:
        first.save(
            temporary, format="GIF", save_all=True, append_images=others, duration=duration, loop=0, optimize=True
        )
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
