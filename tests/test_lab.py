"The first-run tutorial as its reader meets it: JupyterLab in a real browser, in its light theme and in its dark one."
import json, os, shutil, subprocess, sys, urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import until

pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
TUTORIALS = Path(__file__).parents[1] / "nbs" / "tutorials"
FOLDERS = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")


def answers(url):
    try: return urllib.request.urlopen(url, timeout=1).status == 200
    except OSError: return False


def lab_settings(theme):
    "The theme; no news; every cell drawn, also those out of sight."
    return {"apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"}, "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
            "notebook-extension/tracker": {"windowingMode": "none"}}


HOLD = """
import os, time
from audio_ft_prep.widgets import PrepForm
tell = PrepForm._tell
def held(self, now):
    while os.path.exists(PLACE): time.sleep(0.05)
    tell(self, now)
PrepForm._tell = held
"""


@pytest.fixture(params=["light", "dark"])
def lab(request, tmp_path):
    "A JupyterLab with the tutorial in it and nothing else, under a port that was free: its address, its theme, and a file that holds runs for as long as it is there."
    (tmp_path / "notebooks").mkdir()
    shutil.copy(TUTORIALS / "first_run.ipynb", tmp_path / "notebooks")
    startup = tmp_path / "ipythondir" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "hold.py").write_text(HOLD.replace("PLACE", repr(str(tmp_path / "hold"))))
    env = {**os.environ, **{k: str(tmp_path / k.lower()) for k in FOLDERS}, "DHCORE_ENDPOINT": "", "DH_CONFIG": os.devnull}
    for name, settings in lab_settings(request.param).items():
        path = tmp_path / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path / 'notebooks'}", "--LabApp.extension_manager=readonly"]
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


OVER_THE_EDGE = """box => { const edge = box.getBoundingClientRect().right + 1;
  return [...box.querySelectorAll('*')].filter(e => e.checkVisibility() && !e.closest('pre') && e.getBoundingClientRect().right > edge).map(e => e.className || e.tagName); }"""


CUT_OFF = """box => [...box.querySelectorAll('button, .widget-label, .lm-TabBar-tab')].filter(e => e.checkVisibility() && e.clientWidth && e.scrollWidth > e.clientWidth + 1).map(e => e.textContent)"""
OVERLAPPING = """box => { const seen = [...box.querySelectorAll('button, input, select, audio, .widget-label, .widget-html-content, .lm-TabBar-tab')].filter(e => e.checkVisibility() && e.getClientRects().length);
  const both = (a, b) => { const p = a.getBoundingClientRect(), q = b.getBoundingClientRect();
    return Math.min(p.right, q.right) - Math.max(p.left, q.left) > 2 && Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 2; };
  const name = e => e.textContent.slice(0, 40) || e.className;
  return seen.flatMap((a, i) => seen.slice(i + 1).filter(b => !a.contains(b) && !b.contains(a) && both(a, b)).map(b => [name(a), name(b)])); }"""


class Reader:
    "Someone at JupyterLab, who takes a picture at each step."
    def __init__(self, page, shots, theme, hold): self.page, self.shots, self.theme, self.hold, self.form = page, shots, theme, hold, page.locator(".prep-form").first

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
            with suppress(TimeoutError): self.page.wait_for_function(f"() => {PROMPTS}.some(p => p != '[ ]:')", timeout=10_000)
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
    def read(self, sentence): self.form.get_by_text(sentence).first.wait_for(timeout=60_000)


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(p => p.textContent)"
RUN_ALL_DONE = PROMPTS + ".every(p => /^\\[\\d+\\]:$/.test(p))"


@pytest.fixture
def reader(lab, browser, shots):
    "The tutorial, open in the browser; no error may have been shown or written to the console when the test is over."
    url, theme, hold = lab
    page = browser.new_page(viewport={"width": 1300, "height": 1200})
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{url}lab/tree/first_run.ipynb?reset")
    yield Reader(page, shots, theme, hold)
    page.screenshot(path=shots / f"lab_{theme}_last.png")
    assert page.locator("[data-mime-type='application/vnd.jupyter.error'], [data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts() == []
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
    reader.fill("max_seconds", "45")
    reader.read("max_seconds must be above 0, and 30 at most, got 45.0")
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
    reader.read("audio-ft-prep prepare --dataset-name sample --language-code it --language Italian --output-dir again --max-seconds 20.0")
    reader.form.get_by_text("audio-ft-prep prepare --dataset-name sample").first.click(trial=True)  # the fold has opened, and nothing moves
    reader.picture("6_prepared")


def refused_run(reader):
    "The folder of another config is refused in a sentence, and the traceback is there for who unfolds it."
    reader.tab("Selection")
    reader.fill("seed", "7")
    reader.press("Prepare")
    reader.read("holds a data set that another config made: seed is 42 there and 7 here")
    assert not reader.form.locator("details pre").first.is_visible()
    reader.fill("seed", "8")
    reader.read("Below is what came of the settings before they were changed:")
    reader.picture("7_refused_run")


def leaf_through(reader):
    browser = reader.page.locator(".clip-browser").first
    browser.locator("audio").wait_for(timeout=30_000)
    reader.page.wait_for_function("() => document.querySelector('.clip-browser audio').duration > 0")
    reader.picture("8_browser", browser)
    browser.get_by_label("show", exact=True).select_option(label="truncated (1)")
    browser.get_by_text("Rejected: truncated.").wait_for()
    reader.picture("9_rejected", browser)
    browser.get_by_label("show", exact=True).select_option(index=0)
    browser.get_by_label("clips", exact=True).press("ArrowDown")
    browser.locator("audio").wait_for()
    reader.page.wait_for_function("() => [...document.querySelectorAll('.jp-OutputArea img')].filter(i => i.complete && i.naturalWidth > 300).length >= 3")
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
