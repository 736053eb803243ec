"""Follow every internal link of the built site: it must land on a file and, where it names one, on an id.

Usage, from the project root: python tools/anchors.py _site
"""
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    "The ids and links of one page."
    def __init__(self, text):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        d = dict(attrs)
        self.ids |= {d.get("id"), d.get("name") if tag == "a" else None}
        self.links += [d[k] for k in ("href", "src") if d.get(k)]


def landing(link, at):
    "The file and the id that `link` on page `at` leads to; no file for a link that leaves the site."
    u = urlsplit(link)
    if u.scheme or u.netloc or not (u.path or u.fragment): return None, ""
    to = (at.parent / unquote(u.path)).resolve() if u.path else at
    return (to / "index.html" if to.is_dir() else to), unquote(u.fragment)


def broken(pages):
    "One sentence for each link that leads nowhere."
    for at, page in pages.items():
        for link in page.links:
            to, anchor = landing(link, at)
            if to is None: continue
            if not to.exists(): yield f"{at.name}: no file {link}"
            elif anchor and to in pages and anchor not in pages[to].ids: yield f"{at.name}: no anchor {link}"


if __name__ == "__main__":
    if len(sys.argv) != 2: sys.exit("Usage: python tools/anchors.py _site")
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in Path(sys.argv[1]).resolve().rglob("*.html")}
    if not pages: sys.exit(f"No page in {sys.argv[1]}: build the site with tools/docs_site.py first")
    bad = list(broken(pages))
    print(f"{len(pages)} pages, {sum(len(p.links) for p in pages.values())} links, {len(bad)} broken", *bad, sep="\n  ")
    sys.exit(bool(bad))
