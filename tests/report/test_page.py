"""The page of a run, driven in a real browser."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from llm_pruner.analysis.comparison import compare
from llm_pruner.analysis.records import ModelStructure
from llm_pruner.report.page.data import page_data
from llm_pruner.report.page.write import write_page
from llm_pruner.report.recommendation import recommendation_table
from llm_pruner.report.table import read_results

pytestmark = pytest.mark.xdist_group("browser")

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
    *("disable-background-networking", "disable-component-update", "disable-sync"),
)
ATTACK = "</script><script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">&lt;b>"
EVIL = "Wanda_<img src=x onerror=document.title='hit'>_2000"
PROMPTS = ["Once upon a time", f"Say {ATTACK}"]
# method, mechanism, parent, non-zero of 800, bytes, perplexity, accuracy, decode seconds
ROWS: dict[str, tuple[str, str, str | None, int, int, float | None, float | None, float | None]] = {
    "Dense": ("Dense", "dense", None, 800, 1600, 10.0, 0.70, 0.004),
    "Wanda_2000": ("Wanda", "width", "Dense", 640, 1280, 14.0, 0.62, 0.003),
    "HGSP_2000": ("HGSP", "width", "Dense", 640, 1280, 12.0, 0.66, 0.0031),
    "Random_2000": ("Random", "width", "Dense", 640, 1280, 16.0, 0.40, 0.003),
    "Wanda_2of4": ("Wanda", "sparse", "Dense", 400, 1600, 13.0, 0.64, 0.004),
    "HGSP_2000+nf4": ("HGSP", "width", "HGSP_2000", 600, 400, 15.0, 0.60, None),
    EVIL: ("Wanda", "width", "Dense", 500, 1000, 17.0, 0.5, 0.002),
    "GQA_2000": ("GQA", "width", "Dense", 640, 1280, None, 0.55, None),
}


def analysis(name: str, nonzero: int, size: int) -> ModelStructure:
    """Two layers of attention and MLP, one to three, that share ``nonzero`` parameters out evenly."""
    parts = {"attention": {"parameters": nonzero // 4, "nonzero": nonzero // 4}}
    parts["mlp"] = {"parameters": 3 * nonzero // 4, "nonzero": 3 * nonzero // 4}
    half = {
        "attention": {"parameters": nonzero // 8, "nonzero": nonzero // 8, "heads": 2},
        "mlp": {"parameters": 3 * nonzero // 8, "nonzero": 3 * nonzero // 8, "channels": 4},
        "parameters": nonzero // 2,
        "nonzero": nonzero // 2,
        "sparsity": 0.0,
    }
    half["attention"] |= {"key_value_groups": 1, "head_dim": 4}
    held = {
        "name": name,
        "model_type": "llama",
        "hidden_size": 8,
        "num_layers": 2,
        "totals": {
            "parameters": nonzero,
            "nonzero": nonzero,
            "sparsity": 0.0,
            "bytes_on_disk": size,
            "parts": parts,
        },
        "layers": [{"layer_idx": index, "position": index, **half} for index in range(2)],
    }
    return ModelStructure.model_validate(held)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_model(folder: Path, name: str, row: tuple[Any, ...], said: dict[str, str]) -> None:
    """The result files of one model; of what is None, none."""
    method, mechanism, parent, nonzero, size, perplexity, accuracy, seconds = row
    run = {"started": "2026-01-01T10:00:00+00:00", "seconds": 1.0, "seed": 0, "device": "cpu", "options": {}}
    run |= {"machine": {"system": "Linux", "processor": "x86_64", "cores": 2}, "versions": {"python": "3.12.3"}}
    amount = (
        None if mechanism == "dense" else {"amount": 0.2, "of": "parameters" if mechanism == "width" else "weights"}
    )
    steps = [{"name": "nf4", "options": {}, "bytes": {"before": 1280, "after": 400}, "run": run}] if "+" in name else []
    record = {
        "variant": name,
        "method": method,
        "mechanism": mechanism,
        "structure": ATTACK if name == EVIL else mechanism,
        "parent": parent,
        "asked": amount,
        "reached": amount,
        "options": {},
        "notes": [],
        "scores": [],
        "steps": steps,
        "seconds": {"scoring": 0.0, "pruning": 1.0, "total": 1.0},
        "run": run,
    }
    write(folder / "pruning.json", record)
    dense = analysis("Dense", 800, 1600)
    compare(dense, analysis(name, nonzero, size)).write(folder / "analysis" / "model_comparison.json")
    if perplexity is not None:
        loss = {"model": name, "dataset": "builtin", "split": "test", "window": 8, "stride": 8, "windows": 2}
        loss |= {"tokens": 14, "nll": 2.0 + perplexity / 100, "perplexity": perplexity, "bits_per_byte": None}
        window_nll = [2.0 + perplexity / 100 - 0.1, 2.0 + perplexity / 100 + 0.1 + perplexity / 1000]
        write(folder / "evaluation" / "perplexity.json", loss | {"window_nll": window_nll, "run": run})
    if accuracy is not None:
        task = {"acc": accuracy, "acc_stderr": 0.02, "acc_norm": None, "acc_norm_stderr": None}
        task |= {"items": 100, "num_fewshot": 0, "perplexity": None, "perplexity_stderr": None}
        mean = {"acc": accuracy, "acc_stderr": 0.02, "acc_norm": accuracy}
        write(
            folder / "evaluation" / "zero_shot.json", {"model": name, "tasks": {"arc": task}, "mean": mean, "run": run}
        )
    if seconds is not None:
        batch = {"batch_size": 1, "prefill_seconds": 10 * seconds, "prefill_tokens_per_second": 12.8 / seconds}
        batch |= {"decode_seconds_per_token": seconds, "decode_tokens_per_second": 1 / seconds}
        batch |= {"prefill_seconds_median": 10 * seconds, "decode_seconds_per_token_median": seconds}
        timing = {"model": name, "load_seconds": 0.5, "bytes_on_disk": size, "peak_memory_bytes": 5_000_000}
        timing |= {"device": "cpu", "threads": 1, "prompt_length": 8, "new_tokens": 2, "batches": [batch], "run": run}
        write(folder / "evaluation" / "efficiency.json", timing)
    if said:
        written = [{"prompt": prompt, "text": text} for prompt, text in said.items()]
        record = {"model": name, "new_tokens": 4, "continuations": written, "run": run}
        write(folder / "evaluation" / "continuations.json", record)


def write_run(root: Path) -> list[Path]:
    said = {
        "Dense": dict(zip(PROMPTS, [" there was a king", " hello"], strict=True)),
        "HGSP_2000": dict(zip(PROMPTS, [" there was a queen", ATTACK], strict=True)),
    }
    for name, row in ROWS.items():
        write_model(root / name, name, row, said.get(name, {}))
    return [root / name for name in ROWS]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not (CHROMIUM and CHROMEDRIVER):
        how = "no chromium: apt-get install chromium chromium-driver"
        if os.environ.get("CI"):
            pytest.fail(how)
        pytest.skip(how)
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(CHROMEDRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    write_page(read_results(write_run(root / "baselines")), root / "index.html")
    return root / "index.html"


class Page:
    """A page opened in a browser, in the words of who looks at it."""

    def __init__(self, browser: Chrome, file: Path, width: int = 1280, dark: bool = False) -> None:
        self.browser = browser
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        browser.get(file.as_uri())

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def choose(self, select: str, key: str) -> None:
        Select(self.one(f"#{select}")).select_by_value(key)

    def chosen(self, select: str) -> str | None:
        return Select(self.one(f"#{select}")).first_selected_option.get_attribute("value")

    @property
    def names(self) -> list[str]:
        """Rows of the table."""
        return self.texts("#table tbody th")

    def column(self, key: str) -> list[str]:
        """Cells below a heading of the table."""
        headings = [heading.get_attribute("data-key") for heading in self.all("#table thead th")]
        return self.texts(f"#table tbody tr > :nth-child({headings.index(key) + 1})")

    def sort(self, key: str) -> None:
        self.one(f'#table th[data-key="{key}"] button').click()

    def script(self, code: str, *arguments: Any) -> Any:
        return self.browser.execute_script(f"return {code}", *arguments)

    def points(self) -> dict[str, tuple[float, float]]:
        """What the chart draws: x and y by model."""
        drawn = self.script(
            "document.getElementById('chart').data.filter(t => t.customdata)"
            ".flatMap(t => t.customdata.map((row, i) => [row, t.x[i], t.y[i]]))"
        )
        return {list(ROWS)[row]: (x, y) for row, x, y in drawn}

    def front(self) -> list[float]:
        return self.script("document.getElementById('chart').data[1].y")

    def point_at(self, name: str) -> ActionChains:
        """The pointer over a model in the chart."""
        row = list(ROWS).index(name)
        x, y = self.script(
            "(() => { const chart = document.getElementById('chart'); chart.scrollIntoView({block: 'center', behavior:"
            " 'instant'}); const box = chart.getBoundingClientRect(); const {xaxis, yaxis} = chart._fullLayout;"
            "for (const t of chart.data.filter(t => t.customdata)) { const i = t.customdata.indexOf(arguments[0]);"
            "if (i >= 0) return [box.left + xaxis._offset + xaxis.d2p(t.x[i]), box.top + yaxis._offset +"
            " yaxis.d2p(t.y[i])]; } })()".replace("arguments[0]", str(row))
        )
        actions = ActionChains(self.browser)
        actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
        return actions


@pytest.fixture
def page(browser: Chrome, file: Path) -> Page:
    return Page(browser, file)


def test_nothing_is_asked_of_the_network_and_nothing_goes_wrong(page: Page) -> None:
    assert page.browser.get_log("browser") == []
    assert page.script("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:'))") == []
    source = Path(page.browser.current_url.removeprefix("file://")).read_text()
    assert "default-src 'none'" in source


def test_the_same_results_make_the_same_page(file: Path, tmp_path: Path) -> None:
    write_page(read_results(write_run(tmp_path / "baselines")), tmp_path / "index.html")
    assert (tmp_path / "index.html").read_bytes() == file.read_bytes()


def test_a_heading_sorts_and_what_was_not_measured_stays_last(page: Page) -> None:
    page.sort("perplexity")
    by_perplexity = ["Dense", "HGSP_2000", "Wanda_2of4", "Wanda_2000", "HGSP_2000+nf4", "Random_2000", EVIL, "GQA_2000"]
    assert page.names == by_perplexity
    assert page.column("perplexity")[-1] == ""
    assert page.one('#table th[data-key="perplexity"]').get_attribute("aria-sort") == "ascending"
    page.sort("perplexity")
    assert page.names == [*reversed(by_perplexity[:-1]), "GQA_2000"]


def test_keys_alone_sort(page: Page) -> None:
    heading = '#table th[data-key="variant"] button'
    page.one(heading).send_keys(Keys.ENTER)
    rows = page.names
    assert rows[:3] == ["Dense", "GQA_2000", "HGSP_2000"]
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.names == rows[::-1]


def test_the_filter_filters_everywhere(page: Page) -> None:
    page.one("#filter").send_keys("hgsp nf4")
    assert page.names == ["HGSP_2000+nf4"]
    assert page.one("#count").text == f"1 of {len(ROWS)} models"
    opacity = page.script(
        "Object.fromEntries(document.getElementById('chart').data.filter(t => t.customdata)"
        ".flatMap(t => t.customdata.map((row, i) => [row, t.marker.opacity[i]])))"
    )
    assert {list(ROWS)[int(row)] for row, shown in opacity.items() if shown == 1} == {"HGSP_2000+nf4"}
    page.one("#filter").clear()
    page.one("#filter").send_keys("sparse")
    assert page.names == page.texts("#heat tbody th") == ["Wanda_2of4"]


def test_a_mechanism_can_be_left_out(page: Page) -> None:
    page.one('#mechanisms button[data-name="width"]').click()
    assert page.names == ["Dense", "Wanda_2of4"]
    assert set(page.points()) == {"Dense", "Wanda_2of4"}
    for name in ("dense", "sparse"):
        page.one(f'#mechanisms button[data-name="{name}"]').click()
    assert (page.names, page.points()) == ([], {})
    assert page.browser.get_log("browser") == []


def test_columns_can_be_hidden_and_shown(page: Page) -> None:
    headings = page.texts("#table thead th")
    assert "Perplexity" in headings
    assert "On disk" not in headings
    page.one("#choice summary").click()
    page.one('#columns input[value="perplexity"]').click()
    page.one('#columns input[value="bytes_on_disk"]').click()
    assert "Perplexity" not in page.texts("#table thead th")
    assert "On disk" in page.texts("#table thead th")
    page.one("#columns-all").click()
    shown = len(page.texts("#table thead th"))
    page.one("#columns-compact").click()
    assert page.texts("#table thead th") == headings
    assert shown > len(headings)


def test_what_nobody_measured_can_be_neither_column_nor_axis(page: Page) -> None:
    assert not page.one('#columns input[value="bits_per_byte"]').is_enabled()
    option = page.one('#y option[value="bits_per_byte"]')
    assert (option.is_enabled(), option.text) == (False, "Bits per byte (not measured)")


def test_a_missing_result_is_not_drawn_and_said(page: Page) -> None:
    points = page.points()
    assert set(points) == ROWS.keys() - {"GQA_2000"}
    assert points["HGSP_2000"] == (1280, 12.0)
    assert page.one("#gaps").text.startswith("1 not drawn: not measured in both.")


def test_axes_are_chosen(page: Page) -> None:
    page.choose("y", "zero_shot_acc")
    page.choose("x", "decode_ms")
    points = page.points()
    assert points["Wanda_2000"] == (3.0, 0.62)
    assert "HGSP_2000+nf4" not in points
    assert page.script("document.getElementById('chart').layout.xaxis.type") == "linear"
    page.choose("x-scale", "log")
    assert page.script("document.getElementById('chart').layout.xaxis.type") == "log"


def test_zeros_of_a_number_format_are_no_size(page: Page) -> None:
    page.choose("x", "nonzero")
    points = page.points()
    assert points["Wanda_2of4"] == (400, 13.0)
    assert "HGSP_2000+nf4" not in points


def test_the_front_joins_what_no_other_beats(page: Page) -> None:
    assert page.front() == [15.0, 12.0, 10.0]
    page.choose("y", "zero_shot_acc")
    assert page.front() == [0.6, 0.66, 0.7]


def test_the_pointer_names_a_model_and_tells_its_numbers(page: Page) -> None:
    page.point_at("HGSP_2000").perform()
    label = page.one("#chart .hoverlayer").text
    assert label.startswith("HGSP_2000")
    assert "Perplexity: 12.00" in label
    page.point_at("Random_2000").perform()
    assert "control" in page.one("#chart .hoverlayer").text


def test_a_click_shows_the_details_of_a_model(page: Page) -> None:
    page.point_at("Wanda_2of4").click().perform()
    assert page.chosen("selected") == "Wanda_2of4"
    cells = dict(zip(page.texts("#cells dt"), page.texts("#cells dd"), strict=True))
    assert (cells["Perplexity"], cells["Non-zero"]) == ("13.00", "400")
    assert page.texts("#table tr.chosen th") == ["Wanda_2of4"]
    page.one("#to-left").click()
    assert page.chosen("left") == "Wanda_2of4"
    page.one("#table tbody tr:nth-child(2) .name").click()
    assert page.chosen("selected") == "Wanda_2000"


def test_two_models_are_compared_in_every_column(page: Page) -> None:
    page.choose("left", "Dense")
    page.choose("right", "Wanda_2000")
    rows = {element.find_element(By.TAG_NAME, "th").text: element for element in page.all("#differences tbody tr")}
    cells = {name: [cell.text for cell in row.find_elements(By.TAG_NAME, "td")] for name, row in rows.items()}
    assert cells["Perplexity"] == ["10.00", "14.00", "+4", "+40 %"]
    assert cells["Zero-shot acc"] == ["70.00 %", "62.00 %", "−8 points", ""]
    assert cells["Non-zero"] == ["800", "640", "−160", "−20 %"]
    judged = {name: row.find_elements(By.TAG_NAME, "td")[2].get_attribute("class") for name, row in rows.items()}
    assert (judged["Perplexity"], judged["Non-zero"]) == ("worse", "better")
    page.choose("right", "GQA_2000")
    rows = {element.find_element(By.TAG_NAME, "th").text: element for element in page.all("#differences tbody tr")}
    assert [cell.text for cell in rows["Perplexity"].find_elements(By.TAG_NAME, "td")] == ["10.00", "", "", ""]


def test_what_both_write_stands_side_by_side(page: Page) -> None:
    page.choose("left", "Dense")
    page.choose("right", "HGSP_2000")
    assert page.texts("#said .prompt > p") == PROMPTS
    assert page.texts("#said blockquote") == ["there was a king", "there was a queen", "hello", ATTACK]
    assert page.texts("#said .same")[0].strip() == "there was a"
    page.choose("right", "Wanda_2000")
    assert page.texts("#said .pair > div:last-child p") == ["not asked", "not asked"]


def test_the_best_at_each_size_is_named(page: Page, tmp_path: Path) -> None:
    table = recommendation_table(read_results(write_run(tmp_path / "baselines")))
    place = [column.key for column in table.columns].index("best") + 1
    assert page.texts(f"#best-table tbody tr > :nth-child({place})") == table.frame["best"].fillna("").tolist()
    assert page.texts("#best-table thead th")[0] == "At most"


def test_layers_show_what_went_by_block(page: Page) -> None:
    assert "Dense" not in page.texts("#heat tbody th")
    assert "HGSP_2000+nf4" not in page.texts("#heat tbody th")
    row = page.texts("#heat tbody th").index("Wanda_2of4") + 1
    assert page.texts(f"#heat tbody tr:nth-child({row}) td") == ["50", "50"]
    page.one('#blocks button[data-block="Layer"]').click()
    assert page.one('#blocks button[data-block="Layer"]').get_attribute("aria-pressed") == "true"


def test_no_text_of_a_run_becomes_markup_or_script(page: Page) -> None:
    page.choose("selected", EVIL)
    page.choose("right", "HGSP_2000")
    page.point_at(EVIL).perform()
    assert page.one("#chart .hoverlayer").text.startswith(EVIL)
    assert EVIL in page.names
    assert page.browser.title == "Pruned models compared"
    assert page.all("main img, main script, #chart a") == []
    assert page.browser.get_log("browser") == []


def test_a_narrow_screen_scrolls_in_one_direction(browser: Chrome, file: Path) -> None:
    page = Page(browser, file, width=400)
    assert page.script("document.documentElement.scrollWidth") == 400
    page.one("#choice summary").click()
    page.one("#columns-all").click()
    assert page.script("document.documentElement.scrollWidth") == 400
    assert page.script("document.getElementById('chart').clientWidth") <= 400


def test_dark_and_light_differ(browser: Chrome, file: Path) -> None:
    grounds, inks = set(), set()
    for dark in (False, True):
        page = Page(browser, file, dark=dark)
        grounds.add(page.script("getComputedStyle(document.body).backgroundColor"))
        inks.add(page.script("document.getElementById('chart').layout.font.color"))
    assert len(grounds) == len(inks) == 2


def test_every_control_has_a_name(page: Page) -> None:
    for control in page.all("input, select, button"):
        if control.is_displayed() and "modebar" not in (control.get_attribute("class") or ""):
            assert control.accessible_name, control.get_attribute("outerHTML")


def test_two_hundred_rows_stay_small_and_usable(browser: Chrome, tmp_path: Path) -> None:
    root = tmp_path / "baselines"
    text = {f"Prompt {number}": "word " * 30 for number in range(5)}
    write_model(root / "Dense", "Dense", ROWS["Dense"], text)
    for number in range(199):
        row = ("Wanda", "width", "Dense", 400 + number, 800 + 2 * number, 11.0 + number, 0.5, 0.003)
        write_model(root / f"Wanda_row{number}_2000", f"Wanda_row{number}_2000", row, text)
    write_page(read_results(sorted(root.iterdir())), tmp_path / "index.html")
    assert (tmp_path / "index.html").stat().st_size < 10e6
    page = Page(browser, tmp_path / "index.html")
    page.one("#filter").send_keys("row17")
    assert len(page.names) == 11


def test_a_run_without_results_says_so(browser: Chrome, tmp_path: Path) -> None:
    write_page(read_results([]), tmp_path / "empty.html")
    assert Page(browser, tmp_path / "empty.html").one("main").text == "No model was measured yet."
    write_model(tmp_path / "Dense", "Dense", ("Dense", "dense", None, 800, 1600, None, None, None), {})
    write_page(read_results([tmp_path / "Dense"]), tmp_path / "one.html")
    page = Page(browser, tmp_path / "one.html")
    assert page.names == ["Dense"]
    assert page.one("#gaps").text == "There is nothing to draw yet: no model has both a size and a quality."
    assert browser.get_log("browser") == []


def test_data_says_none_where_nothing_was_measured(tmp_path: Path) -> None:
    data = page_data(read_results(write_run(tmp_path)))
    keys = [column["key"] for column in data["columns"]]
    row = [model["name"] for model in data["models"]].index("GQA_2000")
    assert data["values"][row][keys.index("perplexity")] is None
    assert data["texts"][row][keys.index("perplexity")] == ""
    assert data["facts"] == [
        ("Seed", "0"),
        ("Device", "cpu"),
        ("Perplexity data", "builtin"),
        ("Split", "test"),
        ("Tokens", "14"),
    ]
