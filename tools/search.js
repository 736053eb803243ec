// The search of the site, in the place and with the interface of Fuse, which smalldocs asks: new Fuse(entries, options).search(asked, {limit}).
// Each word is looked for by itself: as it stands, with another ending, as the beginning of a longer word, or with one letter wrong. What has more of the words,
// and has them in its heading, comes first: a page's opening before its sections, and pages that answer a question before the reference of the code.
window.Fuse = class {
  constructor(entries) {
    this.entries = entries.map((item) => ({ item, bags: this.fields.map(([name]) => this.bag(item[name] || "")) }));
    this.known = new Map();   // every word, with the number of entries that have it
    for (const e of this.entries) for (const w of new Set(e.bags.flatMap((b) => [...b.counts.keys()]))) this.known.set(w, (this.known.get(w) || 0) + 1);
  }

  fields = [["title", 5], ["section", 4], ["text", 1]];
  kinds = { Start: 1, Tutorials: 1, Tasks: 1.5, Reference: 1.1, API: 0.45, Project: 0.6 };
  idle = new Set("a an and are at be by can do does for from how i in is it its my no not of on or that the this to what when where which why with".split(" "));

  // Other words for what the pages call something else.
  also = { resume: "stopped", continue: "stopped", restart: "stopped", crash: "stopped", interrupted: "stopped", space: "disk", dataset: "data", datasets: "data", missing: "rejected", skipped: "rejected", dropped: "rejected", overlap: "leak", deduplicate: "leak" };

  // A word without its ending, so that rejects, rejected and rejecting are one; names with an underscore stay as they are.
  stem(w) { return w.includes("_") || w.length < 5 ? w.replace(/^(.{3,})s$/, "$1") : w.replace(/(ings?|ed|es|s)$/, "").replace(/e$/, "").replace(/([^aeiou])\1$/, "$1"); }
  words(text) { return text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) || []; }

  // How often each word stands in a text; a name such as max_seconds counts for its parts too.
  bag(text) {
    const words = this.words(text), counts = new Map();
    for (const w of words.flatMap((w) => (w.includes("_") ? [w, ...w.split("_").filter(Boolean)] : [w]))) counts.set(this.stem(w), (counts.get(this.stem(w)) || 0) + 1);
    return { counts, length: words.filter((w) => !this.idle.has(w)).length, whole: words.join(" ") };
  }

  // Whether two words differ by one letter: changed, added, left out, or swapped with the next.
  near(a, b) {
    if (Math.abs(a.length - b.length) > 1) return false;
    let i = 0;
    while (i < a.length && a[i] === b[i]) i++;
    const [x, y] = [a.slice(i), b.slice(i)];
    return x.slice(1) === y.slice(1) || x === y.slice(1) || x.slice(1) === y || (x[0] === y[1] && x[1] === y[0] && x.slice(2) === y.slice(2));
  }

  // The words of the site that are meant by one that was typed, with how sure that is.
  meant(typed) {
    const w = this.stem(typed), all = [...this.known.keys()];
    const other = this.also[typed] && this.known.has(this.stem(this.also[typed])) ? [[this.stem(this.also[typed]), 0.7]] : [];
    const found = all.filter((k) => k === w || (typed.length > 2 && k.startsWith(typed)) || (w.length > 3 && k.startsWith(w)));
    const sure = (k) => (k === w ? 1 : 0.5 * (w.length / k.length));
    if (found.length || other.length || w.length < 5) return [...found.map((k) => [k, sure(k)]), ...other];
    return all.filter((k) => this.near(k, w)).map((k) => [k, 0.4]);
  }

  // What a word is worth in an entry: rare words more, words of headings more, a word that is often there a little more.
  worth(meant, bags) {
    return Math.max(0, ...meant.map(([k, sure]) => {
      const rare = Math.log(1 + this.entries.length / this.known.get(k));
      return sure * rare * this.fields.reduce((sum, [, weight], i) => {
        const n = bags[i].counts.get(k) || 0;
        return sum + weight * n / (n + 0.6 + bags[i].length / (i < 2 ? 6 : 120));
      }, 0);
    }));
  }

  // How well an entry answers, and whether it goes before the reference of the code: what has every word does, and what is called as was typed.
  scored({ item, bags }, meant, asked) {
    const worths = meant.map((m) => this.worth(m, bags)), all = worths.every((x) => x > 0), share = worths.filter((x) => x > 0).length / meant.length;
    const called = item.section ? bags[1].whole === asked : bags[0].whole === asked;
    const titled = !item.section && meant.every((m) => m.some(([k]) => bags[0].counts.has(k)));   // a page about just that
    const factor = called ? 3 : titled ? 2 : item.section ? 1 : 1.2, kind = this.kinds[item.kind] || 1;
    return { item, called, opens: all && !item.section, first: (called && !!item.section) || (all && kind >= 1), score: worths.reduce((a, b) => a + b, 0) * share ** 2 * factor * kind };
  }

  // A page's opening that has every word stands before the sections of that page, but for one that is called as was typed.
  lifted(hits) {
    const best = new Map(), page = ({ item }) => item.href.split("#")[0];
    for (const h of hits) if (!h.called) best.set(page(h), Math.max(h.score, best.get(page(h)) || 0));
    return hits.map((h) => (h.opens ? { ...h, score: Math.max(h.score, 1.001 * (best.get(page(h)) || 0)) } : h));
  }

  search(asked, { limit = 20 } = {}) {
    const typed = this.words(asked).flatMap((w) => (this.meant(w).length ? [w] : w.split("_").filter(Boolean)));   // a name that isn't there stands for its parts
    const telling = typed.filter((w) => !this.idle.has(w)), pages = new Map();
    const meant = (telling.length ? telling : typed).map((w) => this.meant(w)), said = typed.join(" ");
    if (!meant.length) return [];
    return this.lifted(this.entries.map((e) => this.scored(e, meant, said)).filter((hit) => hit.score > 0)).sort((a, b) => b.first - a.first || b.score - a.score)
      .filter(({ item }) => { const p = item.href.split("#")[0], n = (pages.get(p) || 0) + 1; pages.set(p, n); return n <= 2; })   // two places of a page at most
      .slice(0, limit);
  }
};
