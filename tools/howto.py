"""Write the tutorials as Markdown, for the platform's catalogue: docs/howto/NAME.md from nbs/tutorials/NAME.ipynb.

Usage, from the project root: python tools/howto.py [docs/howto]
"""
import json, re, sys
from pathlib import Path

from nbdev.config import get_config, nbpath2html

PAGES = Path(__file__).resolve().parents[1] / "nbs"
TUTORIALS = PAGES / "tutorials"


def shown(output):
    "What a saved output says in text; none for one that is a picture, a player or a page alone."
    text = "".join(output.get("text") or output.get("data", {}).get("text/plain", "")).rstrip("\n")
    return "" if text.startswith("<IPython.") else text


def landing(link):
    "Where a link of a tutorial leads from docs/howto: to another tutorial there, or to a page of the site."
    at, _, anchor = link.partition("#")
    page = (TUTORIALS / at).resolve().relative_to(PAGES)
    to = (
        page.with_suffix(".md").name
        if page.parent.name == "tutorials"
        else f"{get_config().doc_url.rstrip('/')}/{nbpath2html(page)}"
    )
    return to + f"#{anchor}" * bool(anchor)


def block(cell):
    "The Markdown of a cell; none for one that readers don't see."
    source = "".join(cell["source"])
    if source.startswith("#| hide"): return ""
    if cell["cell_type"] == "markdown":
        return re.sub(r"\]\(((?!https?:)[^)\s]+\.ipynb(#[^)\s]*)?)\)", lambda m: f"]({landing(m[1])})", source)
    outputs, source = [] if source.startswith("#| output: false") else cell["outputs"], re.sub(
        r"^#\|.*\n", "", source, flags=re.M
    )
    rich = ["".join(o["data"]["text/markdown"]) for o in outputs if "text/markdown" in o.get("data", {})]
    said = "\n".join(filter(None, map(shown, outputs)))
    return f"```python\n{source}\n```" + (f"\n\n{rich[0]}" if rich else f"\n\n```text\n{said}\n```" if said else "")


def howto(path):
    "A tutorial as one page of Markdown."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return (
        f"<!-- made from nbs/tutorials/{path.name} by tools/howto.py -->\n\n"
        + "\n\n".join(filter(None, map(block, cells)))
        + "\n"
    )


def main(out):
    "Write a page for each tutorial, and remove those whose tutorial is gone."
    out.mkdir(parents=True, exist_ok=True)
    pages = {f"{p.stem}.md": howto(p) for p in sorted(TUTORIALS.glob("*.ipynb"))}
    for old in out.glob("*.md"):
        if old.name not in pages: old.unlink()
    for name, text in pages.items(): (out / name).write_text(text, encoding="utf-8")


if __name__ == "__main__": main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/howto"))
