"Labels are the ids that the model's own tokenizer gives the sentence as it stands, in a language the model has, within its budget."
import json, os, time, unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings, strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE, WhisperTokenizer

import audio_ft_prep
from audio_ft_prep.languages import canonical_language, language_names, nearest_languages
from audio_ft_prep.models import load_model
from audio_ft_prep.vocabulary import SIZES, languages
from audio_ft_prep.text import MOST_CHARACTERS, clean_sentence, has_text
from audio_ft_prep.whisper import has_language, label_language, labels_of, language_tokenizer, too_long, whisper_code
from conftest import reopened

IDS = {"v2": "openai/whisper-small", "v3": "openai/whisper-large-v3", "en": "openai/whisper-tiny.en"}
MODELS = {v: load_model(i) for v, i in IDS.items()}
TOKENIZERS = {v: language_tokenizer(m, "en" if m.english_only else "it") for v, m in MODELS.items()}
variants = pytest.mark.parametrize("variant", IDS)


ORACLES = {v: reopened(t) for v, t in TOKENIZERS.items()}


def plain(tokenizer):
    "The same merges without a single added token: all that this encoder knows is text."
    back_end = json.loads(tokenizer.backend_tokenizer.to_str())
    return Tokenizer.from_str(json.dumps({**back_end, "added_tokens": [], "post_processor": None}))


PLAIN = {v: plain(t) for v, t in ORACLES.items()}


def labels_by_hand(text, variant):
    tokenizer = ORACLES[variant]
    return [
        *tokenizer.prefix_tokens,
        *PLAIN[variant].encode(text, add_special_tokens=False).ids,
        tokenizer.eos_token_id,
    ]


# ---- models

@pytest.mark.parametrize(
    "variant,tokens,end,first_language,transcribe,no_timestamps,mels",
    [
        ("v2", 51865, 50257, 50259, 50359, 50363, 80),
        ("v3", 51866, 50257, 50259, 50360, 50364, 128),
        ("en", 51864, 50256, 50258, 50358, 50362, 80),
    ],
)
def test_ids_are_those_of_the_published_models(variant, tokens, end, first_language, transcribe, no_timestamps, mels):
    model, opened = MODELS[variant], ORACLES[variant]
    id_of = model.tokenizer.convert_tokens_to_ids
    assert len(model.tokenizer) == len(opened) == tokens
    assert model.tokenizer.eos_token_id == id_of("<|endoftext|>") == opened.eos_token_id == opened.pad_token_id == end
    assert model.start_id == end + 1 and model.english_only == (variant == "en") and model.max_labels == 448
    assert (id_of("<|en|>"), id_of("<|it|>"), id_of("<|transcribe|>"), id_of("<|notimestamps|>")) == (
        first_language,
        first_language + 15,
        transcribe,
        no_timestamps,
    )
    assert (id_of("<|0.00|>"), id_of("<|30.00|>")) == (
        no_timestamps + 1,
        tokens - 1,
    ) and no_timestamps == opened.all_special_ids[-1]
    assert model.extractor.feature_size == mels and model.extractor.sampling_rate == 16000


@pytest.mark.parametrize(
    "variant,code,task", [("v2", "it", "transcribe"), ("v3", "yue", "translate"), ("en", "en", "transcribe")]
)
def test_the_files_it_saves_are_those_that_transformers_saves(variant, code, task, tmp_path):
    for tokenizer, name in (
        (MODELS[variant].tokenizer, "plain"),
        (language_tokenizer(MODELS[variant], code, task), "announcing"),
    ):
        ours, theirs = tmp_path/name/"ours", tmp_path/name/"theirs"
        tokenizer.save_pretrained(ours)
        WhisperTokenizer.from_pretrained(ours).save_pretrained(theirs)
        assert (
            sorted(p.name for p in ours.iterdir())
            == sorted(p.name for p in theirs.iterdir())
            == ["tokenizer.json", "tokenizer_config.json"]
        )
        assert (ours/"tokenizer.json").read_bytes() == (theirs/"tokenizer.json").read_bytes()
        mine, other = (json.loads((f/"tokenizer_config.json").read_text()) for f in (ours, theirs))
        assert mine == {k: v for k, v in other.items() if k not in ("is_local", "local_files_only")}   # those say how it was opened
        assert (mine["model_max_length"], mine["pad_token"], mine["clean_up_tokenization_spaces"]) == (
            448,
            "<|endoftext|>",
            False,
        )


