"The first-run tutorial as its reader meets it: JupyterLab in a real browser, in its light theme and in its dark one."
import json, os, shutil, subprocess, sys, urllib.request
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


@pytest.fixture(params=["light", "dark"])
def lab(request, tmp_path):
    "A JupyterLab with the tutorial in it and nothing else, under a port that was free: its address and its theme."
    shutil.copy(TUTORIALS / "first_run.ipynb", tmp_path)
    env = {**os.environ, **{k: str(tmp_path / k.lower()) for k in FOLDERS}, "DHCORE_ENDPOINT": "", "DH_CONFIG": os.devnull}
    for name, settings in lab_settings(request.param).items():
        path = tmp_path / "jupyterlab_settings_dir" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}", "--LabApp.extension_manager=readonly"]
    with open(tmp_path / "log", "w") as log: server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        found = until(lambda: next((tmp_path / "jupyter_runtime_dir").glob("jpserver-*.json"), None), 90)
        url = until(lambda: json.loads(found.read_text() or "{}").get("url"))
        until(lambda: answers(f"{url}api/status"))
        yield url, request.param
    finally:
        server.terminate()
        server.wait(30)


def run_all(page):
    page.locator(".jp-NotebookPanel .jp-Cell").first.click(timeout=90_000)
    page.locator("#jp-MainMenu >> text=Run").click()
    page.locator(".lm-Menu >> text=Run All Cells").first.click()
    page.wait_for_function("() => document.querySelectorAll('.jp-CodeCell').length && ![...document.querySelectorAll('.jp-InputPrompt')].some(p => ['[*]:', '[ ]:'].includes(p.textContent))", timeout=180_000)


def test_the_first_run_goes_through(lab, browser, shots):
    url, theme = lab
    page = browser.new_page(viewport={"width": 1300, "height": 950})
    complaints = []
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"{url}lab/tree/first_run.ipynb?reset")
    run_all(page)
    form = page.locator(".prep-form").first
    form.scroll_into_view_if_needed()
    page.screenshot(path=shots / f"lab_{theme}_1_run_all.png")
    form.screenshot(path=shots / f"lab_{theme}_form.png")
    for i, tab in enumerate(["Data", "Model", "Selection", "Audio", "Output"]):
        form.get_by_role("tab", name=tab).first.click()
        form.screenshot(path=shots / f"lab_{theme}_tab{i}.png")
    form.locator(".jupyter-widget-Collapse-header, .p-Collapse-header, .lm-Collapse-header").first.click()
    page.wait_for_timeout(500)
    form.screenshot(path=shots / f"lab_{theme}_recipe.png")
    print(complaints)
