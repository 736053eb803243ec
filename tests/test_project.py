"The project keeps its own rules: layers, light imports, documented names, one home for every fact."
import ast
import importlib
import inspect
import io
import json
import re
import subprocess
import sys
import tokenize
from configparser import ConfigParser
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints, Union

import pytest
import yaml
from fastcore.docments import docments
from packaging.requirements import Requirement

import audio_ft_prep

pytestmark = pytest.mark.light
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "audio_ft_prep"
NOTEBOOKS = sorted((ROOT / "nbs").glob("[0-9][0-9]_*.ipynb"))
HEAVY = ["torch", "transformers", "datasets"]
# The one module (or two) in which each optional package may be imported.
OPTIONAL = dict(
    ray=["raysession", "cluster"],
    digitalhub=["sdk"],
    datacollective=["mozilla"],
    asrfront=["features"],
    requests=["mozilla"],
    boto3=["doctor"],
    botocore=["doctor"],
    ipywidgets=["dress", "widgets", "browser"],
    traitlets=["widgets"],
    matplotlib=["clips", "figures"],
    IPython=["clips", "dress", "browser"],
    librosa=["clips"],
    PIL=["figures"],
    mlcroissant=[],
    accelerate=[],
    jiwer=["metrics", "scored"],
    peft=[],
    rapidfuzz=["agreement", "wordmatch", "timing"],
    scipy=["effects"],
    lhotse=["exports"],
    webdataset=["exports"],
    sentencepiece=[],
    mistral_common=[],
    torchdata=[],
    av=["media"],
    praatio=["captionfiles"],
    pympi=["captionfiles"],
    psutil=["raysession"],
    faster_whisper=["fastwhisper"],
    ctranslate2=["fastwhisper"],
    nbdev=[],
    pytest=[],
)
IMPORT_NAMES = {"pyyaml": "yaml"}   # where a package is imported under another name than it is installed by


def cells(path):
    "The cells of a notebook: (type, source)."
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def module_of(path):
    "The name of the module that a notebook makes; empty where it makes none."
    found = [m[1] for _, s in cells(path) if (m := re.search(r"^#\|\s*default_exp\s+(\S+)", s, re.M))]
    return found[0] if found else ""


LAYER = {module_of(p): int(p.name[:2]) for p in NOTEBOOKS}
MODULES = [m for m in LAYER if m]


def imports(module):
    "(name, whether it is ours, whether it stands inside a function) of every import in a module."
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    at_top = {id(n) for n in tree.body}
    for node in ast.walk(tree):
        inside = id(node) not in at_top
        if isinstance(node, ast.Import):
            for a in node.names: yield from [(a.name, a.name.startswith("audio_ft_prep"), inside)]
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [a.name for a in node.names]
            for n in names: yield n, bool(node.level) or n.startswith("audio_ft_prep"), inside


def public(module):
    "The public functions and classes that a module makes itself: (name, object)."
    mod = importlib.import_module(f"audio_ft_prep.{module}")
    found = [(name, getattr(mod, name)) for name in mod.__all__]
    return [
        (name, obj)
        for name, obj in found
        if (inspect.isfunction(obj) or inspect.isclass(obj)) and obj.__module__ == mod.__name__
    ]


def undocumented(obj):
    "The parameters of a function, or of a class's own constructor, without a word about them."
    if inspect.isclass(obj) and not {"__init__", "__new__"} & vars(obj).keys(): return []
    parts = [c for c in obj.__mro__ if "__annotations__" in vars(c)] if inspect.isclass(obj) else [obj]
    told = {k for part in parts or [obj] for k, v in docments(part).items() if v}
    def helped(hint):
        if get_origin(hint) is Union: return any(map(helped, get_args(hint)))  # before 3.11 of what may be None
        return get_origin(hint) is Annotated and any(getattr(a, "help", "") for a in get_args(hint)[1:])
    if inspect.isfunction(obj): told |= {k for k, v in get_type_hints(obj, include_extras=True).items() if helped(v)}
    if hasattr(obj, "_fields"): told |= set(re.findall(r"^ +(\w+): .*# \S", inspect.getsource(obj), re.M))   # docments leaves out named tuples
    told |= set(re.findall(r"^ +\*\*(\w+),  # \S", inspect.getsource(obj), re.M))   # docments leaves out keywords that have no names
    return [p for p in inspect.signature(obj).parameters if p not in told | {"self", "cls"}]