def test_languages_are_those_of_transformers_in_its_order():
    assert [*languages()] == [*LANGUAGES] and [names[0] for names in languages().values()] == [*LANGUAGES.values()]
    assert {name: code for code, names in languages().items() for name in names} == TO_LANGUAGE_CODE


@pytest.mark.parametrize("size", SIZES)
def test_every_published_whisper_is_found_without_a_hub(size):
    model = load_model(f"openai/whisper-{size}")
    v3 = "v3" in size
    assert len(model.tokenizer) == 51864 + (not size.endswith(".en")) + v3 and model.extractor.feature_size == (
        128 if v3 else 80
    )
    assert model.origin.startswith("this package")


@pytest.mark.parametrize("variant", ["v3", "en"])
def test_a_folder_gives_the_model_it_was_saved_from(variant, tmp_path):
    MODELS[variant].tokenizer.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=MODELS[variant].extractor.feature_size).save_pretrained(tmp_path)
    (tmp_path/"config.json").write_text('{"max_target_positions": 100}')
    model = load_model(str(tmp_path))
    assert (
        model.origin == "the folder"
        and model.max_labels == 100
        and model.extractor.feature_size == MODELS[variant].extractor.feature_size
    )
    code = "en" if model.english_only else "it"
    texts = ["Il treno parte alle otto.", "Scrivi <|en|>!"]
    assert labels_of(texts, language_tokenizer(model, code)) == labels_of(texts, TOKENIZERS[variant])


@pytest.mark.parametrize("model_id", ["./gone", "/gone/whisper", "~/gone", "gone", "a/b/c"])
def test_a_model_that_is_not_there_is_named(model_id):
    with pytest.raises(FileNotFoundError, match="model_id names a folder or a Hub id") as e: load_model(model_id)
    assert model_id in str(e.value)


def test_a_folder_without_a_whisper_processor_is_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no speech processor at .*it needs tokenizer.json") as e:
        load_model(str(tmp_path))
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    MODELS["v2"].tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="must name a model of Whisper, .* which is a Wav2Vec2FeatureExtractor"):
        load_model(str(tmp_path))


# ---- sentences

@settings(deadline=None, max_examples=200)
@given(st.text(), st.booleans())
@example("J\u030c", True)
@example("\u0130stanbul T\u0308 W\u030a", True)
def test_a_clean_sentence_is_composed_has_single_blanks_and_stays_as_it_is(text, lower):
    clean = clean_sentence(text, lower)
    assert unicodedata.is_normalized("NFC", clean) and clean == " ".join(clean.split())
    assert clean_sentence(clean, lower) == clean
    kept = "".join(c for c in text if c.isspace() or unicodedata.category(c) != "Cc" and c != "\ufeff")
    assert lower or "".join(clean.split()) == (
        "".join(unicodedata.normalize("NFC", kept).split()) if has_text(kept) else ""
    )
    assert not any(unicodedata.category(c) == "Cc" for c in clean)


def test_a_letter_and_its_composed_form_are_one_sentence():
    assert clean_sentence("Perche\u0301 no") == clean_sentence("Perch\u00e9  no") == "Perché no"
    assert clean_sentence("\u1112\u1161\u11ab") == "한" and clean_sentence("ﬁne ²") == "ﬁne ²"


