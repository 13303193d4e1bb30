"""Do the demo's pages work in a real browser: no request, no error, no overflow, no dead link, no barrier?"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from lib.config import ROOT
from tests.test_notebooks import NAMES

SCREENSHOTS = ROOT / ".screenshots"
PAGES = ["index", *NAMES]
WIDTHS = (1280, 390)
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        message = "no chromium on this machine: the pages are not tested in a browser (Debian: apt-get install chromium)"
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture(params=PAGES)
def name(request):
    return request.param


@pytest.fixture
def path(demo_study, name):
    return demo_study.reports / f"{name}.html"


@pytest.fixture
def opened(browser):
    """Opens a page, without a network; closes it after the test."""
    contexts = []

    def open_page(path: Path, *, width: int = 1280, scheme: str = "light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        contexts.append(context)
        return watched(context.new_page(), path)

    yield open_page
    for context in contexts:
        context.close()


def watched(page, path: Path):
    """Go to a file, noting what it asks for and what it complains of."""
    page.requests, page.complaints = [], []
    page.on("request", lambda request: page.requests.append(request.url))
    page.on(
        "console",
        lambda message: (
            page.complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_fits_warns_of_synthetic_images_asks_for_nothing_and_complains_of_nothing(
    opened, path, name, width, scheme
):
    page = opened(path, width=width, scheme=scheme)
    if os.environ.get("STUDY_TREE"):  # for whoever works on the pages to look at
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{scheme}.png", full_page=True)
    if page.locator("#fold:visible").count():
        page.locator("#fold").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        """width => [...document.querySelectorAll("main > *, main section > *")]
        .filter(e => e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 200))""",
        width,
    )
    assert beyond == []
    assert page.locator(".banner").count() == 1
    assert "Synthetic images" in page.locator(".banner").inner_text()
    assert page.locator(".banner").is_visible()
    assert page.get_attribute("html", "lang") == "en"
    assert page.title()
    page.mouse.wheel(0, 20_000)
    page.wait_for_timeout(100)
    asked = [url for url in page.requests if not url.startswith("data:")]
    assert asked == [path.as_uri()]
    assert page.complaints == []


def test_every_link_and_anchor_resolves(opened, path, name, demo_study):
    page = opened(path)
    links = page.eval_on_selector_all("a[href]", "links => links.map(a => a.href)")
    assert links
    ids = {path: page.eval_on_selector_all("[id]", "all => all.map(e => e.id)")}
    assert len(set(ids[path])) == len(ids[path]), "two elements have one id"
    for link in links:
        target, anchor = urldefrag(link)
        if target.startswith(("http:", "https:")):
            continue
        file = Path(unquote(target.removeprefix("file://")))
        assert file.is_file(), f"{name} links to {link}"
        if anchor:
            assert file == path, "pages link to others as a whole"
            assert unquote(anchor) in ids[path], f"{name} links to {link}"


def test_code_folds_for_the_page_and_for_each_cell(opened, path, name):
    from playwright.sync_api import expect

    if name == "index":
        pytest.skip("the index page holds no code")
    page = opened(path)
    blocks = page.locator("details.code")
    count = blocks.count()
    assert count > 3
    open_now = "blocks => blocks.filter(block => block.open).length"
    assert blocks.evaluate_all(open_now) == 0
    button = page.locator("#fold")
    button.focus()
    page.keyboard.press("Enter")
    assert blocks.evaluate_all(open_now) == count
    expect(button).to_have_text("Hide code")
    expect(button).to_have_attribute("aria-pressed", "true")
    blocks.nth(1).locator("summary").focus()
    page.keyboard.press("Space")
    assert blocks.evaluate_all(open_now) == count - 1
    expect(button).to_have_text("Show code")  # a browser tells of a fold a moment after it
    button.click()
    expect(button).to_have_text("Hide code")
    button.click()
    assert blocks.evaluate_all(open_now) == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_axe_finds_no_serious_barrier(opened, path, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = opened(path, width=width, scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true; })")
    found = Axe().run(page).response["violations"]
    serious = [
        f"{rule['id']}: {rule['help']}: {rule['nodes'][0]['html'][:160]} ({len(rule['nodes'])} times)"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_contents_stand_beside_the_text_where_there_is_room(opened, demo_study):
    path = demo_study.reports / "04_compare.html"
    wide, narrow = opened(path), opened(path, width=390)
    contents, text = wide.locator(".toc").bounding_box(), wide.locator("main").bounding_box()
    assert contents["x"] + contents["width"] <= text["x"]
    assert text["width"] <= 820, "lines stay readable"
    assert not narrow.locator(".toc details").evaluate("details => details.open")


def test_on_paper_there_is_the_text_alone(opened, demo_study):
    page = opened(demo_study.reports / "04_compare.html")
    page.emulate_media(media="print")
    for hidden in ("header.site", ".toc", "details.code", ".turn"):
        assert not page.locator(hidden).first.is_visible()
    assert page.locator("main h1").is_visible()
