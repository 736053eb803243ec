"""Build the docs site without Quarto: nbdev stages the pages, smalldocs renders them, and every link is followed.

Usage, from the project root: python tools/docs_site.py [_site]
(`nbdev-docs` builds the same pages with Quarto.)
"""
import json, re, shutil, subprocess, sys
from html import unescape
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import yaml
from nbdev.config import get_config, nbpath2html
from nbdev.doclinks import _build_modidx
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs
from nbdev.showdoc import BasicMarkdownRenderer

import sidebar


def exported(sym):
    "The class as its module has it: a class made in a docs cell has no source file, and so no words about its fields."
    if not isinstance(sym, type) or sym.__module__ != "__main__": return sym
    homes = import_module(f"{get_config().lib_name}._modidx").d["syms"].items()
    found = [mod for mod, syms in homes if f"{mod}.{sym.__qualname__}" in syms]
    return getattr(import_module(found[0]), sym.__name__) if found else sym


# At the top level, because the processes that nbdev spawns import this file and need it too.
plain = BasicMarkdownRenderer.__init__
BasicMarkdownRenderer.__init__ = lambda self, sym, *args, **kwargs: plain(self, exported(sym), *args, **kwargs)


def page(rel):
    "The name Quarto would give the page: nbdev's links count on it."
    return nbpath2html(rel).with_suffix(".ipynb") if rel.suffix == ".ipynb" else rel


def tidy_nb(text, home, doc_url):
    "Drop what only Quarto understands; point nbdev's absolute links at this site."
    nb = json.loads(text)
    for c in nb["cells"]:
        c.pop("has_sd", None); c["metadata"].pop("execution", None)
        lines = "".join(c["source"]).splitlines(True)
        if c["cell_type"] == "raw": lines = [l for l in lines if not l.startswith("output-file:")]
        if c["cell_type"] == "markdown": lines = [l for l in lines if not l.startswith("#|")]
        c["source"] = "".join(lines)
    return json.dumps(nb, ensure_ascii=False).replace(doc_url, home)


def tidy_yml(text):
    "Drop the settings that only Quarto knows, so that a warning of smalldocs is one of ours."
    d = yaml.safe_load(text)
    d.pop("format-links", None)
    if fmt := d.get("format"):
        fmt.pop("commonmark", None); fmt["html"].pop("keep-md", None)
        d["website"]["llms-txt"] = True   # Markdown copies; Quarto makes its own from `commonmark`
    return yaml.safe_dump(d, sort_keys=False)


def stage(src, dest, doc_url):
    "Copy nbdev's processed pages to `dest` under the names, and in the form, that the site has."
    shutil.rmtree(dest, ignore_errors=True)
    files = [p.relative_to(src) for p in src.rglob("*") if p.is_file()]
    moved = {rel.name: page(rel).name for rel in files if page(rel) != rel}
    for rel in files:
        out = dest / page(rel)
        out.parent.mkdir(parents=True, exist_ok=True)
        if rel.suffix not in (".ipynb", ".yml", ".md", ".qmd"): shutil.copy(src / rel, out); continue
        t = (src / rel).read_text(encoding="utf-8")
        if rel.suffix == ".ipynb": t = tidy_nb(t, "../" * (len(rel.parts) - 1) or "./", doc_url)
        for a, b in moved.items(): t = re.sub(rf"(?<!\w){re.escape(a)}(?![\w.])", b, t)
        if rel.suffix == ".yml": t = tidy_yml(t)
        out.write_text(t, encoding="utf-8")


def markdown_copies(site):
    "Name the Markdown copies as Quarto does, so the `Docs:` links in our modules work on either site."
    for p in site.rglob("*.llms.md"):
        t = re.sub(r"(\]\([^)\s]*)\.llms\.md", r"\1.html.md", p.read_text(encoding="utf-8"))
        p.with_name(p.name.replace(".llms.md", ".html.md")).write_text(t, encoding="utf-8"); p.unlink()


def at_home(site):
    "Take out the fonts that a theme fetches from elsewhere: a page of ours asks nobody but us."
    for p in (site / "site_libs").rglob("*.css"):
        t = p.read_text(encoding="utf-8")
        if "@import url(http" in t: p.write_text(re.sub(r"@import url\(http[^)]*\);?", "", t), encoding="utf-8")


def search_rows(site):
    "Let the search find a row of a table that has an id, such as a setting, and lead to it."
    index = json.loads((site / "search.json").read_text(encoding="utf-8"))
    for p in sorted(site.glob("*.html")):
        title = next((e["title"] for e in index if e["href"] == p.name), p.stem)
        for row in re.findall(r"<tr>\s*<td[^>]*>\s*<span id=.*?</tr>", p.read_text(encoding="utf-8"), re.S):
            name = re.search(r'<span id="([^"]+)"', row)[1]
            text = " ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split())
            index.append({"objectID": f"{p.name}#{name}", "href": f"{p.name}#{name}", "title": title, "section": name, "text": text})
    (site / "search.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")


def opening(path):
    "Title and line of a page's first cell; nothing for one that is no notebook."
    if path.suffix != ".ipynb": return None
    first = next(c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown")
    return re.match(r"# (.*)\n+> (.*)", "".join(first["source"])).groups()


def llms_txt(cfg):
    "nbdev's list of modules, and after it the pages that aren't made of one, by section."
    home, out = cfg.doc_url.rstrip("/"), [(cfg.nbs_path / "llms.txt").read_text(encoding="utf-8").rstrip()]
    for part in sidebar.sidebar():
        names = [c if isinstance(c, str) else c["href"] for c in part["contents"] if "section" not in c]
        pages = [(name, opening(cfg.nbs_path / name)) for name in names]
        lines = [f"- [{o[0]}]({home}/{Path(name).with_suffix('.html.md').as_posix()}): {o[1]}" for name, o in pages if o]
        if lines: out.append("\n".join([f"## {part['section']}", "", *lines]))
    return "\n\n".join(out) + "\n"


def readme(site, doc_url):
    "README.md is the front page's Markdown copy: links and pictures made absolute, pandas' style blocks left out."
    t = (site / "index.html.md").read_text(encoding="utf-8")
    t = re.sub(r"<style scoped>.*?</style>\n", "", t, flags=re.S)
    home = doc_url.rstrip("/") + "/"
    return re.sub(r"\]\((?!https?:|data:|#)(?:\./)?([^)\s]*)\)", lambda m: f"]({home}{m[1].replace('.html.md', '.html')})", t)


def main(out):
    "Build the site in folder `out` and write README.md; return the exit code."
    cfg = get_config()
    refresh_quarto_yml()
    _build_modidx()
    sidebar.write()
    work = cfg.config_path / "_proc_site"
    stage(proc_nbs(force=True, n_workers=2), work, cfg.doc_url)
    if rc := subprocess.run([sys.executable, "-m", "smalldocs.cli", "render", "--strict", str(work)]).returncode: return rc
    shutil.rmtree(out, ignore_errors=True)
    shutil.move(work / cfg.doc_path.name, out)
    shutil.rmtree(work)
    (out / "llms.txt").write_text(llms_txt(cfg), encoding="utf-8")
    markdown_copies(out)
    search_rows(out)
    at_home(out)
    (cfg.config_path / "README.md").write_text(readme(out, cfg.doc_url), encoding="utf-8")
    return 0


if __name__ == "__main__":
    if not find_spec("smalldocs"): sys.exit("The docs site needs smalldocs, on Python 3.11 or newer: pip install -c constraints.txt -e '.[dev]'")
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "_site").resolve()))
