"""The report in a real browser: it opens without a network and can be used by pointer, touch and keyboard."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tier4k.heads.reporting.html.page import write_report
from tier4k.tests.builders.reports import HOSTILE, make_sample

pytestmark = pytest.mark.browser
REQUIRED = os.environ.get("TIER4K_REQUIRE_BROWSER") == "1"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]


@dataclass
class Opened:
    """A page with its console messages and its network requests."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def ready(self, path: Path) -> Any:
        """Open a report and wait until its plots are drawn."""
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("document.documentElement.dataset.ready === 'yes'")
        return self.page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    sample = make_sample(folder)
    write_report(sample.runs, folder / "report.html", [sample.data])
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium; without it the tests are skipped, or fail where TIER4K_REQUIRE_BROWSER=1."""
    program = shutil.which("chromium")
    if program is None:
        why = "chromium is missing: apt-get install chromium"
        pytest.fail(why) if REQUIRED else pytest.skip(why)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def wide(browser: Any) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    yield Opened(context.new_page())
    context.close()


@pytest.fixture
def phone(browser: Any) -> Iterator[Opened]:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme="dark", has_touch=True, is_mobile=True
    )
    yield Opened(context.new_page())
    context.close()


def column(page: Any, number: int, rows: str = "tr:not([hidden])") -> list[str]:
    """Texts of one column of the ablation table, in its current order."""
    cell = f"row.cells[{number}]"
    script = f"rows => rows.map(row => {cell}.dataset.value ?? {cell}.textContent.trim())"
    return page.eval_on_selector_all(f"#ablation tbody {rows}", script)


def letters(page: Any) -> list[str]:
    """The runs of the lines that the ablation table shows, "" for a baseline."""
    return page.eval_on_selector_all(
        "#ablation tbody tr:not([hidden])", "rows => rows.map(row => row.dataset.run)"
    )


def test_the_page_opens_without_messages_and_without_requests(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    for key in ("run", "target", "repeat", "metric"):
        page.select_option(f"#{key}", index=1)
    page.wait_for_timeout(300)
    assert wide.messages == []
    assert [url for url in wide.requests if not url.startswith(("data:", "blob:"))] == [report.as_uri()]
    assert (
        page.locator(".js-plotly-plot").count() == 4
    )  # a forest of each target, the points, and the training


def test_the_table_sorts_by_click_and_by_keyboard(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    header = page.locator("#ablation thead th", has_text="SRCC").first
    header.locator("button").click()
    values = [float(value) for value in column(page, 8)]
    assert values == sorted(values, reverse=True) and header.get_attribute("aria-sort") == "descending"
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert [float(value) for value in column(page, 8)] == sorted(values) and header.get_attribute(
        "aria-sort"
    ) == "ascending"
    page.locator("#ablation thead button", has_text="run").press("Space")
    page.locator("#ablation thead button", has_text="run").press("Space")
    assert letters(page) == ["C", "C", "B", "B", "A", "A", *[""] * 8]  # baselines are last in both directions
    page.locator("#ablation thead button", has_text="target").press("Space")
    assert column(page, 1) == sorted(column(page, 1)) and header.get_attribute("aria-sort") == "none"


def test_the_table_filters_by_every_word(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    page.fill("#filter", "RIDGE leaks")
    assert letters(page) == ["C", "C"] and page.inner_text("#count") == "2 of 14 lines"
    page.fill("#filter", "no such thing")
    assert letters(page) == [] and page.inner_text("#count") == "0 of 14 lines"
    page.fill("#filter", "")
    assert len(letters(page)) == 14 and page.inner_text("#count") == "14 lines"


def test_baselines_can_be_hidden_in_the_table_and_in_the_plots(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    labels = "document.querySelectorAll('#forest-0 .annotation').length"
    assert page.locator("#ablation tr.baseline:visible").count() == 8 and page.evaluate(labels) == 7
    page.uncheck("#baselines")
    assert page.locator("#ablation tr.baseline:visible").count() == 0 and page.evaluate(labels) == 3
    assert page.inner_text("#count") == "6 lines"


def test_the_plots_of_intervals_follow_the_order_and_the_filter_of_the_table(
    wide: Opened, report: Path
) -> None:
    page = wide.ready(report)
    labels = "[...document.querySelectorAll('#forest-0 .annotation')]"
    drawn = labels + ".map(one => one.textContent.trim().split(/\\s+/)[0])"
    rows = "rows => rows.filter(row => row.cells[1].textContent === 'quality')"
    runs = rows + ".map(row => row.dataset.run || 'baseline:')"
    for column_title in ("SRCC", "RMSE", "run"):
        page.locator("#ablation thead th", has_text=column_title).first.locator("button").click()
        page.wait_for_timeout(100)
        table = page.eval_on_selector_all("#ablation tbody tr", runs)
        assert [letter for letter in table if len(letter) == 1] == [
            letter for letter in page.evaluate(drawn) if len(letter) == 1
        ]
    page.fill("#filter", "align svr")
    assert not page.locator("#forest-0").is_visible()
    page.fill("#filter", "ridge quality")
    page.wait_for_timeout(100)
    assert sorted(page.evaluate(drawn)) == ["A", "C"]


def marker(page: Any) -> tuple[float, float]:
    """Screen position of the centre of a marker in the scatter plot."""
    page.locator("#points").scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    box = page.locator("#points .scatterlayer .trace .points path").first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_an_image_is_shown_on_hover(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    assert not page.is_visible("#card-image")
    page.mouse.move(*marker(page))
    page.wait_for_selector("#card-image", state="visible")
    assert page.evaluate("document.getElementById('card-image').naturalWidth") > 20
    name = page.inner_text("#card-text dd >> nth=0")
    assert name in page.evaluate("JSON.parse(document.getElementById('data').textContent).names")


def test_an_image_is_shown_on_tap(phone: Opened, report: Path) -> None:
    page = phone.ready(report)
    page.touchscreen.tap(*marker(page))
    page.wait_for_selector("#card-image", state="visible")


def test_images_are_reached_by_keyboard(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    page.focus("#points")
    shown = []
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "Home"):
        page.keyboard.press(key)
        shown.append(float(page.inner_text("#card-text dd >> nth=3")))
    first, second, again, last, home = shown
    assert first == again == home <= second <= last and page.is_visible("#card-image")


def test_choosing_a_run_and_a_target_shows_their_breakdown_and_errors(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    page.select_option("#run", "C")
    page.select_option("#target", "align")
    visible = page.eval_on_selector_all(
        "div.detail:not([hidden])", "all => all.map(one => [one.dataset.run, one.dataset.target])"
    )
    assert visible == [["C", "align"]]
    assert page.locator(".detail:visible .errors img").count() > 0
    images = "[...document.querySelectorAll('.detail:not([hidden]) .errors img')]"
    assert page.evaluate(images + ".every(one => one.src.startsWith('data:image'))")


def test_the_choice_of_breakdown_is_kept_when_the_run_changes(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    shown = "all => all.map(one => [one.closest('.detail').dataset.run, one.dataset.part])"
    page.focus("#part")
    page.keyboard.press("ArrowDown")
    assert page.eval_on_selector_all(".part:visible", shown) == [["A", "benchmark"]]
    assert page.locator(".part:visible tbody th").all_inner_texts() in (["T2I", "I2I"], ["I2I", "T2I"])
    page.select_option("#run", "B")
    assert page.eval_on_selector_all(".part:visible", shown) == [["B", "benchmark"]]
    page.select_option("#part", "generator")
    assert page.eval_on_selector_all(".part:visible", shown) == [["B", "generator"]]


def test_hostile_names_are_shown_as_text(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run as a script: {dialog.message}"))
    page.select_option("#run", "C")
    page.focus("#points")
    page.keyboard.press("Home")
    names = [page.inner_text("#card-text dd >> nth=0")]
    for _ in range(11):
        page.keyboard.press("ArrowRight")
        names.append(page.inner_text("#card-text dd >> nth=0"))
    assert HOSTILE in names and page.locator("img[src='x']").count() == 0
    assert page.locator("#points a").count() == 0 and "https://example.org" in page.text_content(
        "#points .legend"
    )


def scroll_width(page: Any, width: int) -> int:
    """Width of the page, once its plots have followed a change of the window's width."""
    for _ in range(50):
        found = int(page.evaluate("document.documentElement.scrollWidth"))
        if found <= width:
            break
        page.wait_for_timeout(200)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_every_width_without_messages_and_requests(
    browser: Any, report: Path, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": 1600, "height": 844}, color_scheme=scheme)
    opened = Opened(context.new_page())
    page = opened.ready(report)
    for width in (1600, 820, 390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert scroll_width(page, width) <= width
    assert opened.messages == []
    assert {url for url in opened.requests if not url.startswith(("data:", "blob:"))} == {report.as_uri()}
    context.close()


def test_every_table_sorts_by_keyboard(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    for table in ("#levels", ".differences", ".part:visible table"):
        button = page.locator(f"{table} >> thead th.number button").first
        button.focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        header = page.locator(f"{table} >> thead th.number").first
        assert header.get_attribute("aria-sort") == "descending"
        place = header.evaluate("header => header.cellIndex")
        texts = page.locator(table).first.evaluate(
            "(table, place) => [...table.tBodies[0].rows].map(row => row.cells[place].textContent.trim())",
            place,
        )
        values = [float(text.split()[0].split("[")[0].replace("−", "-")) for text in texts if text != "NaN"]
        assert values == sorted(values, reverse=True) and len(values) > 1


def test_a_table_is_copied_as_latex(browser: Any, report: Path) -> None:
    from playwright.sync_api import expect

    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = Opened(context.new_page()).ready(report)
    for button in (page.locator("[data-latex=ablation]"), page.locator(".part:visible .copy")):
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_have_text("Copied")
        copied = page.evaluate("navigator.clipboard.readText()")
        key = button.get_attribute("data-latex")
        tables = "JSON.parse(document.getElementById('data').textContent).latex"
        assert copied == page.evaluate(f"key => {tables}[key]", key) and r"\begin{tabular}" in copied
    context.close()


def test_the_page_prints_in_light_colours_and_fits_the_paper(browser: Any, report: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="dark")
    page = Opened(context.new_page()).ready(report)
    printed = page.pdf(format="A4")
    assert printed.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", printed)) > 1
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.set_viewport_size({"width": 688, "height": 900})  # A4 without its margins
    assert scroll_width(page, 688) <= 688
    wide_tables = "all => all.filter(one => one.offsetParent && one.scrollWidth > one.clientWidth + 1).length"
    assert page.eval_on_selector_all(".scroll", wide_tables) == 0
    plot = "document.querySelector('#points .main-svg').style.backgroundColor"
    assert page.evaluate(plot) == "rgb(253, 253, 252)"
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.wait_for_timeout(300)
    assert page.evaluate(plot) == "rgb(22, 24, 27)"
    context.close()


def test_on_a_phone_every_line_shows_its_label_and_its_srcc_without_scrolling(
    phone: Opened, report: Path
) -> None:
    page = phone.ready(report)
    line = page.locator("#ablation tr[data-run=C]").first
    label = line.locator("th").inner_text()
    assert " ".join(label.split()) == "C NR · ridge · published, 2 repeats leaks 12/12 prompts"
    box = line.locator("td.number").first.bounding_box()
    assert box["x"] + box["width"] <= 390
    assert not page.locator("#ablation thead", has_text="encoder").locator("th:nth-child(5)").is_visible()


def test_plots_follow_the_dark_scheme(phone: Opened, report: Path) -> None:
    page = phone.ready(report)
    body = "getComputedStyle(document.body).backgroundColor"
    plot = "document.querySelector('#points .main-svg').style.backgroundColor"
    look = f"[{body}, {plot}]"
    dark = page.evaluate(look)
    assert dark[0] == dark[1] == "rgb(22, 24, 27)"
    page.emulate_media(color_scheme="light")
    page.wait_for_timeout(300)
    light = page.evaluate(look)
    assert light[0] == light[1] == "rgb(253, 253, 252)"


def test_the_first_tab_stop_skips_to_the_results(wide: Opened, report: Path) -> None:
    page = wide.ready(report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "filter"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(browser: Any, report: Path, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)
    page = Opened(context.new_page()).ready(report)
    names = ("--ink", "--quiet", "--accent", "--warn", "--good")
    colours = page.evaluate(
        "names => names.map(n => getComputedStyle(document.documentElement).getPropertyValue(n).trim())",
        [*names],
    )
    root = "getComputedStyle(document.documentElement)"
    papers = page.evaluate(f"['--paper', '--panel'].map(n => {root}.getPropertyValue(n).trim())")
    assert all(contrast(colour, paper) >= 4.5 for colour in colours for paper in papers)
    series = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--series').trim().split(/\\s+/)"
    )
    assert len(set(series)) == 8 and all(contrast(colour, papers[0]) >= 3 for colour in series)
    context.close()


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG 2 of two colours #rrggbb."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