@pytest.mark.parametrize(
    "blank", ["", " ", "\t \r\n", "\u00a0\u2003\u3000", "\u2028\u2029\x85\x0b\x0c", "\x1c\x1d\x1e\x1f"]
)
def test_blanks_of_every_kind_are_no_text(blank):
    assert clean_sentence(blank) == "" and clean_sentence(f"{blank} a {blank} b{blank}") == "a b"


NOTHING = {
    "zero width": "\u200b\u200c\u200d\u2060",
    "a soft hyphen": "\u00ad",
    "a byte-order mark": "\ufeff",
    "variation selectors": "\ufe0f\U000e0100\u180b",
    "directions": "\u202a\u202e\u2066\u2069\u200f",
    "marks": "\u0301\u20dd\u064b",
    "a Hangul filler": "\u3164\uffa0\u115f\u1160",
    "a Braille blank": "\u2800",
    "control characters": "\0\x01\x1b\x7f\x80",
    "tags": "\U000e0001\U000e0041",
    "operators": "\u2061\u2064\u034f",
    "a vowel sign": "\u093e",
    "annotations": "\ufff9\ufffb",
    "no characters": "\ufffe\uffff\ufdd0",
    "all at once": " \u200b\u00a0\u0301\0 \ufeff\u2800\t",
}

@pytest.mark.parametrize("kind", NOTHING)
@pytest.mark.parametrize("lower", [False, True])
def test_what_nobody_sees_is_no_text(kind, lower):
    text = NOTHING[kind]
    assert not has_text(text) and clean_sentence(text, lower) == clean_sentence(f" {text} {text}", lower) == ""
    assert has_text(text + "a") and clean_sentence(text + "a", lower) != ""


@pytest.mark.parametrize(
    "text",
    ["a", "7", "…", "?", "日", "ا", "👍🏽", "-", "\ue000", "می\u200cخواهم", "क्\u200dष", "co\u00adop", "☃\ufe0f"],
)
def test_what_is_seen_is_text_with_all_that_it_is_written_with(text):
    assert has_text(text) and clean_sentence(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    "written, clean",
    [
        ("a\0b", "ab"),
        ("\ufeffCiao", "Ciao"),
        ("uno\x1b[31m due", "uno[31m due"),
        ("e\0\u0301", "é"),
        ("a \x07 b", "a b"),
        ("a\x85b", "a b"),
        ("a\ud800b", "ab"),
    ],
)
def test_control_characters_never_reach_a_label(written, clean):
    assert clean_sentence(written) == clean and labels_of([clean_sentence(written)], TOKENIZERS["v2"]) == labels_of(
        [clean], TOKENIZERS["v2"]
    )


@pytest.mark.parametrize(
    "text",
    ["e" + "\u0301\u0323" * 1_000_000, "a" * 2_000_000, "\u200b" * 2_000_000, " uno" * 500_000],
    ids=["marks", "letters", "invisible", "words"],
)
def test_a_sentence_of_megabytes_is_cleaned_in_no_time(text):
    t = time.process_time()
    assert len(clean_sentence(text, True)) > MOST_CHARACTERS and time.process_time() - t < 1


# ---- labels

@variants
@settings(deadline=None, max_examples=70)
@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_labels_equal_the_tokenizers_own_for_any_text(variant, texts):
    assume(not any("<|" in t for t in texts))
    assert (
        labels_of(texts, TOKENIZERS[variant])
        == ORACLES[variant](texts).input_ids
        == [labels_by_hand(t, variant) for t in texts]
    )


PIECES = [
    "<|",
    "|>",
    "<",
    "|",
    ">",
    "en",
    "it",
    "0.00",
    "29.98",
    "endoftext",
    "startoftranscript",
    "notimestamps",
    "transcribe",
    "nospeech",
    "nocaptions",
    "<|en|>",
    "<|it|>",
    "<|0.02|>",
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|notimestamps|>",
    "<|<|en|>",
    "<||en|>",
    " ",
    "  ",
    "\n",
    "'s",
    "'ll",
    "é",
    "e\u0301",
    "ß",
    "9",
    "²",
    "_",
    "日本",
    "🚂",
]
marked = st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join)


