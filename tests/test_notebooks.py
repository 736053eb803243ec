"The tutorials come with the package, and go into a folder without taking anything from it."
import json, os, shutil, subprocess, sys, zipfile
from pathlib import Path

import pytest

from audio_ft_prep.notebooks import for_readers, lay_out, tutorials
from conftest import COMMAND

HERE = Path(__file__).parents[1]


def test_every_tutorial_is_laid_out_as_a_notebook_whose_links_lead_somewhere(tmp_path):
    laid_out = lay_out(tmp_path / "new" / "folder")
    assert set(laid_out) == {p.name for p in (HERE / "nbs/tutorials").glob("*.ipynb")} and set(
        laid_out.values()
    ) == {"written"}
    for name in laid_out:
        text = (tmp_path / "new" / "folder" / name).read_text(encoding="utf-8")
        assert json.loads(text)["cells"] and "](../" not in text


@pytest.mark.parametrize(
    "link, to",
    [
        ("../00_config.ipynb", "config.html"),
        ("../00_config.ipynb#fields", "config.html#fields"),
        ("../reasons.ipynb", "reasons.html"),
        ("../tasks/rejected.ipynb", "tasks/rejected.html"),
    ],
)
def test_a_link_to_a_page_of_the_docs_leads_to_the_site(link, to):
    got = for_readers(f"see [this]({link}).")
    assert got.startswith("see [this](https://") and got.endswith(f"/{to}).")


def test_a_file_that_is_there_stays_and_that_is_said(tmp_path):
    names = [p.name for p in tutorials()]
    (tmp_path / names[0]).write_text("mine")
    laid_out = lay_out(tmp_path)
    assert (
        laid_out[names[0]] == "there already and another: left as it is"
        and (tmp_path / names[0]).read_text() == "mine"
    )
    assert lay_out(tmp_path)[names[1]] == "there already"
    assert lay_out(tmp_path, replace=True)[names[0]] == "written anew, over what was there" and json.loads(
        (tmp_path / names[0]).read_text()
    )


@pytest.mark.parametrize("kind", ["a link to nothing", "a link to a file", "a FIFO", "a folder"])
@pytest.mark.parametrize("replace", [False, True])
def test_what_others_put_in_the_folder_is_not_written_through(tmp_path, kind, replace):
    name, private = tutorials()[0].name, tmp_path / "private"
    (tmp_path / "shared").mkdir()
    path = tmp_path / "shared" / name
    if kind == "a link to a file": private.write_text("mine")
    if kind == "a FIFO": os.mkfifo(path)
    elif kind == "a folder": path.mkdir()
    else: path.symlink_to(private)
    if replace and kind == "a folder":
        with pytest.raises(IsADirectoryError): lay_out(path.parent, replace)
    else:
        assert lay_out(path.parent, replace)[name].startswith(
            "written anew" if replace else "there already and another"
        )
    assert private.read_text() == "mine" if kind == "a link to a file" else not private.exists()


def test_the_command_says_of_each_file_what_became_of_it(tmp_path):
    run = lambda *args: subprocess.run(
        [COMMAND, "notebooks", *args], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    first = run("mine")
    assert (
        first.returncode == 0
        and "mine/first_run.ipynb: written" in first.stdout
        and (tmp_path / "mine/first_run.ipynb").is_file()
    )
    (tmp_path / "file").write_text("")
    refused = run("file")
    assert (
        refused.returncode == 2
        and "the tutorials need a folder, got the file" in refused.stderr
        and "Traceback" not in refused.stderr
    )


def test_a_wheel_holds_them(tmp_path):
    code = "from setuptools import build_meta; import sys; print(build_meta.build_wheel(sys.argv[1]))"

    source = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "_*", "build", "*.egg-info", "sample", "tests", "bench")
    shutil.copytree(HERE, source, ignore=ignored)
    shutil.copy(HERE / "audio_ft_prep" / "__init__.py", source / "audio_ft_prep")
    made = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=source, timeout=300
    )
    assert made.returncode == 0, made.stderr[-2000:]
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel: held = set(wheel.namelist())
    assert {f"audio_ft_prep/data/notebooks/{p.name}" for p in tutorials()} <= held
