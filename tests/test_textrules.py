"What is odd in a sentence, by language: clean sentences have no flag, planted faults have theirs; cleaning; reports."
import re, time
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings, strategies as st

from audio_ft_prep import PrepConfig, plan, prepare
from audio_ft_prep.cleaning import CHANGES, CLEANER_RULES, clean_rows
from audio_ft_prep.flags import FLAGS
from audio_ft_prep.languages import language_names
from audio_ft_prep.load import load_rows
from audio_ft_prep.pipeline import Part, merge
from audio_ft_prep.reported import REPORTED_TSV, read_reported
from audio_ft_prep.rowtext import with_flags
from audio_ft_prep.samesentence import sentence_keys
from audio_ft_prep.scripts import SCRIPTS, scripts_of
from audio_ft_prep.text import clean_sentence
from audio_ft_prep.textrules import TEXT_RULES, text_flags
from conftest import SAMPLE, tar_clips, write_corpus
from layouts import mdc_folder, pack, utterances
from planted import TEXT_KINDS, Clip


def flags_of(sentences, language, most_foreign=0.1):
    rows = pa.table({"sentence": list(sentences), "locale": [language] * len(sentences)})
    return text_flags(rows, language, most_foreign).to_pylist()


CLEAN = {
    "it": [
        "L'arte dell'uso è un po' antica.",
        "È a Roma, no?",
        "«Vieni», disse, “e non tardare”.",
        "Perché l’ONU non c’è?",
        'Disse: "Vieni qui".',
        "Aspetta... ecco!",
        "Ah, sì!",
        "I Beatles; gli U-boot.",
    ],
    "en": [
        "I'm here, aren't I?",
        "A no-go: it's the rock 'n' roll of cooks.",
        "“Why?” she asked — and left.",
        "He said no.",
        "The art of X.",
        "UNESCO",
        "NATO, the EU and a cat.",
        "The bookkeeper saw a goddessship.",
    ],
    "de": [
        "Die Straße ist weiß; die Füße auch.",
        "„Ja“, sagte er, „komm!“",
        "Schifffahrt und Betttuch.",
        "Er hat's nicht auf seine Art.",
        "Das ist ›gut‹ so.",
        "Ich wohne in der U-Bahn-Straße.",
        "O Tannenbaum!",
    ],
    "fr": [
        "L'été, c'est où ? Là-bas !",
        "« Oui », dit-il… « peut-être. »",
        "Y a-t-il un cœur à Nîmes ?",
        "Aujourd’hui, j’ai vu l’œuvre.",
        "À la mairie.",
    ],
    "es": ["¿Cuánto cuesta el niño?", "¡Qué pingüino!", "Y él, ¿a dónde va?", "El «sí» de las niñas.", "O tú o yo."],
    "ar": ["كيف حالك؟", "نعم، لا؛ ربما.", "السَّلامُ عَلَيْكُم", "«مرحبا»", "قال: “تعال”."],
    "zh-CN": ["你好，世界！", "《红楼梦》很长……", "他说：“来吧。”", "二〇二〇年", "张三·李四——走吧。"],
    "ru": ["Где мой зонт?", "«Да», — сказал он.", "Я и ты.", "Ёлка – ёж.", "Вот и всё."],
    "fa": ["می‌خواهم بروم.", "خانه‌ها بزرگ‌اند؟"],
    "hi": ["क्या हाल है?", "यह क्‍यों है।", "राम जाता है।"],
    "bn": ["আপনি কেমন আছেন?", "র‍্যাব"],
    "ja": ["コーヒーを飲む。", "「はい」と言った～", "々は、どう？"],
    "ko": ["안녕하세요?", "네, 그래요."],
    "he": ['צה"ל הוא צבא.', "מה שלומך?"],
    "uk": ["Мʼяч і пам'ять.", "Ґанок є."],
    "th": ["สวัสดีครับ", "ฉัน\u200bรัก\u200bเธอ"],
    "sr": ["Где је мој кишобран?", "Gde je moj kišobran?"],
    "tlh": ["nuqneH", "Где?", "你好"],
}


