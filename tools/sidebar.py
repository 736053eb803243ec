"""Write nbs/sidebar.yml: every page of nbs/ in its section, by the folder and the number of its name.

Usage, from the project root: python tools/sidebar.py
"""
import re
from pathlib import Path

import yaml

NBS = Path(__file__).resolve().parents[1] / "nbs"
# Pages that want to be read in an order; those of a folder that aren't named follow by name.
START = ["index", "which_command"]
TITLES = {"index": "Home"}   # where the sidebar says something else than the page
TUTORIALS = [
    "first_run",
    "common_voice",
    "own_data",
    "radio",
    "look",
    "fine_tuning",
    "fine_tuning_ctc",
    "platform",
    "scaling_out",
]
TASKS = [
    "common_voice",
    "own_recordings",
    "subtitles",
    "recordings_and_text",
    "recordings_only",
    "hub",
    "several_corpora",
    "sampling",
    "storage",
    "good_data",
    "rejected",
    "stopped",
    "training",
    "evaluate",
    "export",
    "platform",
    "cluster",
    "trust",
]
REFERENCE = ["layouts", "models_served", "settings", "reasons", "findings"]
LAST = ["benchmarks", "changes"]
# The tens of a notebook's number are its layer.
LAYERS = [
    "Describing a run",
    "Reading corpora",
    "Audio, text, features",
    "Rows to examples",
    "Storing, training",
    "Workers and artifacts",
    "Running it",
    "Looking at it",
    "A model that listens",
    "The command",
]


def ordered(pages, order):
    "Pages by `order`; the others after them, by name."
    return sorted(pages, key=lambda p: (order.index(p.stem) if p.stem in order else len(order), p.name))


def layer(page):
    "The number of a notebook's layer; none for a page without a number."
    found = re.match(r"(\d)\d_", page.name)
    return int(found[1]) if found else None


def entry(page):
    "A page in the sidebar."
    href = page.relative_to(NBS).as_posix()
    return {"text": TITLES[page.stem], "href": href} if href == f"{page.stem}.ipynb" and page.stem in TITLES else href


def section(title, pages):
    "A section of the sidebar; none without pages."
    return [{"section": title, "contents": [entry(p) for p in pages]}] if pages else []


def sidebar():
    "The sidebar's contents."
    top = [p for p in NBS.iterdir() if p.suffix in (".ipynb", ".qmd")]
    plain = ordered([p for p in top if layer(p) is None], START)
    api = [s for n, title in enumerate(LAYERS) for s in section(title, sorted(p for p in top if layer(p) == n))]
    return [
        *section("Start", [p for p in plain if p.stem in START]),
        *section("Tasks", ordered((NBS / "tasks").glob("*.ipynb"), TASKS)),
        *section("Tutorials", ordered((NBS / "tutorials").glob("*.ipynb"), TUTORIALS)),
        *section("Reference", ordered([p for p in plain if p.stem not in START + LAST], REFERENCE)),
        {"section": "API by layer", "contents": api},
        *section("Project", ordered([p for p in plain if p.stem in LAST], LAST))]


def write():
    "Write the file that nbdev's and our own build read."
    text = yaml.safe_dump({"website": {"sidebar": {"contents": sidebar()}}}, sort_keys=False)
    (NBS / "sidebar.yml").write_text("# made by tools/sidebar.py\n" + text, encoding="utf-8")


if __name__ == "__main__": write()
