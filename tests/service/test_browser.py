"""The pages in a real browser: what a reader does, and that nothing is asked of any other server."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.service.server_process import ROOT, ServerProcess, serving

pytestmark = pytest.mark.browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = f"no Chromium on the PATH (looked for {', '.join(NAMES)})"
        if os.environ.get("NONESUCH_REQUIRE_BROWSER") == "1":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A page of the bundles made by hand."""
    with well_behaved(browser, server) as opened:
        yield opened


@pytest.fixture(scope="module")
def shipped() -> Iterator[ServerProcess]:
    """A server of the shipped bundles."""
    with serving(ROOT / "bundles") as running:
        yield running


@contextmanager
def well_behaved(browser: Browser, server: ServerProcess) -> Iterator[Page]:
    """A page that knows the server's address; it must stay within it, and say nothing on the console."""
    context = browser.new_context(base_url=server.url)
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    context.close()
    assert said == []
    home = urlsplit(server.url).netloc
    assert asked
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {home}


def drawn(page: Page, selector: str) -> list[dict[str, Any]]:
    """What the pictures at a selector turned out to be."""
    return page.eval_on_selector_all(
        selector, "images => images.map(i => ({loaded: i.complete, width: i.naturalWidth, alt: i.alt}))"
    )


def test_home_shows_samples_and_leads_to_them(page: Page) -> None:
    page.goto("/", wait_until="load")
    assert all(picture["loaded"] and picture["width"] > 0 for picture in drawn(page, ".mosaic img"))
    page.get_by_role("link", name="These dots do not exist").click()
    page.wait_for_url("**/x/dots")
    assert page.title() == "These dots do not exist"


def test_next_one_changes_the_address_and_the_sample(page: Page) -> None:
    page.goto("/x/normal")
    addresses, samples = {page.url}, {page.inner_text("figcaption")}
    for _ in range(3):
        before = page.url
        page.click("#next")
        page.wait_for_url(lambda url, before=before: url != before)  # type: ignore[misc]
        addresses.add(page.url)
        samples.add(page.inner_text("figcaption"))
    assert len(addresses) == len(samples) == 4


def test_a_picture_is_crisp_and_says_what_it_is(page: Page) -> None:
    page.goto("/x/dots", wait_until="load")
    (picture,) = drawn(page, ".picture img")
    assert picture["loaded"]
    assert picture["width"] == 448
    assert "seed" in picture["alt"]
    assert page.eval_on_selector(".picture img", "i => getComputedStyle(i).imageRendering") == "pixelated"


def test_the_permanent_link_gives_the_same_bytes(page: Page) -> None:
    page.goto("/x/dots", wait_until="load")
    source = page.get_attribute(".picture img", "src")
    page.click("#permanent")
    page.wait_for_url("**/x/dots@*/*/0")
    assert page.get_attribute(".picture img", "src") == source
    assert source is not None
    first, second = (page.request.get(source).body() for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")


def test_pages_work_without_scripts(browser: Browser, server: ServerProcess) -> None:
    with browser.new_context(base_url=server.url, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/x/normal")
        before = page.url
        page.click("#next")
        assert page.url != before


def test_pages_fit_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    for path in ("/", "/x/dots", "/x/normal", "/problems/overloaded"):
        page.goto(path, wait_until="load")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_pages_follow_the_readers_wish_for_dark(page: Page) -> None:
    light: list[int] = []
    dark: list[int] = []
    for scheme, found in (("light", light), ("dark", dark)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto("/x/dots")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        found += [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    assert sum(light) > 600
    assert sum(dark) < 150


def test_a_label_is_a_click_away(browser: Browser, shipped: ServerProcess) -> None:
    with well_behaved(browser, shipped) as page:
        page.goto("/x/garments", wait_until="load")
        permanent = page.get_attribute("#permanent", "href")
        assert permanent is not None
        before = page.get_attribute(".picture img", "src")
        page.get_by_role("navigation", name="label").get_by_role("link", name="ankle boot").click()
        page.wait_for_url(lambda url: "label=ankle+boot" in url and permanent.partition("?")[0] in url)
        assert page.inner_text('nav[aria-label="label"] [aria-current]') == "ankle boot"
        (picture,) = drawn(page, ".picture img")
        assert picture["loaded"]
        assert "ankle boot" in picture["alt"]
        assert page.get_attribute(".picture img", "src") != before
        assert "is left out" in page.inner_text(".said")
        page.get_by_role("link", name="as in the model's law").click()
        page.wait_for_url(lambda url: "observation_noise" not in url)
        assert page.inner_text('nav[aria-label="label"] [aria-current]') == "ankle boot"
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert [entry for entry in page.evaluate(CONTRASTS) if entry[1] < 4.5] == []
        page.set_viewport_size({"width": 360, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


CONTRASTS = """() => {
  const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = colour => {
    const [r, g, b] = parse(colour).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (parse(colour).length === 3 || parse(colour)[3] > 0) return colour;
    }
  };
  const texts = [...document.querySelectorAll("h1,h2,p,dt,dd,a.button,pre,nav a,.choice a,summary,b,.quiet")];
  return texts.filter(e => e.textContent.trim()).map(e => {
    const [dim, bright] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => x - y);
    return [`${e.tagName} ${e.textContent.trim().slice(0, 30)}`, (bright + 0.05) / (dim + 0.05)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_against_its_ground(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    for path in ("/", "/x/dots", "/x/normal"):
        page.goto(path)
        ratios = page.evaluate(CONTRASTS)
        assert ratios
        assert [entry for entry in ratios if entry[1] < 4.5] == [], "WCAG 2.1 AA asks for 4.5"


def test_the_keyboard_reaches_everything(page: Page) -> None:
    page.goto("/x/normal")
    seen = []
    for _ in range(8):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.textContent.trim()"))
    assert seen[0] == "Skip to the content"
    assert {"Nonesuch", "API", "Next one", "Another seed"} <= set(seen)
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def test_the_api_page_shows_every_question_and_asks_this_server_alone(page: Page) -> None:
    page.goto("/docs")
    page.wait_for_selector("#operations-questions-anomaly_score")
    for name in ("sample", "log_prob", "encode", "decode", "anomaly_score", "classify", "inpaint"):
        assert page.is_visible(f"#operations-questions-{name}")
    page.click("#operations-models-models .opblock-summary-control")
    page.click("#operations-models-models button.execute")
    page.wait_for_selector("#operations-models-models .live-responses-table")
    assert '"normal"' in page.inner_text("#operations-models-models .live-responses-table")
