"The pages hold what they promise: every name has its lesson, every command is one, and the references are of the code."
import ast
import importlib
import inspect
import json
import re
import shlex
import subprocess
import sys

import pytest
import typer
import yaml
from fastcore.docments import docments

from audio_ft_prep.cli import app, flag_settings
from audio_ft_prep.config import GROUPS, NOT_SHAPING, RULES, config_from, field_types, setting_list
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.show import as_it_is
from test_project import MODULES, PACKAGE, ROOT, cells, public

pytestmark = pytest.mark.light
PAGES = sorted((ROOT / "nbs").rglob("*.ipynb"))


def directive(source, *names): return re.search(rf"^#\|\s*({'|'.join(names)})\b", source, re.M)


def fenced(text, language=r"\w*"): return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def lesson_words():
    "Every word of code that a reader is shown and that is no definition of ours: lessons, and examples in prose."
    shown = [
        s
        for p in PAGES
        for kind, s in cells(p)
        if kind == "code" and not directive(s, "exports?", "default_exp", "hide")
    ]
    return set(
        re.findall(
            r"\w+",
            "\n".join(shown + [b for p in PAGES for kind, s in cells(p) if kind == "markdown" for b in fenced(s)]),
        )
    )


def called_by(names):
    "What the functions and classes of these names use by name."
    trees = [ast.parse((PACKAGE / f"{m}.py").read_text(encoding="utf-8")) for m in MODULES]
    bodies = [n for t in trees for n in t.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name in names]
    return {x.id for b in bodies for x in ast.walk(b) if isinstance(x, ast.Name)}


def functions(): return [(m, name, obj) for m in MODULES for name, obj in public(m) if inspect.isfunction(obj)]


def test_every_public_function_has_a_lesson_or_serves_one_that_has():
    words = lesson_words()
    assert {name for _, name, _ in functions()} - words - called_by(words) == set()


def test_what_a_function_gives_is_said():
    silent = [
        f"{m}.{name}"
        for m, name, obj in functions()
        if inspect.signature(obj).return_annotation not in (None, "None", inspect.Signature.empty)
        and not docments(obj, returns=True).get("return")
    ]
    assert silent == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_first_cell_holds_name_and_line_and_nothing_that_would_be_lost(page):
    first = next(s for kind, s in cells(page) if kind == "markdown")
    assert re.fullmatch(r"# .+\n+> .+\n*", first), "what follows the line is on no page: give it a cell of its own"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_reader_sees_no_plumbing_and_nothing_that_went_wrong(page):
    for c in json.loads(page.read_text(encoding="utf-8"))["cells"]:
        source = "".join(c["source"])
        if c["cell_type"] != "code" or directive(source, "exports?", "hide", "default_exp"): continue
        assert not re.search(r"\bMock\b|monkeypatch|unittest|sys\.path", source), source
        said = "".join("".join(o.get("text", "")) for o in c["outputs"])
        assert not any(o["output_type"] == "error" for o in c["outputs"]) and not re.search(
            r"Warning|it/s|s/it|0x[0-9a-f]{6}", said
        ), said


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_imports_have_cells_of_their_own_because_the_docs_build_runs_those_alone(page):
    for kind, source in cells(page):
        if kind != "code" or directive(source, "exports?", "hide", "default_exp"): continue
        imports = [isinstance(s, (ast.Import, ast.ImportFrom)) for s in ast.parse(source).body]
        assert all(imports) or not any(imports), source