@pytest.mark.parametrize("language", CLEAN)
def test_a_clean_sentence_has_no_flag(language):
    assert dict(zip(CLEAN[language], flags_of(CLEAN[language], language))) == dict.fromkeys(CLEAN[language], "")


FAULTS = [
    ("it", "Era il 1984.", "digits"),
    ("it", "Il dott. Rossi, l'ing. Verdi, ecc.", "abbreviations"),
    ("it", "Costa tre € al chilo", "symbols"),
    ("it", "Tre km", "abbreviations"),
    ("it", "Il venti % di Ada & Bob", "symbols"),
    ("it", "L'arte dell’uso", "quotes"),
    ("it", 'Disse: "Vieni', "quotes"),
    ("it", "perche` no", "quotes"),
    ("it", "Где мой зонт?", "script"),
    ("it", "Che bellа giornata è questa per noi!", "mixed_alphabets"),
    ("en", "CALL ME NOW PLEASE", "capitals"),
    ("en", "Write to bob@example.org now", "symbols,urls"),
    ("en", "See www.example.com", "urls"),
    ("en", "Yes [laughs] of course", "brackets"),
    ("en", "Yes (of course)", "brackets"),
    ("en", "Nooooo way", "repeated_characters"),
    ("en", "No way!!!!", "repeated_characters"),
    ("en", "Mr. Smith and Dr. Jones, etc.", "abbreviations"),
    ("en", "Good\u200bbye, so\u00adft", "control"),
    ("en", "\u202eGoodbye", "control"),
    ("de", "Das sind z. B. viele.", "abbreviations"),
    ("de", "Das sind z.B. viele, usw.", "abbreviations"),
    ("de", "Absatz § drei", "symbols"),
    ("de", "Ich heiße Ωμέγα und du?", "script"),
    ("fr", "Mme Durand, p. ex.", "abbreviations"),
    ("fr", "Le n° un", "symbols"),
    ("fr", "L'art, c’est tout", "quotes"),
    ("es", "El Sr. Pérez y Ud.", "abbreviations"),
    ("es", "¿Cuántos son 25?", "digits"),
    ("ar", "عندي ٢٥ كتابا", "digits"),
    ("ar", "Hello world", "script"),
    ("ar", "(ضحك) نعم", "brackets"),
    ("ar", "سلاااااام", "repeated_characters"),
    ("zh-CN", "哈哈哈哈", "repeated_characters"),
    ("zh-CN", "（笑）好", "brackets"),
    ("zh-CN", "百分之％", "symbols"),
    ("zh-CN", "有12个", "digits"),
    ("zh-CN", "Hello", "script"),
    ("ru", "Мой iPhone сломался", "script"),
    ("ru", "Это т. е. и т. д.", "abbreviations"),
    ("ru", "Мой дом тaм далеко, где зимой всегда холодно", "mixed_alphabets"),
    ("ru", "ГДЕ МОЙ ЗОНТ", "capitals"),
    ("fa", "\u200cسلام", "control"),
]


@pytest.mark.parametrize("language, sentence, flag", FAULTS)
def test_a_planted_fault_has_its_flag_and_no_other(language, sentence, flag):
    assert flags_of([sentence], language) == [flag]


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_a_fault_planted_in_sentences_of_a_corpus_is_found_in_all_of_them(kind, said):
    rng = np.random.default_rng(0)
    for language, sentences in said.items():
        faulty = [TEXT_KINDS[kind].fault(Clip(None, 0, text), rng, []).sentence for text in sentences]
        assert len(faulty) >= 20 and all(TEXT_KINDS[kind].finding in f.split(",") for f in flags_of(faulty, language))


@pytest.fixture(scope="module")
def said():
    "Twenty sentences or more of two languages, as the sample has them."
    of_sample = {language: load_rows(PrepConfig("sample", language)).rows["sentence"] for language in ("it", "en")}
    clean = {language: map(clean_sentence, texts.to_pylist()) for language, texts in of_sample.items()}
    return {language: list(filter(None, texts)) for language, texts in clean.items()}


