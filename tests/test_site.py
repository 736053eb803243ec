"The docs site in a real browser: the search finds, nothing is cut off, dark is readable, and no page asks anybody but us."
import os, subprocess, sys, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOOKED_AT = ["index", "settings", "reasons", "store", "changes", "tasks/storage", "tutorials/common_voice"]
NARROW, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 1000}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The built site: the folder that SITE names, or one built now."
    if built := os.environ.get("SITE"): return Path(built)
    pytest.importorskip("smalldocs", reason="smalldocs is not installed: it needs Python 3.11")
    out = tmp_path_factory.mktemp("site") / "out"
    subprocess.run([sys.executable, "tools/docs_site.py", str(out)], cwd=ROOT, check=True, capture_output=True, timeout=300)
    return out


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass


@pytest.fixture(scope="module")
def home(site):
    "Where the site is served."
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def open_page(browser, home):
    "Open a page of the site; its `complaints` are what the console and the network had to say."
    contexts = []
    def go(name="index", scheme="light", size=WIDE):
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: page.complaints.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith((home, "data:", "blob:")) else page.complaints.append(f"asks {r.url}"))
        page.goto(f"{home}{name}.html", wait_until="load")
        return page
    yield go
    for c in contexts: c.close()


def names(site): return sorted(p.relative_to(site).as_posix().removesuffix(".html") for p in site.rglob("*.html"))


# Tables that stick out of the window with nothing to scroll them by, and whether the page as a whole does.
STICKS_OUT = """() => {
  const wide = document.documentElement.clientWidth, scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const out = [...document.querySelectorAll('table, pre, img')].filter(e => e.getBoundingClientRect().right > wide + 1 && !scrolls(e)).map(e => e.outerHTML.slice(0, 80));
  return document.documentElement.scrollWidth > wide ? [...out, `the page is ${document.documentElement.scrollWidth} px wide`] : out;
}"""


def test_no_page_complains_or_scrolls_sideways_on_a_telephone(open_page, home, site):
    page, found = open_page(size=NARROW), []
    for name in names(site):
        page.goto(f"{home}{name}.html", wait_until="load")
        found += [f"{name}: {x}" for x in page.evaluate(STICKS_OUT) + page.complaints]
        page.complaints.clear()
    assert found == [], "\n".join(found)


def test_no_page_is_cut_off_in_a_wide_window(open_page, home, site):
    page, found = open_page(), []
    for name in names(site):
        page.goto(f"{home}{name}.html", wait_until="load")
        found += [f"{name}: {x}" for x in page.evaluate(STICKS_OUT)]
    assert found == [], "\n".join(found)


@pytest.mark.parametrize("name", ["settings", "reasons"])
def test_the_tables_of_the_reference_need_no_scrolling_in_a_wide_window(open_page, name):
    hidden = "() => [...document.querySelectorAll('main table')].filter(t => t.scrollWidth > t.parentElement.clientWidth + 1).length"
    assert open_page(name).evaluate(hidden) == 0


@pytest.mark.parametrize("asked,place", [("max_seconds", "settings.html#max_seconds"), ("truncated", "reasons.html#truncated")])
def test_the_search_finds_a_setting_and_a_reason_and_leads_to_its_place(open_page, home, shots, asked, place):
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type(asked)
    hit = page.locator(f"a[href$='{place}']").first
    hit.wait_for(state="visible", timeout=10_000)
    page.screenshot(path=shots / f"site-search-{asked}.png")
    hit.click()
    page.wait_for_url(f"{home}{place}**")
    page.wait_for_function("name => { const y = document.getElementById(name)?.getBoundingClientRect().y; return y > 0 && y < innerHeight; }", arg=asked)
    assert asked in page.locator(f"tr:has(#{asked})").inner_text()
    assert page.complaints == []


# Text that differs too little from what it stands on (WCAG's measure; 4.5 is its bound for text).
PALE = """(bound) => {
  const rgb = c => { const n = (c.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number); return c.startsWith('color(') ? n.map((v, i) => i < 3 ? v * 255 : v) : n; };
  const light = ([r, g, b]) => { const f = v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; return .2126 * f(r) + .7152 * f(g) + .0722 * f(b); };
  const under = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > .5) return c; } return [255, 255, 255]; };
  const shown = e => e.checkVisibility() && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  const contrast = e => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(under(e))].sort((x, y) => y - x); return (a + .05) / (b + .05); };
  return [...document.querySelectorAll('main *, nav *')].filter(e => shown(e) && contrast(e) < bound)
    .map(e => `${e.tagName.toLowerCase()}.${e.className} ${contrast(e).toFixed(1)}: ${e.textContent.trim().slice(0, 40)}`);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(open_page, home, scheme):
    page, found = open_page(scheme=scheme), []
    for name in LOOKED_AT:
        page.goto(f"{home}{name}.html", wait_until="load")
        dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b) < 384")
        assert dark == (scheme == "dark")
        found += [f"{name}: {x}" for x in page.evaluate(PALE, 4.5)]
    assert found == [], "\n".join(found)


def test_each_question_of_the_front_page_leads_to_its_page(open_page, home, site):
    page = open_page()
    rows = page.locator("section#what-do-you-want-to-know table tbody tr")
    answers = [r.locator("a").first.get_attribute("href") for r in rows.all()]
    assert len(answers) >= 5 and all((site / (a.partition("#")[0] or "index.html")).is_file() for a in answers)


@pytest.mark.parametrize("name", LOOKED_AT)
def test_pictures_of_the_pages(open_page, shots, name):
    for kind, scheme, size in (("wide", "light", WIDE), ("dark", "dark", WIDE), ("narrow", "light", NARROW)):
        path = shots / f"site-{name.replace('/', '-')}-{kind}.png"
        open_page(name, scheme, size).screenshot(path=path)
        assert path.stat().st_size > 10_000
