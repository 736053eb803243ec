"The first-run tutorial as its reader meets it: JupyterLab in a real browser, in its light theme and in its dark one."
import json, os, shutil, subprocess, sys, urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import until

pytestmark = pytest.mark.long

pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
TUTORIALS = Path(__file__).parents[1] / "nbs" / "tutorials"
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_DATA_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)


def answers(url):
    try: return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError: return False


def lab_settings(theme):
    "The theme; no news; every cell drawn, also those out of sight."
    return {
        "apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"},
        "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "notebook-extension/tracker": {"windowingMode": "none"},
    }


HOLD = """
import os, time
from audio_ft_prep.form import FormState
count = FormState._on_clips
def held(self, now):
    while os.path.exists(PLACE): time.sleep(0.05)
    count(self, now)
FormState._on_clips = held
"""


FORM = """
from audio_ft_prep.widgets import PrepForm
form = PrepForm(dataset_name="sample", language="Italian", output_dir="keys", num_workers=1)
form
"""
CLIPS = """
from audio_ft_prep import PrepConfig
from audio_ft_prep.browser import ClipBrowser
ClipBrowser(PrepConfig("sample", "it", max_train_samples=20))
"""


def notebook(*sources):
    "A notebook of code cells."
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{n}",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": source.strip(),
        }
        for n, source in enumerate(sources)
    ]
    return {
        "cells": cells,
        "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


@pytest.fixture(params=["light", "dark"])
def lab(request, tmp_path):
    "A JupyterLab with the tutorial in it and nothing else, under a port that was free: its address, its theme, and a file that holds runs for as long as it is there."
    (tmp_path / "notebooks").mkdir()
    shutil.copy(TUTORIALS / "first_run.ipynb", tmp_path / "notebooks")
    (tmp_path / "notebooks" / "keys.ipynb").write_text(json.dumps(notebook(FORM, CLIPS, "1 + 1")))
    startup = tmp_path / "ipythondir" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "hold.py").write_text(HOLD.replace("PLACE", repr(str(tmp_path / "hold"))))
    env = {
        **os.environ,
        **{k: str(tmp_path / k.lower()) for k in FOLDERS},
        "DHCORE_ENDPOINT": "",
        "DH_CONFIG": os.devnull,
    }
    for name, settings in lab_settings(request.param).items():
        path = tmp_path / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        "--port=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={tmp_path / 'notebooks'}",
        "--LabApp.extension_manager=readonly",
    ]
    with open(tmp_path / "log", "w") as log: server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        found = until(lambda: next((tmp_path / "jupyter_runtime_dir").glob("jpserver-*.json"), None), 90)
        url = until(lambda: json.loads(found.read_text() or "{}").get("url"))
        until(lambda: answers(f"{url}api/status"))
        yield url, request.param, tmp_path / "hold"
    finally:
        server.terminate()
        try: server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


OVER_THE_EDGE = """box => { const edge = Math.min(...[box, box.closest('.jp-OutputArea') || box].map(e => e.getBoundingClientRect().right)) + 1;
  const scrolls = e => { for (let p = e.parentElement; p && p !== box; p = p.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(p).overflowX) && p.getBoundingClientRect().right <= edge) return true; return false; };
  return [...box.querySelectorAll('*')].filter(e => e.checkVisibility() && !scrolls(e) && e.getBoundingClientRect().right > edge).map(e => e.className || e.tagName); }"""