def test_a_special_token_is_found_in_any_language():
    tokens = ("<|endoftext|>", "<|it|>", "<|0.00|>", "</s>", "<unk>", "[UNK]", "[MASK]")
    for language in ("it", "ru", "zh-CN"):
        assert all("special_tokens" in flags for flags in flags_of([f"a {token}" for token in tokens], language))
    assert "special_tokens" not in flags_of(["a < b > c | d [forse]"], "it")[0]


def test_the_rules_are_the_flags_of_text():
    assert {*TEXT_RULES, "script"} == {name for name, flag in FLAGS.items() if flag.kind == "text"}


def test_a_threshold_moves_script_and_none_turns_it_off():
    sentence = ["Где мой iPhone сегодня был"]  # 6 of 22 letters
    assert [flags_of(sentence, "ru", most)[0] for most in (0.2, 0.3, None)] == ["script", "", ""]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_rows_together_have_the_flags_that_each_has_alone(sentences):
    sentences = [clean_sentence(s) for s in sentences if s.isprintable()]
    assert flags_of(sentences, "it") == [flags_of([s], "it")[0] for s in sentences]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text("aàе€哈😀! 1", max_size=9), max_size=9))
def test_repeated_characters_are_those_that_a_pattern_of_python_finds(sentences):
    found = TEXT_RULES["repeated_characters"].find(pa.array(sentences, pa.string()), "it").to_pylist()
    assert found == [bool(re.search(r"([^\W\d_]|!)\1{3}", s)) for s in sentences]


def test_every_language_has_the_script_that_cldr_gives_it():
    core = pytest.importorskip("babel.core")
    likely = core.get_global("likely_subtags")
    of_iso = {
        "Latn": "Latin", "Cyrl": "Cyrillic", "Arab": "Arabic", "Deva": "Devanagari", "Beng": "Bengali",
        "Ethi": "Ethiopic", "Hans": "Han", "Hant": "Han", "Kore": "Hangul", "Jpan": "Hiragana", "Hebr": "Hebrew",
        "Grek": "Greek", "Taml": "Tamil", "Telu": "Telugu", "Mlym": "Malayalam", "Knda": "Kannada",
        "Guru": "Gurmukhi", "Gujr": "Gujarati", "Orya": "Oriya", "Sinh": "Sinhala", "Thai": "Thai", "Laoo": "Lao",
        "Khmr": "Khmer", "Mymr": "Myanmar", "Tibt": "Tibetan", "Geor": "Georgian", "Armn": "Armenian",
        "Thaa": "Thaana", "Cans": "Canadian_Aboriginal", "Olck": "Ol_Chiki", "Tfng": "Tifinagh",
    }  # fmt: skip
    for code in language_names():
        assert scripts_of(code), code
        if code in likely: assert of_iso[likely[code].split("_")[1]] in scripts_of(code), code
    named = Counter(code for codes in SCRIPTS.values() for code in codes.split())
    assert set(named) == set(language_names())


def test_every_letter_of_the_sample_is_of_its_language(tmp_path):
    for language in ("it", "en"):
        try: rows = load_rows(PrepConfig("sample", language)).rows
        except FileNotFoundError: continue
        found = Counter(name for flags in flags_of(rows["sentence"].to_pylist(), language) for name in flags.split(","))
        assert not found.keys() & {"script", "mixed_alphabets", "control", "special_tokens", "urls"}


def table_of(sentences, locale="it"):
    return pa.table({"sentence": list(sentences), "locale": [locale] * len(sentences)})


CHANGING = ("html", "zero_width", *(name for name, rule in CLEANER_RULES.items() if "words" in rule.words))
WORDS_STAY = [name for name in CLEANER_RULES if name not in CHANGING]


@pytest.mark.parametrize("rule", WORDS_STAY)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abÀ'’‘‛\"“”„«»「」–—… .,!", max_size=20), max_size=5))
def test_a_rule_that_says_nothing_of_words_changes_none(rule, sentences):
    cleaned = clean_rows(table_of(sentences), rule).sentences
    plain = clean_rows(table_of(sentences)).sentences
    assert sentence_words(cleaned) == sentence_words(plain)


