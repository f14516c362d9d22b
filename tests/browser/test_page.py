"""The pages in a real browser: quiet console, no requests, nothing sticks out of a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.chromium import chromium
from tests.judged_run import JudgedRun, by_protocol
from ti_core.records import BatchRow
from ti_core.reporting.report import batch_page, page

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["BrowserContext"]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module", params=["accepted", "rejected", "long-name", "protocol", "batch"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    long = request.param == "long-name"
    run = JudgedRun(
        name="a" * 64 if long else "cat-toy",
        class_word="b" * 80 if long else "toy",
        accepted=request.param != "rejected",
        warnings=("w" * 200,) if long else ("One picture is small.",),
    )
    if request.param == "batch":
        strip = run.manifest.report.chosen.strip
        rows = [
            BatchRow(concept="cat-toy", status="published", reason="First.", step=80, score=0.7, strip=strip),
            BatchRow(concept="b" * 64, status="failed", reason="x" * 300),
            BatchRow(
                concept="c" * 64,
                status="published",
                reason="Judged.",
                step=80,
                score=0.8,
                protocol="dreambench",
                figures={"DINO": 0.4, "CLIP-I": 0.7, "CLIP-T": 0.2},
                caveats=("w" * 200, "Not comparable."),
            ),
        ]
        data = batch_page(rows, run.load)
    else:
        manifest = run.manifest
        if request.param == "protocol":
            manifest = by_protocol(manifest, "dreambench", seeds=2)
        data = page(manifest, run.load)
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_is_quiet_and_fits(browser: "BrowserContext", file: Path, width: int, scheme: str) -> None:
    said: list[str] = []
    asked: list[str] = []
    tab = browser.new_page()
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.set_viewport_size({"width": width, "height": 800})
    tab.emulate_media(color_scheme=scheme)
    tab.goto(file.as_uri())
    for details in tab.query_selector_all("summary"):
        details.click()

    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    broken = tab.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
    assert broken == 0
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser: "BrowserContext", file: Path, scheme: str) -> None:
    """WCAG 2 AA: 4.5 to 1 between every text and what lies behind it, curves included."""
    tab = browser.new_page()
    tab.emulate_media(color_scheme=scheme)
    tab.goto(file.as_uri())
    for details in tab.query_selector_all("summary"):
        details.click()
    faint = tab.evaluate(_FAINT_TEXT)
    assert faint == []
    tab.close()


_FAINT_TEXT = """() => {
  const luminance = text => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = [];
  const judge = (element, colour, text) => {
    const [low, high] = [luminance(colour), luminance(ground(element))].sort((a, b) => a - b);
    if ((high + 0.05) / (low + 0.05) < 4.5) faint.push(text);
  };
  for (const element of document.querySelectorAll("main *")) {
    const own = [...element.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join("");
    if (own) judge(element, getComputedStyle(element).color, own);
  }
  for (const glyph of document.querySelectorAll("svg use[*|href]")) {
    const text = glyph.closest("g[style*=fill]");
    if (text) judge(text, getComputedStyle(text).fill, "a label of a curve");
  }
  return faint;
}"""
