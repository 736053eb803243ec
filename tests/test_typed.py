"What is typed into a field is understood or refused: no digit is dropped, and nothing is half read."
import re
from decimal import Decimal

import pytest

pytestmark = pytest.mark.light
from hypothesis import given, strategies as st

from audio_ft_prep.typed import read_number, read_typed

UNDERSTOOD = {
    "0,5": 0.5,
    "0.5": 0.5,
    ".5": 0.5,
    ",5": 0.5,
    "5.": 5.0,
    " 2 ": 2.0,
    "1 000": 1000.0,
    "1\u00a0000": 1000.0,
    "1\u202f000,25": 1000.25,
    "1'000": 1000.0,
    "1_000": 1000.0,
    "1.234,5": 1234.5,
    "1,234.5": 1234.5,
    "1,000,000": 1e6,
    "1.000.000": 1e6,
    "1e1": 10.0,
    "1E-2": 0.01,
    "1,5e1": 15.0,
    "１２": 12.0,
    "１２．５": 12.5,
    "١٢٫٥": 12.5,
    "१२": 12.0,
    "−3": -3.0,
    "+3": 3.0,
    "0,125": 0.125,
    "00,500": 0.5,
    "1.000": 1.0,
    "12,5000": 12.5,
}
REFUSED = [
    "abc",
    "5 s",
    "5s",
    "500ms",
    "1 00",
    "1 0000",
    "10 00 000",
    "1,00,000",
    "1.2.3",
    "1,2,3",
    "1..5",
    "1,.5",
    ".",
    ",",
    "-",
    "e5",
    "1e",
    "1e5.5",
    "1e9999",
    "9" * 50,
    "5²",
    "½",
    "1/2",
    "0x10",
    "inf",
    "-inf",
    "nan",
    "Infinity",
    "1 000'000",
    "1.234.5",
    "5 000 s",
    "--5",
    "+-5",
    "5-",
    "1,234,5",
    "1'00",
    "٪5",
    "5%",
    "0.5.",
    "1 ,5",
    "None5",
]
TWO_READINGS = ["1,000", "12,500", "123,456", "１，０００"]


@pytest.mark.parametrize("text", UNDERSTOOD)
def test_numbers_as_people_write_them_are_understood(text): assert read_number(text, False) == UNDERSTOOD[text]


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("whole", [True, False])
def test_what_is_no_number_is_refused_and_shown_as_it_was_typed(text, whole):
    with pytest.raises(ValueError, match="^must be a (whole number|number such as 0.5), got ") as e:
        read_number(text, whole)
    assert repr(text) in str(e.value)


@pytest.mark.parametrize("text", TWO_READINGS)
def test_what_can_be_read_in_two_ways_is_refused_with_both(text):
    with pytest.raises(ValueError, match="to one reader and .* to another: write .* or "): read_number(text, False)


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e9", 10**9),
        ("1 000", 1000),
        ("１２", 12),
        ("7", 7),
        ("5.0", 5),
        ("1,5e3", 1500),
        ("9223372036854775808", 2**63),
        ("1.000.000", 10**6),
    ],
)
def test_whole_numbers_are_whole(text, value):
    got = read_number(text, True)
    assert got == value and type(got) is int


@pytest.mark.parametrize("text", ["0.5", "0,5", "1e-1", "1.000", "1,000", "12.5", "1,5e0"])
def test_a_field_for_whole_numbers_refuses_what_may_be_none(text):
    with pytest.raises(ValueError, match="must be a whole number"): read_number(text, True)


@given(
    st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, places=4),
    st.sampled_from(".,"),
    st.sampled_from(["", " ", "'", "\u202f"]),
)
def test_a_number_is_read_as_it_was_written_whatever_parts_it(number, mark, group):
    whole, decimals = f"{number:,f}".split(".")
    assert read_number(f"{whole.replace(',', group)}{mark}{decimals}", False) == float(number)


@given(st.text("0123456789 .,'eE+-_", max_size=12))
def test_every_digit_that_was_typed_counts_or_the_text_is_refused(text):
    try: got = read_number(text, False)
    except ValueError: return
    mantissa = re.split("[eE]", text.strip())[0]
    digits = re.sub("[^0-9]", "", mantissa)
    power = int((re.split("[eE]", text.strip()) + ["0"])[1])
    marks = [m.start() for m in re.finditer("[.,]", mantissa)]
    one_of_a_kind = marks and mantissa.count(mantissa[marks[-1]]) == 1
    after = len(re.sub("[^0-9]", "", mantissa[marks[-1]:])) if one_of_a_kind else 0
    assert abs(got) == float(Decimal(digits).scaleb(power - after))


@given(st.text(max_size=60), st.sampled_from(["seed", "min_seconds", "max_train_samples", "shard_rows"]))
def test_whatever_is_typed_is_a_number_or_a_sentence_about_the_field(text, name):
    try: got = read_typed(name, text)
    except ValueError as e: assert str(e).startswith(f"{name} must be ")
    else: assert got is None or isinstance(got, (int, float))


@pytest.mark.parametrize("word", ["", "  ", "all", "All", " ALL ", "none", "None", "null"])
def test_a_maximum_that_may_be_left_out_is_left_out_by_words_too(word):
    assert read_typed("max_train_samples", word) is None


@pytest.mark.parametrize(
    "name, value", [("min_seconds", 0.0), ("max_seconds", 30.0), ("seed", 42), ("shard_rows", 0), ("num_workers", 0)]
)
def test_an_empty_field_has_its_default(name, value): assert read_typed(name, " ") == value


@pytest.mark.parametrize("word", ["all", "none"])
def test_a_number_that_must_be_there_is_not_left_out_by_a_word(word):
    with pytest.raises(ValueError, match=f"^seed must be a whole number, got '{word}'$"): read_typed("seed", word)


@pytest.mark.parametrize(
    "text, code",
    [
        ("italiano", "it"),
        ("Deutsch", "de"),
        ("日本語", "ja"),
        ("Italian", "it"),
        ("it-IT", "it-IT"),
        (" it ", "it"),
        ("zh-CN", "zh-CN"),
        ("Klingonisch", "Klingonisch"),
        ("", ""),
    ],
)
def test_a_languages_name_gives_its_code_and_a_code_stays(text, code): assert read_typed("language_code", text) == code