@variants
@settings(deadline=None, max_examples=120)
@given(texts=st.lists(marked, min_size=1, max_size=4))
@example(texts=["<|", "<|a", "<|é|>", "<| en|>", "a <|", " <|en|> ", "<|0.02|>'s", "<|en|><|it|>"])
def test_text_of_control_tokens_stays_text(variant, texts):
    labels = labels_of(texts, TOKENIZERS[variant])
    assert labels == [labels_by_hand(t, variant) for t in texts]
    back = TOKENIZERS[variant].backend_tokenizer
    start = len(TOKENIZERS[variant].prefix_tokens)
    assert [back.decode(l[start:-1], skip_special_tokens=False) for l in labels] == texts


@variants
def test_every_added_token_is_text_when_a_sentence_says_it(variant):
    tokenizer = TOKENIZERS[variant]
    added = [t.content for t in ORACLES[variant].added_tokens_decoder.values()]
    assert len(added) == len(tokenizer) - tokenizer.eos_token_id >= 1607
    start = len(tokenizer.prefix_tokens)
    for text in ("prima {} dopo", "{0}{0}"):
        texts = [text.format(t) for t in added]
        labels = labels_of(texts, tokenizer)
        assert all(max(l[start:-1]) < tokenizer.eos_token_id for l in labels)
        assert labels == [labels_by_hand(t, variant) for t in texts]


@variants
def test_no_sentences_have_no_labels_and_an_empty_one_has_its_frame(variant):
    tokenizer = TOKENIZERS[variant]
    assert labels_of([], tokenizer) == [] and labels_of([""], tokenizer) == [
        [*tokenizer.prefix_tokens, tokenizer.eos_token_id]
    ]


# ---- the budget

def of_length(n, tokenizer):
    "A sentence of `n` labels, the start token among them."
    body = n - len(tokenizer.prefix_tokens) - 1
    return "a" + " a" * (body - 1)


@variants
def test_448_labels_after_the_start_token_are_kept_and_449_are_not(variant):
    model, tokenizer = MODELS[variant], TOKENIZERS[variant]
    fits, over = labels_of([of_length(449, tokenizer), of_length(450, tokenizer)], tokenizer)
    assert (len(fits), len(over)) == (449, 450)
    assert too_long(fits, model) == "" and too_long(over, model) == "449 labels, 448 at most"


@variants
def test_a_long_sentence_is_never_cut(variant):
    tokenizer = TOKENIZERS[variant]
    for text in ("a" + " a" * 4999, "a" + " a" * 4999 + " <|en|>"):
        labels, = labels_of([text], tokenizer)
        assert labels == labels_by_hand(text, variant) and len(labels) > 5000


# ---- languages

SAME = (
    "af am ar as az ba be bg bn br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id is"
    " it ja ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd si sk"
    " sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh bo"
).split()
MAPPED = {
    "sv-SE": "sv",
    "zh-CN": "zh",
    "zh-TW": "zh",
    "pa-IN": "pa",
    "ne-NP": "ne",
    "hy-AM": "hy",
    "nn-NO": "nn",
    "nb-NO": "no",
    "nb": "no",
    "it-IT": "it",
    "it_IT": "it",
    "IT": "it",
    "pt-BR": "pt",
    "en-GB": "en",
    "es-419": "es",
    "zh-Hant-TW": "zh",
    "zh_cn": "zh",
    "el-CY": "el",
    "jv": "jw",
    "jv-ID": "jw",
    "fil": "tl",
    "ms-MY": "ms",
    "gu-IN": "gu",
    "iw": "he",
    "cmn": "zh",
    "cmn-Hans": "zh",
}
NOT_KNOWN = (
    "ab ady ast bas cnh ckb cv dav dv eo fy-NL ga-IE gn hsb ia ig kab kmr ky lg lij ltg mdf mhr mrj myv nan-tw nr"
    " nso or os quy rm-sursilv rm-vallader rw sah sat sc skr ss st syr ti tig tn tok tos ts tw ug ve vec vot xh zgh"
    " zu zza"
).split()


