"""Follow every internal link and picture of the built site: each must land on a file and, where it names one, on an id.

Both the pages and their Markdown copies are read. Links that leave the site are listed with --external, and not fetched.

Usage, from the project root: python tools/anchors.py _site [--external]
"""
import re, sys
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
        self.links += [d[k] for k in ("href", "src", "poster") if d.get(k)]
        self.links += [part.split()[0] for part in (d.get("srcset") or "").split(",") if part.strip()]


def markdown_links(text):
    "The links and pictures of a Markdown copy, those in code left out."
    text = re.sub(r"^(```+).*?^\1", "", text, flags=re.S | re.M)
    return re.findall(r"\]\(<?([^)\s>]+)", re.sub(r"`[^`\n]*`", "", text))


def landing(link, at):
    "The file and the id that `link` on page `at` leads to; no file for a link that leaves the site."
    u = urlsplit(link)
    if u.scheme or u.netloc or not (u.path or u.fragment): return None, ""
    to = (at.parent / unquote(u.path)).resolve() if u.path else at
    return (to / "index.html" if to.is_dir() else to), unquote(u.fragment)


def broken(links, pages):
    "One sentence for each link that leads nowhere; the anchors of a Markdown copy are those of its page."
    for at, link in links:
        to, anchor = landing(link, at)
        if to is None: continue
        page = to.with_suffix("") if to.name.endswith(".html.md") else to
        if not to.exists(): yield f"{at.name}: no file {link}"
        elif anchor and page in pages and anchor not in pages[page].ids: yield f"{at.name}: no anchor {link}"


def read(site):
    "The pages of a site, and (place, link) of every link in them and in their Markdown copies."
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(site.rglob("*.html"))}
    links = [(p, l) for p, page in pages.items() for l in page.links]
    return pages, links + [(p, l) for p in sorted(site.rglob("*.html.md")) for l in markdown_links(p.read_text(encoding="utf-8"))]


def main(site, external):
    "Say what was followed and what is broken; return the exit code."
    pages, links = read(site)
    if not pages: sys.exit(f"No page in {site}: build the site with tools/docs_site.py first")
    bad, outside = list(broken(links, pages)), sorted({l for _, l in links if urlsplit(l).scheme in ("http", "https")})
    print(f"{len(pages)} pages, {len(links)} links, {len(bad)} broken; {len(outside)} lead elsewhere", *bad, sep="\n  ")
    if external: print(*outside, sep="\n")
    return bool(bad)


if __name__ == "__main__":
    args = [a for a in sys.argv[1:] if a != "--external"]
    if len(args) != 1: sys.exit("Usage: python tools/anchors.py _site [--external]")
    sys.exit(main(Path(args[0]).resolve(), "--external" in sys.argv))