CUT_OFF = """box => [...box.querySelectorAll('button, .widget-label, .lm-TabBar-tab')]
    .filter(e => e.checkVisibility() && e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
OVERLAPPING = """box => { const seen = [...box.querySelectorAll('button, input, select, audio, .widget-label, .widget-html-content, .lm-TabBar-tab')].filter(e => e.checkVisibility() && e.getClientRects().length && !e.closest('.prep-voice'));
  const both = (a, b) => { const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    return Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2; };
  const name = e => e.textContent.slice(0, 40) || e.className;
  return seen.flatMap((a, i) => seen.slice(i + 1).filter(b => !a.contains(b) && !b.contains(a) && both(a, b)).map(b => [name(a), name(b)])); }"""


class Reader:
    "Someone at JupyterLab, who takes a picture at each step."
    def __init__(self, page, shots, theme, hold):
        self.page, self.shots, self.theme, self.hold, self.form = (
            page,
            shots,
            theme,
            hold,
            page.locator(".prep-form").first,
        )

    def picture(self, name, part=None):
        "A picture of a part of the page, once nothing in it reaches over its edge, is cut off or lies over another."
        (part or self.form).scroll_into_view_if_needed()
        for fault in (OVER_THE_EDGE, CUT_OFF, OVERLAPPING): assert (part or self.form).evaluate(fault) == [], name
        (part or self.form).screenshot(path=self.shots / f"lab_{self.theme}_{name}.png", animations="disabled")

    def run_all(self):
        self.page.locator(".jp-NotebookPanel .jp-Cell").first.click(timeout=90_000)
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=90_000)
        from playwright.sync_api import TimeoutError
        for _ in range(5):  # JupyterLab forgets cells that it was given while it still joins the kernel
            self.page.locator("#jp-MainMenu >> text=Run").click()
            self.page.locator(".lm-Menu >> text=Run All Cells").first.click()
            with suppress(TimeoutError):
                self.page.wait_for_function(f"() => {PROMPTS}.some(p => p != '[ ]:')", timeout=10_000)
            self.page.wait_for_function(f"() => !{PROMPTS}.includes('[*]:')", timeout=300_000)
            if self.page.evaluate(RUN_ALL_DONE): return
        raise AssertionError("Run All did not run all")

    def tab(self, name): self.form.get_by_role("tab", name=name).first.click()

    def fill(self, name, value):
        box = self.form.get_by_label(name, exact=True)
        box.fill(value)
        box.press("Tab")

    def button(self, name): return self.form.locator(f"button:has-text('{name}')")
    def press(self, name): self.button(name).click()
    def seen(self, sentence): return self.form.get_by_text(sentence).locator("visible=true").first  # a field on another tab may say it, too
    def read(self, sentence): self.seen(sentence).wait_for(timeout=60_000)


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)"
RUN_ALL_DONE = PROMPTS + ".every(p => /^\\[\\d+\\]:$/.test(p))"


@pytest.fixture
def reader(lab, browser, shots, request):
    "The tutorial, or the notebook that a test names, open in the browser; no error may have been shown or written to the console when the test is over."
    url, theme, hold = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1200})
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{url}lab/tree/{getattr(request, 'param', 'first_run')}.ipynb?reset")
    yield Reader(page, shots, theme, hold)
    page.screenshot(path=shots / f"lab_{theme}_last.png")
    assert (
        page.locator(
            "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']"
        ).all_inner_texts()
        == []
    )
    page.close()
    assert complaints == []


def fill_in(reader):
    "A folder that isn't there and a number out of bounds are refused beside their fields, and mended."
    reader.fill("dataset_name", "nowhere")
    reader.read("no corpus at nowhere")
    reader.picture("2_no_corpus")
    reader.fill("dataset_name", "sample")
    reader.read("read as commonvoice: it holds a folder transcript")
    reader.fill("language", "English")
    reader.read("folder transcript. en: train")
    reader.picture("3_english")
    reader.fill("language", "Italian")
    reader.tab("Audio")
    reader.fill("max_seconds", "4500")
    reader.read("max_seconds must be above 0, and 1200 at most, got 4500.0")
    reader.form.get_by_role("tab", name="Audio (1 to mend)").wait_for()
    reader.form.locator("button[disabled]:has-text('Prepare')").wait_for()
    reader.picture("4_refused")
    reader.fill("max_seconds", "20")
    reader.tab("Output")
    reader.fill("output_dir", "again")


def plan_and_prepare(reader):
    reader.press("Plan")
    reader.form.locator("th:has-text('to be written')").wait_for(timeout=60_000)
    reader.picture("5_plan")
    reader.hold.touch()
    reader.press("Prepare")
    reader.press("Cancel")
    reader.hold.unlink()
    reader.read("Prepare goes on from there.")
    reader.picture("5_stopped")
    reader.press("Prepare")
    reader.read("Done: the data set is in the folder again.")
    reader.form.locator("td:has-text('rejected: truncated')").wait_for()
    reader.form.get_by_text("Show as command, Python or YAML").click()
    reader.read(
        "audio-ft-prep prepare --dataset-name sample --language-code it --language Italian --output-dir again"
        " --max-seconds 20.0"
    )
    reader.form.get_by_text("audio-ft-prep prepare --dataset-name sample").first.click(trial=True)  # the fold has opened, and nothing moves
    reader.picture("6_prepared")


def refused_run(reader):
    "The folder of another config is refused in a sentence, and the traceback is there for who unfolds it."
    reader.tab("Selection")
    reader.fill("seed", "7")
    reader.press("Prepare")
    reader.read("holds a data set that another config made: seed is 42 there and 7 here")
    assert not reader.form.locator("details pre").first.is_visible()
    reader.picture("7_refused_run")
    reader.fill("seed", "8")
    reader.seen("holds a data set that another config made").wait_for(state="hidden")


def leaf_through(reader):
    browser = reader.page.locator(".clip-browser").first
    browser.locator("audio").wait_for(timeout=30_000)
    reader.page.wait_for_function("() => document.querySelector('.clip-browser audio').duration > 0")
    reader.picture("8_browser", browser)
    browser.get_by_label("show", exact=True).select_option(label="truncated (1)")
    browser.get_by_text("Rejected: truncated.").wait_for()
    reader.picture("9_rejected", browser)
    browser.get_by_label("show", exact=True).select_option(index=0)
    listed = browser.get_by_label("clips", exact=True)
    second = listed.locator("option").nth(1).inner_text().split()[0]
    listed.press("ArrowDown")
    browser.locator(f"b:text-is('{second}')").wait_for()
    browser.locator("audio").wait_for()
    reader.page.wait_for_function(
        "() => [...document.querySelectorAll('.jp-OutputArea img')].filter(i => i.complete && i.naturalWidth >"
        " 300).length >= 3"
    )
    for n, plot in enumerate(reader.page.locator(".jp-RenderedImage").all()): reader.picture(f"10_plot_{n}", plot)


def test_the_first_run_goes_from_run_all_through_the_form_to_plots_and_players(reader):
    reader.run_all()
    reader.picture("1_run_all")
    fill_in(reader)
    plan_and_prepare(reader)
    refused_run(reader)
    leaf_through(reader)
    reader.page.set_viewport_size({"width": 800, "height": 900})
    reader.tab("Data")
    reader.picture("11_narrow_form")
    reader.picture("12_narrow_browser", reader.page.locator(".clip-browser").first)


FOCUS = (
    "() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.textContent.trim().slice(0,"
    " 40) || e.labels?.[0]?.textContent || e.className; }"
)
CELLS = (
    "[...document.querySelectorAll('.jp-NotebookPanel .jp-Cell')].length + ' ' +"
    " [...document.querySelectorAll('.jp-Cell')].findIndex(c => c.classList.contains('jp-mod-active'))"
)


def tab_to(reader, name, most=40):
    "Press Tab until the focus is on what is called so."
    for _ in range(most):
        if (focus := reader.page.evaluate(FOCUS)) == name: return
        reader.page.keyboard.press("Tab")
    raise AssertionError(f"Tab doesn't come to {name}, but to {focus}")


def typed(reader, name, text):
    "Type into a field as a person does, and leave it."
    reader.form.get_by_label(name, exact=True).click()
    for key in ("ControlOrMeta+a", "Delete"): reader.page.keyboard.press(key)
    reader.page.keyboard.type(text)
    reader.page.keyboard.press("Tab")


def numbers_by_keyboard(reader):
    "What is typed is understood or refused, and a screen reader is told."
    reader.tab("Audio")
    typed(reader, "min_seconds", "0,5")
    reader.read("read as 0.5")
    typed(reader, "max_seconds", "1e9")
    reader.read("max_seconds must be above 0, and 1200 at most, got 1000000000.0")
    box = reader.form.get_by_label("max_seconds", exact=True)
    reader.page.wait_for_function("box => box.getAttribute('aria-invalid') === 'true'", arg=box.element_handle())
    assert "1200 at most" in box.evaluate(
        "box => document.getElementById(box.getAttribute('aria-describedby')).textContent"
    )
    typed(reader, "max_seconds", "")
    reader.form.get_by_text("max_seconds must be above 0").first.wait_for(state="hidden")
    reader.tab("Selection")
    for text in ("0.5", "1,000", "x"):
        typed(reader, "seed", text)
        reader.read("seed must be a whole number")
        reader.form.get_by_role("tab", name="Selection (1 to mend)").wait_for()
    reader.picture("20_mend")
    typed(reader, "seed", "１２")
    reader.read("read as 12")
    typed(reader, "max_train_samples", "all")


def runs_by_keyboard(reader):
    "Plan by Enter leaves the focus where it was; the command is unfolded by a key; results are read aloud."
    reader.form.get_by_label("max_train_samples", exact=True).click()
    tab_to(reader, "Plan")
    reader.page.keyboard.press("Enter")
    reader.form.locator("th:has-text('to be written')").wait_for(timeout=60_000)
    reader.form.get_by_role("status").get_by_text("The plan is ready.").first.wait_for(state="attached")
    reader.page.wait_for_function(f"({FOCUS})() === 'Plan'")
    tab_to(reader, "Show as command, Python or YAML")
    reader.page.keyboard.press("Space")
    reader.read(
        "audio-ft-prep prepare --dataset-name sample --language-code it --language Italian --output-dir keys --seed"
        " 12 --min-seconds 0.5"
    )


def keys_stay(reader):
    "Keys that JupyterLab has a use for stay in the list and in the dropdowns."
    browser = reader.page.locator(".clip-browser").first
    listed, shown = browser.get_by_label("clips", exact=True), browser.get_by_label("show", exact=True)
    browser.locator("audio[aria-label^='sound of ']").wait_for(timeout=60_000)
    names = [o.split()[0] for o in listed.locator("option").all_inner_texts()]
    listed.focus()
    before = reader.page.evaluate(CELLS)
    for name in names[1:4]:
        reader.page.keyboard.press("ArrowDown")
        browser.locator(f"b:text-is('{name}')").wait_for()
    for key in ("x", "b", "d", "d", "z"): reader.page.keyboard.press(key)
    shown.focus()
    for key in ("x", "ArrowDown"): reader.page.keyboard.press(key)
    browser.get_by_text("1 to 50 of").wait_for(state="hidden")
    assert reader.page.evaluate(CELLS) == before and shown.evaluate("box => box.selectedIndex") == 1
    reasons = [o.split()[:2] for o in shown.locator("option").all_text_contents()]  # its blanks don't break
    shown.select_option(index=reasons.index(["not", "sampled"]))
    browser.get_by_text("Not chosen.").wait_for()
    assert browser.get_by_text("Rejected").count() == 0


def every_width(reader):
    "Narrow windows, and text at twice its size, cut nothing."
    for name, width in (("1280", 1280), ("zoom_200", 640), ("420", 420)):
        reader.page.set_viewport_size({"width": width, "height": 1000})
        if width == 640: reader.page.keyboard.press("ControlOrMeta+b")  # the list of files goes; Ctrl is JupyterLab's also from within a form
        for tab in ("Data", "Selection", "Output"):
            reader.tab(tab)
            reader.picture(f"21_{name}_{tab}")
        reader.picture(f"22_{name}_clips", reader.page.locator(".clip-browser").first)
        assert reader.form.get_by_label("output_dir", exact=True).bounding_box()["width"] > 100


def without_kernel(reader):
    "A form whose kernel has gone says so, and a notebook that is opened again has a page in its place."
    page = reader.page
    page.set_viewport_size({"width": 1300, "height": 1200})
    assert not page.locator(".prep-saved").first.is_visible()
    page.keyboard.press("ControlOrMeta+s")
    page.locator("#jp-MainMenu >> text=Kernel").click()
    page.locator(".lm-Menu >> text=/^Restart Kernel…$/").first.click()
    page.locator(".jp-Dialog button:has-text('Restart')").click()
    page.locator(".prep-form.jupyter-widgets-disconnected").wait_for()
    assert "run the cell again" in reader.form.evaluate("box => getComputedStyle(box, '::before').content")
    page.locator(".prep-saved").first.wait_for()
    page.screenshot(path=reader.shots / "lab_23_restarted.png")


@pytest.mark.parametrize("lab", ["light"], indirect=True)
@pytest.mark.parametrize("reader", ["keys"], indirect=True)
def test_all_is_done_by_keys_at_every_width_and_told_when_no_kernel_runs(reader):
    reader.run_all()
    numbers_by_keyboard(reader)
    runs_by_keyboard(reader)
    keys_stay(reader)
    every_width(reader)
    without_kernel(reader)
