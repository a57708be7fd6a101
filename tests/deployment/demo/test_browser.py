"""The page in a real browser: a person types, uploads and reads."""

import csv
import shutil
from importlib.util import find_spec

import pytest
from demo_inputs import FEW_CLIPS, HEBREW, HOSTILE, TURNED
from media_files import Film, Sound, harmonic_sound, moving_film, write_media

from hf_fusion.deployment.demo.page import DemoPage, DemoSettings

pytest_plugins = ["demo_models"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(not find_spec("gradio"), reason="no gradio: pip install 'hf-fusion[demo]'"),
    pytest.mark.skipif(not find_spec("playwright"), reason="no playwright: pip install playwright"),
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: apt-get install chromium"),
]
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
LONGEST = 120_000  # milliseconds, on a busy machine
# The text of every element that has some, where its color has less contrast to what lies behind it than WCAG asks for.
LOW_CONTRAST = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return parts(getComputedStyle(document.documentElement).backgroundColor).slice(0, 3);
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    const [a, b] = [luminance(parts(getComputedStyle(element).color)), luminance(ground(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(getComputedStyle(element).fontSize);
    if (contrast < (size >= 24 ? 3 : 4.5)) low.push([text.slice(0, 40), contrast.toFixed(2)]);
  }
  return low;
}"""
# Parts of a card that reach beyond it, beside those that scroll.
BEYOND_CARD = """() => [...document.querySelectorAll(".hf-card *")]
  .filter((e) => e.checkVisibility() && !e.parentElement.closest(".hf-wide"))
  .filter((e) => e.getBoundingClientRect().right > e.closest(".hf-card").getBoundingClientRect().right)
  .map((e) => e.outerHTML.slice(0, 120))"""
# Controls without a name for readers of the screen.
NAMELESS = """() => [...document.querySelectorAll("input, textarea, button, select, video, audio, svg[role=img]")]
  .filter((e) => e.checkVisibility() && !e.closest("[aria-hidden=true]"))
  .filter((e) => !(e.labels?.length || e.getAttribute("aria-label") || e.getAttribute("aria-labelledby")
    || e.innerText?.trim() || e.title)).map((e) => e.outerHTML.slice(0, 120))"""


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def serve(models, **settings):
    """A started page, and its address."""
    page, addresses = DemoPage(models, DemoSettings(**settings)), []
    page.launch("127.0.0.1", block=False, on_start=lambda url, share: addresses.append((url, share)))
    ((url, share),) = addresses
    assert share is None and url.startswith("http://127.0.0.1:")
    return page, url


@pytest.fixture(scope="module")
def texts_url(review_model, other_model):
    page, url = serve([review_model, other_model], max_rows=4)
    with page:
        yield url


@pytest.fixture(scope="module")
def clips_url(spoken_model):
    page, url = serve([spoken_model], dataset="synthetic-clips", dataset_options=FEW_CLIPS)
    with page:
        yield url


@pytest.fixture(scope="module")
def recordings_url(recording_model):
    pytest.importorskip("av")
    page, url = serve([recording_model])
    with page:
        yield url


@pytest.fixture
def visit(browser):
    """Opens a page; at the end nothing was asked of another machine, and no script had an error."""
    opened = []

    def open_page(url, size=DESK, scheme="light"):
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.set_default_timeout(LONGEST)
        asked, errors = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        opened.append((page, url, asked, errors))
        page.goto(url)
        page.get_by_role("tab").first.wait_for()
        return page

    yield open_page
    for page, url, asked, errors in opened:
        assert [address for address in asked if not address.startswith((url, "data:", "blob:"))] == []
        assert errors == [] and page.evaluate("window.hostile") is None
        page.close()


def ask(page, text):
    """Types a text and waits for its answer."""
    page.get_by_role("textbox", name="Text").fill(text)
    page.get_by_role("button", name="Answer", exact=True).click()
    page.locator(".hf-headline, .hf-error").first.wait_for()
    page.get_by_text("The words are being colored").first.wait_for(state="hidden")


def check_page(page):
    """No horizontal scrolling, enough contrast, and a name for each control."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    assert page.evaluate(BEYOND_CARD) == []
    assert page.evaluate(LOW_CONTRAST) == []
    assert page.evaluate(NAMELESS) == []


def test_a_text_is_typed_and_two_answers_are_read(visit, texts_url, review_model):
    page = visit(texts_url)
    ask(page, "The room was not bad at all, but breakfast was cold.")
    answers = page.locator("article")
    assert answers.count() == 2 and page.locator(".hf-unsure").all_inner_texts() == ["unsure"]
    answer = review_model("The room was not bad at all, but breakfast was cold.")
    assert answers.first.locator(".hf-headline").inner_text() == f"{answer['label']} {answer['score']:.0%}"
    assert answers.first.locator("caption").all_inner_texts() == ["Fine classes", "Coarse class"]
    assert [answers.first.locator(".hf-scale b").nth(i).inner_text() for i in range(2)] == [
        f"{answer['intensity']:.2f}", f"{answer['expected']:.2f}",
    ]  # fmt: skip
    texts = answers.first.locator(".hf-text").all_inner_texts()
    assert texts == ["The room was not bad at all, but breakfast was cold."] * 2
    assert answers.first.locator("mark.hf-for-3, mark.hf-against-3").count() >= 1
    assert answers.nth(1).locator("h3").inner_text() == "<b>other</b>"
    check_page(page)


def test_by_keyboard_alone_on_a_phone_in_the_dark(visit, texts_url):
    page = visit(texts_url, PHONE, "dark")
    page.get_by_role("textbox", name="Text").focus()
    page.keyboard.type("Great staff!")
    page.keyboard.press("Shift+Enter")
    page.locator(".hf-headline").first.wait_for()
    page.get_by_text("The words are being colored").first.wait_for(state="hidden")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    page.locator("details[open] table").first.wait_for()
    check_page(page)
    page.get_by_role("button", name="Not a bad stay at all.").press("Enter")  # an example
    page.locator(".hf-text", has_text="Not a bad stay at all.").first.wait_for()


@pytest.mark.parametrize("text", [HOSTILE, HEBREW, TURNED], ids=["script", "hebrew", "turned"])
def test_hostile_texts_are_shown_as_text(visit, texts_url, text):
    page = visit(texts_url)
    ask(page, text)
    shown = page.locator("article").first.locator(".hf-text").first
    assert shown.evaluate("e => e.textContent") == text
    assert page.locator(".hf-answers script, .hf-answers img").count() == 0
    assert shown.evaluate("e => getComputedStyle(e).direction") == ("rtl" if text is HEBREW else "ltr")
    # marks that turn the direction do not reach beyond the text
    assert shown.evaluate("e => getComputedStyle(e).unicodeBidi") in ("isolate", "plaintext")


def test_a_text_of_50_kilobytes(visit, texts_url):
    page = visit(texts_url, PHONE)
    text = ("The room was good, the bed was not. <script>window.hostile = 1</script> " * 800)[:50_000]
    ask(page, text)
    assert page.locator(".hf-headline").count() == 2 and page.get_by_text("this text has 50,000").count() == 2
    assert page.locator(".hf-long").evaluate("e => e.textContent") == text
    check_page(page)


def test_a_csv_becomes_a_table_to_download(visit, texts_url, tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [["1", "The room was good."], ["2", ""], ["3", HOSTILE], ["4", HEBREW], ["5", "beyond the limit"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=";").writerows([["id", "review"], *rows])
    page = visit(texts_url, PHONE)
    page.get_by_role("tab", name="File").click()
    page.locator("input[type=file]").set_input_files(path)
    column = page.get_by_label("Column with the text")
    page.wait_for_function("e => e.value === 'review'", arg=column.element_handle())
    page.get_by_role("button", name="Answer", exact=True).filter(visible=True).click()
    page.locator(".hf-headline", has_text="4 rows").wait_for()
    assert page.locator(".hf-headline strong").inner_text() == "1 with an error"
    cells = page.locator(".hf-plain tbody tr").nth(2).locator("td").all_inner_texts()
    assert cells[:3] == ["", "3", HOSTILE]
    assert page.locator(".hf-failed td").first.inner_text() == "'review' is empty"
    check_page(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the table (.csv)").click()
    assert download.value.suggested_filename == "reviews_predictions.csv"
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["review"] for row in table] == [text for _, text in rows[:4]]
    assert table[1]["error"] == "'review' is empty" and all(table[i]["acme/reviews: label"] for i in (0, 2, 3))


def test_a_file_that_cannot_be_read_says_why(visit, texts_url, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_bytes(b"PAR1" + bytes(100))
    page = visit(texts_url)
    page.get_by_role("tab", name="File").click()
    page.locator("input[type=file]").set_input_files(path)
    error = page.locator(".hf-error")
    error.wait_for()
    assert error.inner_text().startswith("reviews.csv") and "parquet" in error.inner_text()


def test_clips_with_each_modality_switched(visit, clips_url, spoken_model):
    page = visit(clips_url, PHONE)
    page.get_by_role("button", name="Answer", exact=True).click()
    page.locator(".hf-headline").wait_for()
    assert page.locator(".hf-chart .hf-chosen th").inner_text() == "text + audio + vision"
    check_page(page)
    page.get_by_label("text", exact=True).uncheck()
    page.locator(".hf-chosen th", has_text="audio + vision").filter(has_not_text="text").wait_for()
    page.get_by_role("combobox", name="Clip").click()
    page.get_by_role("option").nth(3).click()
    page.get_by_text("True label").wait_for()


def test_a_video_has_its_score_over_time_under_the_player(visit, recordings_url, tmp_path):
    write_media(tmp_path / "talk.mp4", Film(moving_film(4)), Sound(harmonic_sound(4), codec="aac"))
    words = "WEBVTT\n\n00:00.000 --> 00:01.000\nThe room <script>window.hostile = 1</script> was good.\n"
    (tmp_path / "talk.vtt").write_text(words)
    page = visit(recordings_url, PHONE)
    page.locator("input[type=file]").set_input_files([tmp_path / "talk.mp4", tmp_path / "talk.vtt"])
    page.locator(".file-preview tr").nth(1).wait_for()
    page.get_by_label("Seconds of each answer").fill("1")
    page.get_by_role("button", name="Answer", exact=True).filter(visible=True).click()
    page.locator(".hf-curve").wait_for()
    assert page.get_by_text("The words are those of talk.vtt").count() == 1
    page.get_by_text("answers in numbers").click()
    rows = page.locator(".hf-recording tbody tr")
    assert rows.count() == 4 and "The room" in rows.first.inner_text()
    check_page(page)
    page.locator(".hf-seek").nth(2).click()
    page.wait_for_function("document.querySelector('video').currentTime === 2")
    page.wait_for_function("Math.abs(document.querySelector('.hf-cursor').getAttribute('x1') - 500) < 5")