def commands():
    "Every line of the command in the pages and in what is read beside them: its words, and the settings of a file that is shown with it."
    texts = [(p.stem, s) for p in PAGES for kind, s in cells(p) if kind == "markdown"]
    texts += [(n, (ROOT / n).read_text(encoding="utf-8")) for n in ("README.md", "docs/usage.md", "CONTRIBUTING.md")]
    for name, text in texts:
        filed = yaml.safe_load("".join(fenced(text, "yaml"))) or {}
        for block in fenced(text, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("audio-ft-prep "):
                    yield pytest.param(shlex.split(line, comments=True)[1:], filed, id=f"{name}-{line[14:40]}")


@pytest.mark.parametrize("words,filed", list(commands()))
def test_a_command_on_a_page_can_be_typed(words, filed):
    command = typer.main.get_command(app).commands[words[0]]
    given = command.make_context(words[0], words[1:]).params
    if words[0] in ("plan", "prepare"):
        config_from(
            {
                **(filed if given["config"] else {}),
                **flag_settings({k: v for k, v in given.items() if k in field_types()}),
            }
        )


def test_settings_are_told_as_the_config_has_them():
    told = {s.name: s for s in setting_list()}
    assert set(told) == set(field_types()) and {n for names in GROUPS.values() for n in names} <= set(told)
    assert all(s.help and s.group in GROUPS and s.kind for s in told.values())
    assert {n for n, s in told.items() if not s.shapes} == set(NOT_SHAPING) and {
        n for n, s in told.items() if s.rule
    } == set(RULES)
    command = typer.main.get_command(app).commands["prepare"]
    assert {s.flag for s in told.values()} <= {o for p in command.params for o in p.opts}


def shown(page):
    "What a page's cells show as Markdown."
    outputs = [
        o
        for c in json.loads((ROOT / "nbs" / page).read_text(encoding="utf-8"))["cells"]
        for o in c.get("outputs", [])
    ]
    return "".join("".join(o["data"].get("text/markdown", "")) for o in outputs if "data" in o)


def test_the_pages_of_reference_have_a_row_for_every_setting_and_reason():
    assert re.findall(r'<span id="(\w+)">', shown("settings.ipynb")) == [s.name for s in setting_list()]
    assert sorted(re.findall(r'<span id="(\w+)">', shown("reasons.ipynb"))) == sorted(REASONS)
    for s in setting_list():
        assert s.help.replace("<", "&lt;") in shown("settings.ipynb"), f"{s.name}: the page is older than the code"
    for r in REASONS:
        assert f"| {as_it_is(REASONS[r].text)} | {as_it_is(REASONS[r].remedy)} |" in shown(
            "reasons.ipynb"
        ), f"{r}: the page is older than the code"


def test_a_reason_says_when_it_is_found_and_what_to_do():
    assert all(v and not v.endswith(".") for reason in REASONS.values() for v in reason)


def entries(contents):
    for c in contents:
        if isinstance(c, str): yield c
        else: yield from entries(c["contents"]) if "contents" in c else [c["href"]]


def test_the_sidebar_has_every_page_once():
    listed = list(
        entries(
            yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text(encoding="utf-8"))["website"]["sidebar"][
                "contents"
            ]
        )
    )
    there = [p.relative_to(ROOT / "nbs").as_posix() for p in [*PAGES, *(ROOT / "nbs").rglob("*.qmd")]]
    assert sorted(listed) == sorted(there), "run python tools/sidebar.py"


@pytest.mark.parametrize(
    "html,copy,told",
    [
        (
            "<a href='#there'>x</a><p id='there'>code may hold <code>](x)</code></p>",
            "[x](page.html.md#there) and `[a](b)`",
            "0 broken",
        ),
        ("<a href='#nowhere'>x</a>", "", "no anchor #nowhere"),
        ("", "[x](gone.html.md)", "no file gone.html.md"),
        ("<p>see [too_long](../reasons.ipynb)</p>", "", "stray markup"),
        ("", "[[too_long](page.html.md)](page.html.md#x)", "stray markup"),
        ("", "[x](page.html.md){target=\"_blank\"}", "stray markup"),
        ("", "<style scoped>", "stray markup"),
    ],
)
def test_what_is_wrong_with_links_and_markup_of_a_page_is_told(tmp_path, html, copy, told):
    for name, text in (("page.html", html), ("page.html.md", copy)): (tmp_path / name).write_text(text)
    ran = subprocess.run([sys.executable, "tools/anchors.py", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert told in ran.stdout and ran.returncode == (told != "0 broken"), ran.stdout


MOVED = {
    "config": "as_it_is html_text",
    "folder": "COLUMNS",
    "tables": "COLUMNS",
    "models": "Extractor",
    "parts": "Part",
    "pipeline": "Part merge plan",
    "plots": "PreparedClips clips_of player plot_clip tokens_html",
    "rows": "BadClip reason_counts reject_at",
    "store": "read_prep verify",
}


@pytest.mark.parametrize("module, name", [(module, n) for module, names in MOVED.items() for n in names.split()])
def test_what_pages_of_the_first_release_import_is_still_there(module, name):
    if module == "plots": pytest.importorskip("matplotlib")
    assert hasattr(importlib.import_module(f"audio_ft_prep.{module}"), name)