def sentence_words(sentences): return [re.findall(r"\w+", key) for key in sentence_keys(sentences).to_pylist()]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(max_size=20).filter(lambda s: s.isprintable()), max_size=5),
    st.sets(st.sampled_from([*CLEANER_RULES])),
)
def test_what_is_clean_is_clean_in_the_form_that_all_have_and_changes_are_counted(sentences, rules):
    cleaned = clean_rows(table_of(sentences), ",".join(rules))
    after = cleaned.sentences.to_pylist()
    assert after == [clean_sentence(s) for s in after] and set(cleaned.changed) <= set(CHANGES)
    touched = {int(i) for rows in cleaned.changed.values() for i in rows}
    kept = [i for i, text in enumerate(after) if text]
    assert {i for i in kept if after[i] != sentences[i]} <= touched


def test_the_default_changes_what_it_always_did_and_says_so():
    given = ["Perche\u0301  no?", "\ufeffCiao", "Ciao. ", "L’arte", "\u200b", "so\u00adft"]
    cleaned = clean_rows(table_of(given))
    assert cleaned.sentences.to_pylist() == [clean_sentence(s) for s in given]
    assert {rule: rows.tolist() for rule, rows in cleaned.changed.items()} == {
        "control": [1],
        "blanks": [0, 2],
        "composed": [0],
    }


BROKEN = {
    "lines cut short": ("sentence_id\tsentence\tlocale\treason\n1\tCiao.\tit\tgrammar\n2\tUn\n3\n", 1, "2 lines are"),
    "a line that isn't UTF-8": (b"sentence\treason\nCiao.\tgrammar\n\xff\xfe\tx\n", 1, "1 line is"),
    "a sentence on two lines": ("sentence\treason\nCiao\ntutti.\tgrammar\nCiao.\toffensive\n", 2, "1 line is"),
    "columns in another order": ("reason\tlocale\tsentence\ngrammar\tit\tCiao.\n", 1, ""),
    "no such columns": ("a\tb\n1\t2\n", None, "no table of reports"),
    "an empty file": ("", None, "no table of reports"),
    "UTF-16": ("sentence\treason\n".encode("utf-16"), None, "no table of reports"),
    "zeros": (bytes(5000), None, "no table of reports"),
    "a header alone": ("sentence\treason\n", 0, ""),
}


@pytest.mark.parametrize("what", BROKEN)
def test_nothing_in_a_table_of_reports_ends_a_run_and_what_is_broken_is_counted(what, tmp_path):
    content, rows, note = BROKEN[what]
    (tmp_path / REPORTED_TSV).write_bytes(content if isinstance(content, bytes) else content.encode())
    reported = read_reported(tmp_path)
    assert (None if reported.table is None else len(reported.table)) == rows
    assert (note in " ".join(reported.notes)) and bool(reported.notes) == bool(note)


def test_a_table_of_reports_is_read_from_its_own_folder_alone(tmp_path):
    (tmp_path / "away.tsv").write_text("sentence\treason\nCiao.\tgrammar\n")
    inside = tmp_path / "it"
    inside.mkdir()
    (inside / REPORTED_TSV).symlink_to(tmp_path / "away.tsv")
    assert read_reported(inside).table is None


def test_reports_are_read_of_a_release_and_of_its_archive(tmp_path, own_cache):
    items = utterances()
    root = mdc_folder(tmp_path / "release", items)
    (table,) = root.rglob(REPORTED_TSV)
    table.write_text(f"sentence\treason\n{items[0].sentence}\toffensive-language\n", encoding="utf-8")
    for source in (root, pack(root, tmp_path / "it.tar.gz")):
        corpus = load_rows(PrepConfig(str(source), "it"))
        assert corpus.reported.to_pylist() == [{"sentence": items[0].sentence, "reason": "offensive-language"}]
        rows = with_flags(corpus.rows, PrepConfig("sample", "it"), corpus.reported)
        flagged = pc.match_substring(rows["flags"].cast(pa.string()), "reported")
        assert rows["id"].filter(flagged).to_pylist() == [items[0].id]