def python(code, *args):
    "What a fresh interpreter prints."
    got = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert got.returncode == 0, got.stderr[-2000:]
    return got.stdout


def project_files():
    "Text files of the project as git sees them, the shipped data left out."
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        if name.startswith("audio_ft_prep/data/") or not path.is_file(): continue
        data = path.read_bytes()
        if b"\0" not in data: yield name, data.decode("utf-8")


def settings(key):
    ini = ConfigParser(delimiters="=", interpolation=None)
    ini.read(ROOT / "settings.ini", encoding="utf-8")
    return [Requirement(l) for l in ini["DEFAULT"][key].strip().splitlines()]


def test_there_is_something_to_hold():
    assert {
        "config",
        "rows",
        "commonvoice",
        "load",
        "audio",
        "text",
        "features",
        "output",
        "train",
        "pipeline",
        "cli",
    } <= LAYER.keys()
    assert {p.stem for p in PACKAGE.glob("[a-z]*.py")} == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_lower_numbers(module):
    ours = {
        n.removeprefix("audio_ft_prep").lstrip(".").split(".")[0] for n, is_ours, _ in imports(module) if is_ours
    } - {""}
    assert ours <= LAYER.keys(), f"no notebook makes {ours - LAYER.keys()}"
    assert [n for n in sorted(ours) if LAYER[n] >= LAYER[module]] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_package_is_declared_before_it_is_imported(module):
    needed = {IMPORT_NAMES.get(r.name, r.name) for r in settings("requirements")}
    theirs = {n.split(".")[0] for n, is_ours, _ in imports(module) if not is_ours} - set(sys.stdlib_module_names)
    assert [n for n in sorted(theirs - needed) if module not in OPTIONAL.get(n, [])] == []


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_imported_only_where_it_is_used(module):
    assert [n for n, _, inside in imports(module) if n.split(".")[0] == "torch" and not inside] == []


WATCH = """
import sys
heavy = lambda: print("loaded:", *(m for m in ("torch", "transformers", "datasets") if m in sys.modules))
"""


def test_importing_the_package_loads_nothing_heavy():
    assert python(WATCH + "import audio_ft_prep; dir(audio_ft_prep); audio_ft_prep.PrepConfig; heavy()").split() == [
        "loaded:"
    ]


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["prepare"],
        ["plan"],
        ["demo"],
        ["inspect"],
        ["verify"],
        ["report"],
        ["rejects"],
        ["upload"],
        ["export"],
        ["align"],
        ["doctor"],
    ],
)
def test_help_loads_nothing_heavy(command):
    said = python(
        WATCH
        + "from audio_ft_prep.cli import main\ntry: main()\nexcept SystemExit as e: assert not e.code,"
        " e.code\nheavy()",
        *command,
        "--help"
    )
    assert said.split()[-1] == "loaded:"
    assert "audio-ft-prep" in said and "Options" in said
    if command == ["prepare"]:
        assert {"--dataset-name", "--language-code", "--model-id", "--output-dir"} <= set(said.split())


