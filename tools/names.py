"""What nbdev writes about the names of the package, put right: where a link to a name lands, and how its signature reads.

Importing it is enough; tools/docs_site.py does, and so do the processes that nbdev spawns from there.
"""
import re
from importlib import import_module

from nbdev import doclinks
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup
from nbdev.processors import exec_show_docs
from nbdev.showdoc import BasicMarkdownRenderer

from audio_ft_prep.config import field_types
from audio_ft_prep.rejects import REASONS
from audio_ft_prep.tablecolumns import COLUMNS

LIB = get_config().lib_name
# Words that mean something else than the function of that name: they are linked where they are written as a call, and on the function's own page.
WORDS = {
    *field_types(),
    *REASONS,
    *(name for names in COLUMNS.values() for name in names),
    "sample",
    "labels",
    "audio",
    "features",
    "train",
    "eval",
}
# A link that is there already, which stays as it is, or a name in backticks.
NAMED = re.compile(r"!?\[(?:[^\[\]\n]|\[[^\]\n]*\])*\]\([^)\n]*\)|(?<!`)`([\w.]+)(\(\))?`(?!`)")


class Here:
    "The page at hand."
    module = None   # the module that is made of it


def symbols():
    "Every name of the package with its page, by module, as nbdev's index has them."
    return import_module(f"{LIB}._modidx").d["syms"]


def modules():
    "Modules in the order in which a name is looked for: the page's own, the others, and last the command, whose functions are called like what they call."
    rest = sorted((m for m in symbols() if m != Here.module), key=lambda m: (m == f"{LIB}.cli", m))
    return [Here.module, *rest] if Here.module in symbols() else rest


def qualified(name):
    "The full name of what a page calls `name`; none for what isn't ours."
    full = [name] + [f"{m}.{name}" for m in modules()]
    return next((n for n in full for m, syms in symbols().items() if n in syms), None)


def parted(full):
    "Module and name of a full name."
    mod = next(m for m, syms in symbols().items() if full in syms)
    return mod, full[len(mod) + 1:]


def anchor(full):
    "The id of a name's heading. A class whose name differs from a function's by its capital alone has one of its own."
    mod, name = parted(full)
    twins = [n for n in symbols()[mod] if n.lower() == full.lower() and n != full]
    return name.lower() + ("-class" if twins and name != name.lower() else "")


def doc(self, name):
    "Where a name is told."
    full = qualified(name)
    if not full: return plain_doc(self, name)
    return plain_doc(self, full).partition("#")[0] + "#" + anchor(full)


def code(self, name):
    "Where a name's source is, with its line."
    full = qualified(name)
    if not full: return plain_code(self, name)
    _, py, gh = self[full]
    return f"{gh}#L{doclinks._lineno(parted(full)[1], py)}"


def linked(self, line):
    "Link the names in a line of Markdown; a heading isn't one to follow, and a link within a link is none."
    def link(m):
        name, call = m[1], m[2] or ""
        if not name or name in WORDS and not call and qualified(name) not in symbols().get(Here.module, ()): return m[0]
        to = self.doc(name)
        return f"[`{name}{call}`]({to})" if to else m[0]
    return line if line.startswith("#") else NAMED.sub(link, line)


def begin(self):
    "Remember whose page it is."
    names = [
        c.directives_["default_exp"]
        for c in self.nb.cells
        if "default_exp" in (getattr(c, "directives_", None) or {})
    ]
    Here.module = f"{LIB}.{names[0]}" if names else None
    plain_begin(self)


def exported(sym):
    "The class as its module has it: a class made in a docs cell has no source file, and so no words about its fields."
    if not isinstance(sym, type) or sym.__module__ != "__main__": return sym
    full = qualified(sym.__qualname__)
    return getattr(import_module(parted(full)[0]), sym.__name__) if full else sym


def init(self, sym, *args, **kwargs):
    "What documents a name, made of the exported one."
    plain_init(self, exported(sym), *args, **kwargs)


def makes_its_own(cls):
    "Whether what makes an instance is written here, not inherited from another package."
    owner = next(c for c in cls.__mro__ if {"__init__", "__new__"} & vars(c).keys())
    return owner.__module__.startswith(LIB) or owner.__module__ == "__main__"


def signature(r):
    "How a name is called. Of a class that another package makes, its bases are enough: the rest is told there."
    text = re.sub(r'(?<=[:>])"([A-Z]\w*\[[^"\n]*\])"', r"\1", str(r.dm))
    if not isinstance(r.sym, type): return text
    if not makes_its_own(r.sym): return f"class {r.nm}({', '.join(b.__name__ for b in r.sym.__bases__)})"
    return re.sub(r"\)(->None)?:\s*$", ")", re.sub(r"^def ", "class ", text))


def source_link(full):
    return (
        f'[source]({NbdevLookup().code(full)}){{target="_blank" style="float:right; font-size:smaller"}}'
        if full
        else ""
    )


def shown(self):
    "A name's heading, signature and line, with its source at the right."
    full = qualified(self.fn)
    named = f" {{#{anchor(full)}}}" if full and anchor(full).endswith("-class") else ""
    said = re.sub(r"^(\s*)(.+)", r"\1*\2*", self.docs or "", count=1)
    parts = (
        "---",
        source_link(full),
        f"{'#' * self.title_level} {self.nm}{named}",
        f"```python\n{signature(self)}\n```",
        said,
    )
    return "\n\n".join(filter(None, parts))


plain_doc, plain_code, plain_begin, plain_init = (
    NbdevLookup.doc,
    NbdevLookup.code,
    exec_show_docs.begin,
    BasicMarkdownRenderer.__init__,
)
NbdevLookup.doc, NbdevLookup.code, NbdevLookup.link_line = doc, code, linked
exec_show_docs.begin = begin
BasicMarkdownRenderer.__init__, BasicMarkdownRenderer._repr_markdown_ = init, shown