SAID = [
    "L’arte è <b>bella</b> e *forte*",
    "Ciao \x1b[31mrosso",
    "Perche\u0301  no?",
    "Va bene così.",
    "Sono le 7 e <img src=x onerror=alert(1)>",
]


@pytest.fixture(scope="module")
def odd_corpus(tmp_path_factory):
    "A tree of five sentences that act where they are shown, of which one was reported."
    root = tmp_path_factory.mktemp("odd")
    clips = [data for name, data in sorted(tar_clips(SAMPLE, "it", "test").items())]
    train = [(f"clip{i}", clips[i % len(clips)], text) for i, text in enumerate(SAID)]
    write_corpus(root, {"train": train, "test": [("clip9", clips[0], "Buongiorno.")]})
    reports = "sentence_id\tsentence\tlocale\treason\n1\tVa bene così.\tit\t<i>difficult</i>\x1b[0m\n2\tmezza\n"
    (root / "transcript/it" / REPORTED_TSV).write_text(reports)
    return root


def config(root, **more):
    given = dict(clean="apostrophes", num_workers=1, log_mel="fast", shard_rows=3, train_splits="train")
    return PrepConfig(str(root), "it", **(given | more))


def test_what_became_of_the_text_is_in_plan_prep_json_summary_and_card_and_acts_nowhere(odd_corpus, tmp_path):
    cfg = config(odd_corpus, output_dir=str(tmp_path / "whole"))
    planned = plan(cfg)
    whole = prepare(cfg, progress=False)
    text = whole.prep["text"]
    assert text["changed"] == {"train": {"apostrophes": 1, "control": 1, "blanks": 1, "composed": 1}} and (
        planned.text == text
    )
    assert [e["before"] for e in text["examples"]] == [SAID[0], "Ciao \\x1b[31mrosso", SAID[2]]
    assert text["examples"][0]["after"] == SAID[0].replace("’", "'")
    assert text["reported"] == {"train": {"<i>difficult</i>\\x1b[0m": 1}}
    assert planned.splits["train"]["flags"]["digits"] == 2 and planned.splits["train"]["flags"]["reported"] == 1
    assert any("1 line is no sentence with a reason" in note for note in planned.notes)
    card = (tmp_path / "whole/README.md").read_text()
    assert "## Text" in card and "apostrophes" in card
    for shown in (repr(planned), repr(whole), card, planned._repr_markdown_(), whole._repr_markdown_()):
        assert "\x1b" not in shown
    for markdown in (card.split("\n# ", 1)[1], planned._repr_markdown_(), whole._repr_markdown_()):
        assert not re.search(r"(?<!\\)<(b|i|img)\b", markdown)


def test_parts_say_of_the_text_what_the_whole_does_and_flags_reject_before_decoding(odd_corpus, tmp_path):
    cfg = config(odd_corpus, reject="reported,digits", clean="apostrophes,zero_width", shard_rows=2)
    whole = prepare(replace(cfg, output_dir=str(tmp_path / "whole")), progress=False)
    for i in range(2): prepare(replace(cfg, output_dir=str(tmp_path / f"part{i}")), progress=False, part=Part(i, 2))
    merged = merge([tmp_path / "part0", tmp_path / "part1"], tmp_path / "merged")
    assert merged.prep["text"] == whole.prep["text"] and merged.hash == whole.hash
    assert whole.counts["train"]["rejects"] == {"digits": 2, "reported": 1} and whole.counts["train"]["kept"] == 2
    kept = prepare(config(odd_corpus, output_dir=str(tmp_path / "all")), progress=False)
    assert kept.counts["train"]["kept"] == 5


def test_a_hundred_thousand_sentences_are_flagged_in_a_second_or_so():
    words = "Nel corso del Novecento l'industria crebbe molto perché non vieni 1998 dott. так 你好".split()
    picks = np.random.default_rng(0).integers(0, len(words), (100_000, 9))
    rows = table_of([" ".join(words[i] for i in pick) for pick in picks])
    t = time.process_time()
    text_flags(rows, "it")
    assert time.process_time() - t < 3