@pytest.mark.parametrize("locale,code", [*((c, c) for c in SAME), *MAPPED.items()])
def test_a_locale_of_common_voice_means_its_language(locale, code):
    assert whisper_code(locale) == code and MODELS["v2"].tokenizer.convert_tokens_to_ids(f"<|{code}|>") in range(
        50259, 50358
    )


@pytest.mark.parametrize("variant,locale", [("v2", "it-IT"), ("v2", "sv-SE"), ("v3", "zh-CN"), ("v3", "jv")])
def test_labels_announce_the_language_of_the_locale(variant, locale):
    assert label_language(MODELS[variant], locale) == whisper_code(locale)


@pytest.mark.parametrize("locale", NOT_KNOWN)
def test_a_locale_that_whisper_does_not_know_is_refused(locale):
    assert whisper_code(locale) not in LANGUAGES
    variant = "v2" if locale < "m" else "v3"
    with pytest.raises(ValueError, match=f"^{IDS[variant]} has no language {locale}: set language to one it has") as e:
        label_language(MODELS[variant], locale)
    assert "\n" not in str(e.value)


def test_every_name_and_code_of_transformers_is_understood_in_any_case():
    for name, code in {**TO_LANGUAGE_CODE, **{c: c for c in LANGUAGES}}.items():
        for text in (name, name.title(), name.upper(), f" {name} "): assert whisper_code(text) == code, text
    for code in LANGUAGES: assert whisper_code(f"{code}-XX") == whisper_code(f"{code.upper()}_xx") == code


WRITTEN = {
    "it": "ita ITA it-IT it_IT.UTF-8 italiano ITALIANO",
    "de": "deu ger DEU de-AT Deutsch german",
    "fr": "fra fre français francais FRANÇAIS",
    "zh": "zho chi cmn zh-Hans zh-Hant-TW 中文 Mandarin",
    "el": "ell gre Ελληνικά ελληνικα",
    "cs": "ces cze čeština CESTINA",
    "fa": "fas per pes فارسی farsi",
    "no": "nor nob nb nb-NO norsk Bokmål",
    "nn": "nno nn-NO Nynorsk",
    "jw": "jv jav jv-ID jw",
    "ms": "msa may zsm ms-MY",
    "eu": "eus baq euskara",
    "hi": "hin हिन्दी हिंदी",
    "vi": "vie vi-VN",
    "he": "heb iw he-IL עברית",
    "yue": "yue zh-yue yue-HK 粵語",
    "tl": "tgl fil Filipino",
    "sr": "srp sr-Latn српски srpski",
}

@pytest.mark.parametrize("code", WRITTEN)
def test_a_language_is_known_by_each_of_its_codes_and_names(code):
    for written in WRITTEN[code].split():
        assert (
            canonical_language(written) == canonical_language(f" {written} ") == whisper_code(written) == code
        ), written


def test_every_language_of_whisper_has_a_three_letter_code_and_its_english_names():
    for code, names in languages().items():
        assert {canonical_language(n) for n in (code, *names)} == {code}
        assert language_names()[code][0].lower() in names
    three = [c for c in languages() if canonical_language(c) == c and len(c) == 3]
    assert three == ["haw", "yue"]


def test_no_name_and_no_code_means_two_languages():
    table = Path(audio_ft_prep.__file__).parent/"data/languages.tsv"
    codes, names = [], []
    for line in table.read_text(encoding="utf-8").splitlines():
        code, others, *called = line.split("\t")
        codes += {code, *others.split()}
        assert (
            called and len({canonical_language(n) for n in called}) == 1 and canonical_language(called[0]) == code
        ), line
    assert len(codes) == len(set(codes))


