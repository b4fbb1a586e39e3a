"""Whatever a text is encoded in, the words come out."""

from __future__ import annotations

import codecs
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import text_of

from workers.inspection.charsets import codec_of, name_of
from workers.inspection.reading import TextOutput

WESTERN_TEXTS = {
    "german": "Größe;Preis in €;“Zitat” – ähnlich\r\nMüller;12,50 €;schön\r\nJürgen Weiß;3,00 €;Straße\r\n",
    "short german": "Name;Preis\r\nÄpfel;3 €\r\n",
    "repeated german": "Name;Preis\nÄpfel;3 €\n" * 20,
    "french": "Le garçon a mangé à l’hôtel où il était très fatigué. Cœur, été, naïve, dès, voilà.\n",
    "short french": "prénom,âge\nZoë,3\nFrançois,4\n",
    "spanish": "El niño comió en la mañana; señor Muñoz, ¿cómo está? Adiós, corazón, índice.\n",
    "portuguese": "A informação não está disponível; João comeu maçã e pão. Ações, útil.\n",
    "italian": "Perché la città è così bella? Lunedì, martedì, però, più, caffè.\n",
    "swedish": "Åsa åkte till Örebro för att köpa smör, kött och ägg. Förändring på båten.\n",
    "danish": "Rødgrød med fløde på en ø. Æblerne blev plukket på Færøerne. Så går vi.\n",
    "prices": "item,price\nbolt,€ 3\nnut,£ 2\n",
}


@pytest.mark.parametrize("text", WESTERN_TEXTS.values(), ids=WESTERN_TEXTS)
def test_western_european_texts_are_windows_1252(text):
    assert codec_of(text.encode("cp1252")) == "cp1252"


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("cp1250", "Zażółć gęślą jaźń. Łódź jest piękna, a świat jest wielki. Proszę książkę.\n"),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy. Děti šly do školy, řeka teče.\n"),
        ("cp1250", "Árvíztűrő tükörfúrógép. Az őszi erdő gyönyörű, a gyűjtő örült.\n"),
        ("cp1251", "Привет, мир! Это обычный русский текст про погоду и книги.\n"),
        ("koi8-r", "Привет, мир! Это обычный русский текст про погоду и книги.\n"),
        ("cp1253", "Καλημέρα κόσμε! Αυτό είναι ένα ελληνικό κείμενο.\n"),
        ("cp1254", "Günaydın dünya! Bugün hava çok güzel, şehir ışıl ışıl. Öğrenci geldi.\n"),
        ("shift_jis", "こんにちは世界。これは日本語のテキストです。東京都。\n"),
        ("gb18030", "你好，世界！这是一个中文文本，用于测试编码检测。\n"),
        ("big5", "你好，世界！這是一個中文文本，用於測試編碼檢測。\n"),
        ("euc_kr", "안녕하세요 세계! 이것은 한국어 텍스트입니다.\n"),
    ],
)
def test_texts_of_other_scripts_come_out_right(codec, text):
    encoded = ("number;1\n" + text).encode(codec)

    assert encoded.decode(codec_of(encoded)) == "number;1\n" + text


@pytest.mark.parametrize(
    ("encoded", "charset"),
    [
        (b"plain", "utf-8"),
        ("ä €\n".encode(), "utf-8"),
        ("ä €\n".encode("utf-8-sig"), "utf-8"),
        ("ä €\n".encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + "ä €\n".encode("utf-16-be"), "utf-16"),
        ("ä €\n".encode("utf-32"), "utf-32"),
        ("Some words without a mark\n".encode("utf-16-le"), "utf-16"),
        ("Some words without a mark\n".encode("utf-16-be"), "utf-16"),
        ("ä €\n".encode("cp1252"), "windows-1252"),
    ],
)
async def test_text_comes_out_in_utf8_and_its_encoding_is_told(look, encoded, charset):
    report = await look(encoded, "x.txt", "text/plain")

    assert report.properties["charset"] == charset
    assert text_of(report) in {"plain", "ä €\n", "Some words without a mark\n"}
    assert name_of(codec_of(encoded)) == charset


async def test_a_csv_in_windows_1252_comes_out_right(look):
    report = await look(WESTERN_TEXTS["german"].encode("cp1252"), "preise.csv", "text/csv")

    assert text_of(report) == WESTERN_TEXTS["german"]
    assert report.properties == {
        "charset": "windows-1252",
        "rows": 3,
        "columns": 3,
        "delimiter": ";",
        "text_length": len(WESTERN_TEXTS["german"]),
    }


def test_a_text_in_utf8_with_a_broken_or_a_cut_character_is_still_one():
    assert codec_of("ä".encode() * 500 + b"\xff" + "ö".encode() * 500) == "utf-8"
    assert codec_of(("x" * 1000 + "ä").encode()[:-1]) == "utf-8"


@pytest.mark.parametrize("binary", [bytes(range(1, 256)), b"\x89ABC\x00\x01", bytes(100), b"\x01\x02\x03\x04"])
def test_bytes_that_are_no_text_are_not_taken_for_one(binary):
    assert codec_of(binary) is None


@given(st.binary(min_size=1))
def test_what_is_taken_for_text_can_be_decoded(content):
    codec = codec_of(content)

    assert codec is None or isinstance(content.decode(codec, errors="replace"), str)


@given(st.lists(st.text(st.characters(codec=None))), st.integers(0, 40))
def test_extracted_text_is_valid_fits_and_is_cut_between_characters(pieces, bytes_max):
    file = io.BytesIO()
    text = TextOutput(file, bytes_max)
    for piece in pieces:
        text.write(piece)
    written = file.getvalue()

    assert len(written) <= bytes_max
    assert len(written.decode()) == text.length
    assert "\0" not in written.decode()
    assert text.is_cut or len(written) <= sum(len(piece.encode(errors="replace")) * 3 for piece in pieces)


async def test_text_is_capped_at_a_characters_boundary_and_tells_so(look):
    report = await look("ä€😀".encode() * 1000, "x.txt", text_bytes_max=1000)

    assert text_of(report) == "ä€😀" * 111
    assert len(report.text.read_bytes()) <= 1000
    assert report.properties == {"charset": "utf-8", "text_length": 333, "text_truncated": True}


async def test_line_ends_are_kept_and_control_characters_are_not(look):
    report = await look(b"a\r\nb\n\tc\rd" + b"e" * 2000 + b"\x1b[31m\x07", "x.txt")

    assert text_of(report) == "a\r\nb\n\tc\rd" + "e" * 2000 + "[31m"


async def test_a_text_without_a_word_is_none(look):
    report = await look(b" \n\t\n", "x.txt")

    assert (report.text, report.properties) == (None, {"charset": "utf-8"})
