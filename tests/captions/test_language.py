"""English is told from other languages, of a whole caption and of a few words."""

from textreid.captions.language import reads_as_english


def test_a_query_is_told_to_be_english_or_not() -> None:
    for query in (
        "a woman in a red jacket", "red jacket", "T-shirt", "jet-black hair", "person", "someone limping",
        "man in a Fjällräven Kånken backpack", "cyclist", "A GIRL, WALKING", "he wears lederhosen",
    ):  # fmt: skip
        assert reads_as_english(query), query
    for query in (
        "穿红色外套的女人", "赤いジャケットの女性", "женщина в красной куртке", "امرأة ترتدي سترة حمراء", "žena",
        "eine Frau in einer roten Jacke", "rote Jacke", "Frau mit Tasche", "une femme en veste rouge", "veste rouge",
        "una mujer con chaqueta roja", "uma mulher de casaco vermelho", "een vrouw in een rode jas",
        "kobieta w czerwonej kurtce", "en kvinna i röd jacka", "wanita dengan jaket merah", "12345",
    ):  # fmt: skip
        assert not reads_as_english(query), query
