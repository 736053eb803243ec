// The search of the site, in the place and with the interface of Fuse, which smalldocs asks: new Fuse(entries, options).search(asked, {limit}).
// Each word is looked for by itself: as it stands, with another ending, as the beginning of a longer word, or with one letter wrong. What has more of the words,
// and has them in its heading, comes first; pages that answer a question come before the reference of the code.
window.Fuse = class {
  constructor(entries) {
    this.entries = entries.map((item) => ({ item, bags: this.fields.map(([name]) => this.bag(item[name] || "")) }));
    this.known = new Map();   // every word, with the number of entries that have it
    for (const e of this.entries) for (const w of new Set(e.bags.flatMap((b) => [...b.counts.keys()]))) this.known.set(w, (this.known.get(w) || 0) + 1);
  }

  fields = [["title", 5], ["section", 4], ["text", 1]];
  kinds = { Start: 1, Tutorials: 1, Tasks: 1.3, Reference: 1.1, API: 0.45, Project: 0.6 };
  idle = new Set("a an and are at be by can do does for from how i in is it its my no not of on or that the this to what when where which why with".split(" "));

  // Other words for what the pages call something else.
  also = { resume: "stopped", continue: "stopped", restart: "stopped", crash: "stopped", interrupted: "stopped", space: "disk", dataset: "data", datasets: "data", missing: "rejected", skipped: "rejected", dropped: "rejected" };

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

  score({ item, bags }, meant, asked) {
    const worths = meant.map((m) => this.worth(m, bags)), share = worths.filter((x) => x > 0).length / meant.length;
    const named = bags[1].whole === asked ? 3 : bags[0].whole === asked && !item.section ? 2 : item.section ? 1 : 1.2;   // the heading, or the page, is what was typed
    return worths.reduce((a, b) => a + b, 0) * share ** 2 * named * (this.kinds[item.kind] || 1);
  }

  search(asked, { limit = 20 } = {}) {
    const typed = this.words(asked).flatMap((w) => (this.meant(w).length ? [w] : w.split("_").filter(Boolean)));   // a name that isn't there stands for its parts
    const telling = typed.filter((w) => !this.idle.has(w)), pages = new Map();
    const meant = (telling.length ? telling : typed).map((w) => this.meant(w)), said = typed.join(" ");
    if (!meant.length) return [];
    return this.entries.map((e) => ({ item: e.item, score: this.score(e, meant, said) })).filter((hit) => hit.score > 0).sort((a, b) => b.score - a.score)
      .filter(({ item }) => { const p = item.href.split("#")[0], n = (pages.get(p) || 0) + 1; pages.set(p, n); return n <= 2; })   // two places of a page at most
      .slice(0, limit);
  }
};
