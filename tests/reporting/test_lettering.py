from hypothesis import given, strategies as st

from textreid.reporting.lettering import font, shorten, wrap


@given(st.text(max_size=300))
def test_wrapped_text_is_narrow_and_complete_or_cut(text: str) -> None:
    letters = font(17)
    lines = wrap(text, letters, 400, 4)
    assert 1 <= len(lines) <= 4
    assert all(letters.getlength(line) <= 400 for line in lines)
    if not any(line.endswith("…") for line in lines) and text.isprintable():
        assert " ".join(lines).split() == text.split()


@given(st.text(max_size=80), st.integers(30, 300))
def test_a_shortened_text_is_the_longest_that_fits(text: str, width: int) -> None:
    letters = font(13)
    short = shorten(text, letters, width)
    assert letters.getlength(short) <= width
    assert short.isprintable()
    if text.isprintable() and letters.getlength(text) <= width:
        assert short == text
