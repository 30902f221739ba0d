"""A query is told to be English or another language, be it a sentence or one word."""

from collections import Counter

import pytest

from textreid.captions.language import known_words, reads_as_english, words_of
from textreid.synthetic.vocabulary import all_texts, reading

ENGLISH = """
a woman in a red jacket
red jacket
T-shirt
jet-black hair
person
someone limping
man in a Fjällräven Kånken backpack
cyclist
A GIRL, WALKING
he wears lederhosen
womn in a red jaket
tall dude wih dredlocks
a wman wearin a blck coat
FIND THE MAN IN THE GRAY COAT
find me the guy with the teal hoodie
lady burgundy cardigan colour block trainers
a man’s grey-green parka
a color that is mauve
hijab
a bicycle
nurse
policeman
soldiers
kimono
turban
wheelchair
person pushing a stroller
dog
phone
crossbody
briefcase
earbuds
flip flops
tattooed
asian
Adidas
Nike hoodie
man with a Los Angeles Lakers jersey
an El Salvador jersey
a woman with a T-shirt that says "Bonjour, mon ami"
"a red jacket"
jacket with a π sign
woman sari green
skateboarder w/ a snapback
the weather in London today
number 10 on the back
""".strip().splitlines()  # noqa: RUF001 - apostrophes and letters of other languages

OTHERS = """
Mann mit Jeans
rote Jacke
Jacke
eine Frau in einer roten Jacke
FRAU MIT ROTEM KLEID
Sneaker weiß
Frau im Blazer
Kind auf dem Fahrrad
femme t-shirt rouge
veste rouge
une femme en veste rouge
Femme Avec Un Sac
homme en jean et baskets
una mujer con chaqueta roja
hombre
una chica con sneakers
donna jeans neri
ragazzo con felpa verde e sneaker
uma mulher de casaco vermelho
homem de boné
een vrouw in een rode jas
man in blauw shirt
oude man
man med svart jacka
en kvinna i röd jacka
blå jeans
mand med blå hat
sort t-shirt, hvide sneakers
kobieta w czerwonej kurtce
chłopak w bluzie z kapturem
muž v modré bundě
žena
kırmızı ceketli kadın
kirmizi ceket
wanita dengan jaket merah
pria berjaket hitam
người đàn ông mặc áo đỏ
nguoi dan ong mac ao do
chuan hongse waitao de nüren
akai jaketto no onna
kuroi T-shirt no otoko
laal jacket wali ladki
muzhchina v chernoy kurtke
piros kabátos nő
nainen punaisessa takissa
穿红色外套的女人
man in 红 jacket
赤いジャケットの女性
T-shirt を着た man
빨간 재킷을 입은 여자
남자 jeans
امرأة ترتدي سترة حمراء
женщина в красной куртке
джинсы и футболка
άνδρας με μαύρο μπουφάν
लाल जैकेट पहने महिला
woman mit backpack
wearing una chaqueta
12345
""".strip().splitlines()  # noqa: RUF001 - apostrophes and letters of other languages


@pytest.mark.parametrize("query", ENGLISH)
def test_a_query_in_english_reads_as_english(query: str) -> None:
    assert reads_as_english(query)


@pytest.mark.parametrize("query", OTHERS)
def test_a_query_in_another_language_does_not(query: str) -> None:
    assert not reads_as_english(query)


def test_whatever_describers_write_reads_as_english() -> None:
    texts = [text for text in sorted(all_texts()) if "{" not in text]
    assert len(texts) > 500
    assert [text for text in texts if not reads_as_english(text)] == []


def test_no_word_of_another_language_is_english_too_and_none_is_listed_twice() -> None:
    lists = reading("queries")
    foreign = lists["foreign"].split()
    assert [word for word, times in Counter(foreign).items() if times > 1] == []
    english = {word for name, listed in lists.items() if name != "foreign" for word in listed.split()}
    english = english.union(*(known_words()[name] for name in ("english", "people", "worn", "looks")))
    english = english.union(*map(words_of, all_texts()))
    assert len(english) > 2000
    assert english.intersection(foreign) == set()
    assert [word for word in english if word.startswith(tuple(stem[:-1] for stem in foreign if stem[-1] == "-"))] == []