@given(st.text(max_size=40))
def test_any_text_is_a_language_or_none_and_never_an_error(text):
    assert canonical_language(text) in ("", *language_names())
    assert all(n.endswith(")") for n in nearest_languages(text))


@pytest.mark.parametrize(
    "asked, says",
    [
        ("Itlaian", "did you mean Italian (it)?"),
        ("ital", "did you mean Italian (it)?"),
        ("Portugese", "Portuguese (pt)"),
        ("eo", "no token for Esperanto"),
        ("epo", "no token for Esperanto"),
        ("xx", "such as it, ita, it-IT or Italian"),
        ("Klingon", "such as it, ita, it-IT or Italian"),
    ],
)
def test_a_language_that_a_model_lacks_is_answered_with_one_that_may_be_meant_or_with_the_rule(asked, says):
    with pytest.raises(ValueError) as e: label_language(MODELS["v2"], "it", asked)
    assert says in str(e.value) and "relative" not in str(e.value) and "\n" not in str(e.value)


def test_cantonese_fails_where_it_has_no_token_and_works_where_it_has():
    for asked in (("yue",), ("zh-HK", "Cantonese"), ("yue", "yue")):
        with pytest.raises(
            ValueError, match="openai/whisper-small has no language (yue|Cantonese).*openai/whisper-large-v3"
        ):
            label_language(MODELS["v2"], *asked)
        assert label_language(MODELS["v3"], *asked) == "yue"
    assert not has_language(MODELS["v2"], "yue") and has_language(MODELS["v3"], "yue")
    labels, = labels_of(["你好"], language_tokenizer(MODELS["v3"], "yue"))
    assert MODELS["v3"].tokenizer.convert_ids_to_tokens(labels[:4]) == [
        "<|startoftranscript|>",
        "<|yue|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ]


@pytest.mark.parametrize("language", ["translate", "nospeech", "nocaptions", "0.00", "Klingon", "Italian (Italy)"])
@pytest.mark.parametrize("variant", ["v2", "v3"])
def test_what_is_no_language_is_refused_though_a_token_has_its_name(language, variant):
    with pytest.raises(ValueError, match="has no language"): label_language(MODELS[variant], "it", language)


def test_a_language_that_is_asked_for_wins_and_is_said_when_it_differs(caplog):
    small = MODELS["v2"]
    assert (
        label_language(small, "it-IT", "Italian")
        == label_language(small, "it", "it")
        == label_language(small, "it", "  ")
        == "it"
        and not caplog.records
    )
    assert label_language(small, "ast", "Spanish") == "es"
    assert [r.message for r in caplog.records] == [
        "the corpus is ast, and the labels announce es, as language='Spanish' asks"
    ]


@pytest.mark.parametrize("variant,code,task", [("v2", "su", "translate"), ("v3", "jw", "transcribe")])
def test_labels_announce_the_language_and_the_task(variant, code, task):
    model = MODELS[variant]
    labels, = labels_of(["a"], language_tokenizer(model, code, task))
    assert model.tokenizer.convert_ids_to_tokens(labels) == [
        "<|startoftranscript|>",
        f"<|{code}|>",
        f"<|{task}|>",
        "<|notimestamps|>",
        "a",
        "<|endoftext|>",
    ]
    assert labels[0] == model.start_id


@pytest.mark.parametrize("variant,last", [("v2", "su"), ("v3", "yue")])
def test_a_model_has_the_languages_of_its_family_in_a_row(variant, last):
    model = MODELS[variant]
    codes = [*LANGUAGES][:[*LANGUAGES].index(last) + 1]
    assert [model.tokenizer.convert_tokens_to_ids(f"<|{c}|>") for c in codes] == [*range(50259, 50259 + len(codes))]
    assert model.tokenizer.convert_ids_to_tokens([50259 + len(codes)]) == ["<|translate|>"]


def test_an_english_model_takes_english_and_nothing_else():
    model = MODELS["en"]
    assert (
        label_language(model, "en")
        == label_language(model, "en-GB")
        == label_language(model, "it", "English")
        == "en"
    )
    for asked in (("it",), ("en", "Italian"), ("yue",)):
        with pytest.raises(ValueError, match="openai/whisper-tiny.en knows English only"): label_language(model, *asked)
    labels, = labels_of(["a"], language_tokenizer(model, "en"))
    assert model.tokenizer.convert_ids_to_tokens(labels) == [
        "<|startoftranscript|>",
        "<|notimestamps|>",
        "a",
        "<|endoftext|>",
    ]


def test_an_english_model_is_not_trained_to_translate():
    with pytest.raises(ValueError, match="can't be trained to translate"):
        language_tokenizer(MODELS["en"], "en", "translate")


@variants
def test_the_shared_tokenizer_is_never_changed(variant):
    model = MODELS[variant]
    texts = ["Il treno <|en|>", "a"]
    state = lambda: (
        len(model.tokenizer),
        model.tokenizer.language,
        model.tokenizer.task,
        model.tokenizer.prefix_tokens,
        model.tokenizer(texts).input_ids,
    )
    before = state()
    two = (("en", "transcribe"),) * 2 if model.english_only else (("de", "transcribe"), ("fr", "translate"))
    one, other = (language_tokenizer(model, c, task) for c, task in two)
    assert (labels_of(["a"], one) == labels_of(["a"], other)) == model.english_only
    for t in (one, other): labels_of(texts, t)
    with pytest.raises(ValueError): label_language(model, "kab")
    assert state() == before and load_model(IDS[variant]).tokenizer.prefix_tokens == before[3]


# ---- the published files

SHARED = Path(os.environ.get("AUDIO_FT_PREP_SHARED", ""))
needs_shared = pytest.mark.skipif(
    not os.environ.get("AUDIO_FT_PREP_SHARED"),
    reason="AUDIO_FT_PREP_SHARED names no folder with whisper-processor-v2, -v3 and corpora/cv",
)


def corpus_sentences(language):
    "Every sentence of a language's transcripts, read by other means than ours."
    for path in sorted((SHARED/"corpora/cv/transcript"/language).glob("*.tsv")):
        head, *lines = path.read_text(encoding="utf-8").split("\n")
        at = head.split("\t").index("sentence")
        yield from (l.split("\t")[at] for l in lines if l)


@needs_shared
@pytest.mark.parametrize("language", ["en", "es"])
@pytest.mark.parametrize("variant", ["v2", "v3"])
def test_ids_equal_the_published_tokenizers_on_every_sentence_of_the_corpora(variant, language):
    folder = str(SHARED/f"whisper-processor-{variant}")
    oracle = AutoTokenizer.from_pretrained(folder)
    oracle.set_prefix_tokens(language=language, task="transcribe")
    texts = [*corpus_sentences(language)]
    assert len(texts) > 400
    ours = labels_of(texts, language_tokenizer(MODELS[variant], language))
    wanted = [
        (
            oracle(t).input_ids
            if "<|" not in t
            else [*oracle.prefix_tokens, *plain(oracle).encode(t, add_special_tokens=False).ids, oracle.eos_token_id]
        )
        for t in texts
    ]
    assert ours == wanted == labels_of(texts, language_tokenizer(load_model(folder), language))


@needs_shared
@pytest.mark.parametrize("variant", ["v2", "v3"])
def test_special_tokens_have_the_ids_of_the_published_tokenizers(variant):
    oracle, ours = AutoTokenizer.from_pretrained(str(SHARED/f"whisper-processor-{variant}")), MODELS[variant].tokenizer
    same = lambda vocab: {k.replace("nocaptions", "nospeech"): v for k, v in vocab.items()}     # the families' files differ in this name
    assert same(ours.backend_tokenizer.get_vocab()) == same(oracle.get_vocab())