BLOCK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "datasets"): raise ImportError(f"{name} was to be left alone")
sys.meta_path.insert(0, Refuse())
"""


@pytest.mark.parametrize("module", ["config", "rows", "commonvoice", "container", "load", "audio"])
def test_reading_a_corpus_needs_nothing_heavy_even_installed(module):
    python(BLOCK + f"import audio_ft_prep.{module}")


def test_the_sample_corpus_is_read_without_anything_heavy():
    said = python(BLOCK + "from audio_ft_prep.config import PrepConfig\nfrom audio_ft_prep.load import load_rows\n"
        "from audio_ft_prep.audio import read_clip\nfrom audio_ft_prep.rows import read_bytes, row_at\n"
        "c = load_rows(PrepConfig('sample', 'it'))\nrow = row_at(c.rows, 0)\n"
        "print(len(c.rows), read_clip(read_bytes(row.file, row.offset, row.size)).seconds)")
    rows, seconds = said.split()
    assert int(rows) >= 10 and 0.5 < float(seconds) < 30


def test_the_six_names_that_users_meet_first_are_there():
    names = ["PrepConfig", "plan", "prepare", "load_prepared", "SpeechCollator", "Augment"]
    assert set(names) <= set(dir(audio_ft_prep)) and sorted(names) == sorted(audio_ft_prep.__all__)
    homes = dict(
        PrepConfig="config", plan="planning", prepare="pipeline", load_prepared="train", SpeechCollator="collator",
        Augment="augment"
    )
    for name in names:
        assert getattr(audio_ft_prep, name) is getattr(importlib.import_module(f"audio_ft_prep.{homes[name]}"), name)
    with pytest.raises(AttributeError, match="no attribute 'prepared'"): audio_ft_prep.prepared
    with pytest.raises(ImportError, match="prepared"): from audio_ft_prep import prepared  # noqa: F401


def test_type_checkers_see_the_names_that_are_loaded_late():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(n for n in tree.body if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING")
    assert {(a.name, n.module) for n in block.body for a in n.names} == set(audio_ft_prep._HOMES.items())


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_says_what_it_does_and_takes(module):
    for name, obj in public(module):
        own = vars(obj).get("__doc__") if inspect.isclass(obj) else obj.__doc__
        assert own and not own.startswith(f"{name}("), f"{module}.{name} has no docstring"
        assert not undocumented(obj), f"{module}.{name}: no word about {', '.join(undocumented(obj))}"


@pytest.mark.parametrize("module", MODULES)
def test_a_docstring_is_one_line(module):
    assert [name for name, obj in public(module) if "\n" in (obj.__doc__ or "").strip()] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_exported_cells_stay_short(notebook):
    exported = [
        s.splitlines() for kind, s in cells(notebook) if kind == "code" and re.search(r"^#\|\s*exports?\b", s, re.M)
    ]
    longest = max(exported, key=len, default=[])
    assert len(longest) <= 50, "\n".join(longest[:3])


def too_long(text, most=120):
    "Lines of code that are wider than the page, comments behind them and pages of text within them left out."
    within = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.NEWLINE and token.start[0] < token.end[0]:
            within |= {*range(token.start[0], token.end[0] + 1)}
    code = [re.split(r"\s{2}#", line)[0] for line in text.splitlines()]
    return [
        line
        for i, line in enumerate(code, 1)
        if len(line) > most and i not in within and line.strip()[0] not in "#\"'"
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_exported_code_fits_120_columns(notebook):
    exported = [s for kind, s in cells(notebook) if kind == "code" and re.search(r"^#\|\s*exports?\b", s, re.M)]
    assert [line for source in exported for line in too_long(source)] == []


@pytest.mark.parametrize("folder", ["tests", "bench", "tools", "src"])
def test_scripts_and_tests_fit_120_columns(folder):
    assert [
        f"{p}: {line}" for p in (ROOT / folder).rglob("*.py") for line in too_long(p.read_text(encoding="utf-8"))
    ] == []


@pytest.mark.parametrize("notebook", sorted((ROOT / "nbs").rglob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_opens_with_its_name_and_what_a_reader_gets(notebook):
    first = [s for kind, s in cells(notebook) if kind == "markdown"][0]
    assert re.match(r"# \S.*\n+> \S.*", first), first[:200]
    if module := module_of(notebook): assert first.splitlines()[0] == f"# {module}"


def test_no_file_names_a_machine_or_a_registry():
    rooted = r"(?<![\w.*$}>-])/(?:" + "|".join(["work", "root", "home/[a-z]+", "Users/[a-z]+"]) + ")/"
    hosts = "|".join([r"py[p]i\.org", r"python[h]osted", r"registry\.npm[j]s", r"/opt/[p]ypi"])
    trade = "|".join([r"sub-?[a]gent", r"[f]arm-", r"\.[l]ibrary/", r"standin-[h]ub", r"shared/[a-z-]+"])
    found = [
        f"{name}: {m[0]}" for name, text in project_files() for m in re.finditer(f"{rooted}|{hosts}|{trade}", text)
    ]
    assert found == []


def test_saved_outputs_name_no_temporary_place():
    for notebook in sorted((ROOT / "nbs").rglob("*.ipynb")):
        outputs = [json.dumps(c.get("outputs", [])) for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]]
        assert not any(re.search(r"/tmp/|/var/folders/|site-packages/", o) for o in outputs), notebook.name


def test_the_readme_names_commands_that_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    for page in ("README.md", "CONTRIBUTING.md"):
        asked = set(re.findall(r"^(?:.*`)?make ([a-z-]+)", (ROOT / page).read_text(encoding="utf-8"), re.M))
        assert {"demo", "test"} & asked and asked <= targets, page
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.M)[1].split()
    assert set(phony) <= targets


def test_the_version_has_one_home():
    for name in ("pyproject.toml", "settings.ini", "setup.py", "Makefile", "nbs/_quarto.yml"):
        assert audio_ft_prep.__version__ not in (ROOT / name).read_text(encoding="utf-8"), name
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1]
    assert newest == audio_ft_prep.__version__


def test_a_requirement_has_one_home_and_every_pin_lies_in_its_range():
    needed = {}
    for r in settings("requirements") + settings("dev_requirements"):
        assert r.name not in needed, f"{r.name} stands twice in settings.ini"
        needed[r.name] = r.specifier
    pins = [
        Requirement(l)
        for l in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if l and not l.startswith("#")
    ]
    for pin in pins:
        (spec,) = pin.specifier
        assert spec.operator == "==" and needed.get(pin.name, pin.specifier).contains(spec.version), str(pin)
    assert {"torch", "numpy", "soundfile", "soxr", "transformers", "tokenizers", "datasets", "pyarrow", "nbdev"} <= {
        p.name for p in pins
    }
    for version in ("3.10", "3.11", "3.12", "3.13"):
        here = [p.name for p in pins if not p.marker or p.marker.evaluate({"python_version": version})]
        assert len(here) == len(set(here)), f"two pins of one package on Python {version}"


CATALOGUE = yaml.safe_load((ROOT / "aipc.yaml").read_text(encoding="utf-8"))


def test_the_catalogues_file_names_pages_and_handlers_that_are_there():
    assert (
        CATALOGUE["metadata"].keys() >= {"name", "description", "kind", "ai", "domain", "license"}
        and CATALOGUE["metadata"]["kind"] == "library"
    )
    pages = [CATALOGUE["usage"], *(h["ref"] for h in CATALOGUE["howto"])]
    assert [p for p in pages if not (ROOT / p).is_file()] == [] and all(h["title"] for h in CATALOGUE["howto"])
    assert {h["ref"] for h in CATALOGUE["howto"]} == {
        f"docs/howto/{p.stem}.md" for p in (ROOT / "nbs" / "tutorials").glob("*.ipynb")
    }
    for op in CATALOGUE["operations"]:
        spec = op["implementation"]["spec"]
        file, _, name = spec["handler"].partition(":")
        assert (op["kind"], spec["kind"], op["implementation"]["framework"]) == ("job", "python", "aixpa")
        tree = ast.parse((ROOT / (file.replace(".", "/") + ".py")).read_text(encoding="utf-8"))
        assert name in {a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        handler = inspect.signature(getattr(importlib.import_module("audio_ft_prep.platform"), name)).parameters
        told = {i["name"]: i for i in op["inputs"]}
        assert told.keys() <= handler.keys() - {"project", "run"}
        assert {n for n, i in told.items() if i.get("required")} == {
            n for n, p in handler.items() if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD
        } - {"project"}
        assert all(handler[n].default == i["default"] for n, i in told.items() if "default" in i)


def test_the_catalogues_requirements_are_those_of_the_package():
    want = {(r.name, str(r.specifier)) for r in settings("requirements")}
    for op in CATALOGUE["operations"]:
        assert {
            (r.name, str(r.specifier)) for r in map(Requirement, op["implementation"]["spec"]["requirements"])
        } == want


def test_the_how_tos_are_those_of_the_tutorials(tmp_path):
    subprocess.run([sys.executable, "tools/howto.py", str(tmp_path)], cwd=ROOT, check=True)
    texts = lambda d: {p.name: p.read_text(encoding="utf-8") for p in d.glob("*.md")}
    assert texts(tmp_path) == texts(ROOT / "docs" / "howto") != {}


def test_a_link_of_a_how_to_leads_somewhere():
    "To a file beside it, or to a page that the site is built of."
    sys.path.insert(0, str(ROOT / "tools"))
    try: anchors = importlib.import_module("anchors")
    finally: sys.path.pop(0)
    from nbdev.config import get_config, nbpath2html
    home = get_config(ROOT / "pyproject.toml").doc_url.rstrip("/") + "/"
    site = {f"{home}{nbpath2html(p.relative_to(ROOT / 'nbs'))}" for p in (ROOT / "nbs").rglob("*.ipynb")}
    links = [
        (p, l)
        for p in sorted((ROOT / "docs").rglob("*.md"))
        for l in anchors.markdown_links(p.read_text(encoding="utf-8"))
    ]
    ours = {l.partition("#")[0] for _, l in links if l.startswith(home)}
    assert ours <= site and len(ours) >= 5 and list(anchors.broken(links, {})) == []
