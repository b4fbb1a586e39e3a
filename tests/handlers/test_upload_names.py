"""Names of files: any that a person could give, as they were given, and never a path."""

from __future__ import annotations

import unicodedata
from uuid import UUID

import pytest
from forms import FORM, file_part, form, name_in, named, part
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from service.handlers import uploads
from service.handlers.downloads import content_disposition

NAMES = [
    "a",
    "report.pdf",
    "x" * 255,
    "\U0001f4c4" * 255,
    "Straße – naïve.txt",
    unicodedata.normalize("NFC", "café.txt"),
    unicodedata.normalize("NFD", "café.txt"),
    "\u202egpj.exe\u200f",
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "CON",
    "C:\\temp\\a.txt",
    "\\\\server\\share.txt",
    'say "hi".txt',
    "100%.txt",
    "%2e%2e%2f",
    "a;b=c; filename*=UTF-8''evil.exe",
    " spaces ",
    "a'b''c.txt",
    "\u2028\ufeff\uffff",
    "名前.xlsx",
]
ORDINARY_NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255)


@pytest.fixture
async def files(open_session):
    """A session's path to its files."""
    return f"/sessions/{(await open_session())['id']}/attachments"


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_comes_back_as_it_was_given_in_json_and_in_headers(api, files, name):
    sent = {
        "raw": await api.post(files, content=b"x", headers=named(name)),
        "form": await api.post(files, content=form(file_part(b"x", name)), headers=FORM),
    }

    for how, answer in sent.items():
        assert answer.status_code == 201, answer.text
        assert answer.json()["filename"] == name, how
        download = await api.get(f"{files}/{answer.json()['id']}")
        assert name_in(download.headers) == name
        assert not set(download.headers["content-disposition"]) & set("\r\n\0")


@settings(max_examples=rounds(300), deadline=None)
@given(ORDINARY_NAMES)
def test_any_name_comes_back_as_it_was_given(name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')

    def read(header, unquote, read_as):
        return uploads._filename(header, unquote, read_as, "header")

    assert read(named(name)["Content-Disposition"], uploads._quoted_string, "latin-1") == name
    as_sent = f'attachment; filename="{quoted}"'.encode().decode("latin-1")
    assert read(as_sent, uploads._quoted_string, "latin-1") == name
    # Browsers escape neither percent signs nor backslashes, other clients do: these names can mean two things in forms.
    if not any(ambiguous in f'{name}"' for ambiguous in ("%22", "%0D", "%0A", '\\"')):
        in_form = 'form-data; name="file"; filename="' + name.replace('"', "%22") + '"'
        assert read(in_form, uploads._form_value, "utf-8") == name
    assert name_in({"content-disposition": content_disposition(name)}) == name


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (None, "unnamed"),
        ("attachment", "unnamed"),
        ('attachment; filename=""', "unnamed"),
        ("attachment; filename*=UTF-8''", "unnamed"),
        ("attachment; filename=plain.txt", "plain.txt"),
        ('inline; FileName="quoted name.txt"', "quoted name.txt"),
        ('attachment; filename="a\\"b\\\\c.txt"', 'a"b\\c.txt'),
        ('attachment; filename="100%22.txt"', "100%22.txt"),
        ("attachment; filename*=utf-8'en'%E2%82%AC.txt", "€.txt"),
        ("attachment; filename*=ISO-8859-1''na%EFve.txt", "naïve.txt"),
        ("attachment; filename=\"EURO.txt\"; filename*=UTF-8''%E2%82%AC.txt", "€.txt"),
        ("attachment; filename*=UTF-8''%E2%82%AC.txt; filename=\"EURO.txt\"", "€.txt"),
        ("attachment; filename=\"x; filename*=UTF-8''evil.exe\"", "x; filename*=UTF-8''evil.exe"),
        ('attachment; filename="naïve €.txt"', "naïve €.txt"),
    ],
)
async def test_a_raw_body_is_named_by_its_content_disposition(api, files, disposition, name):
    headers = {} if disposition is None else {"Content-Disposition": disposition.encode()}

    answer = await api.post(files, content=b"x", headers=headers)

    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == name


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('name="file"', "unnamed"),
        ('name="file"; filename=""', "unnamed"),
        ("name=file; filename=plain.txt", "plain.txt"),
        ('name="file"; filename="a%22b.txt"', 'a"b.txt'),
        ('name="file"; filename="a\\"b.txt"', 'a"b.txt'),
        ('name="file"; filename="x; filename*=UTF-8\'\'evil.exe"', "x; filename*=UTF-8''evil.exe"),
        ("name=\"file\"; filename*=UTF-8''%E2%82%AC.txt", "€.txt"),
        ('filename="naïve €.txt"; name="file"', "naïve €.txt"),
    ],
)
async def test_a_forms_file_is_named_by_its_part(api, files, disposition, name):
    answer = await api.post(files, content=form(part(disposition, b"x")), headers=FORM)

    assert answer.status_code == 201, answer.text
    assert answer.json()["filename"] == name


@pytest.mark.parametrize(
    "disposition",
    [
        "attachment; filename*=UTF-8''a%00b",
        "attachment; filename*=UTF-8''a%0D%0AX-Evil:%201",
        "attachment; filename*=UTF-8''a%0Ab",
        "attachment; filename*=UTF-8''a%1Bb",
        "attachment; filename*=UTF-8''a%C2%85b",
        "attachment; filename*=UTF-8''%ED%A0%80",
        "attachment; filename*=UTF-8''%FF",
        "attachment; filename*=UTF-8''%C0%AF",
        "attachment; filename*=utf-16''%FF%FEa%00",
        "attachment; filename*=rot13''uryyb",
        "attachment; filename*=UTF-8''" + "x" * 256,
        'attachment; filename="' + "x" * 256 + '"',
        b'attachment; filename="na\xefve.txt"',
        b'attachment; filename="a\x7fb"',
    ],
)
async def test_a_name_that_nobody_could_show_is_refused(api, files, disposition):
    said = disposition if isinstance(disposition, bytes) else disposition.encode()
    in_form = b'name="file"' + said.removeprefix(b"attachment")

    raw = await api.post(files, content=b"x", headers={"Content-Disposition": said})
    whole = await api.post(files, content=form(part(in_form, b"x")), headers=FORM)

    assert (raw.status_code, raw.json()["errors"][0]["path"]) == (400, "header.Content-Disposition")
    assert (whole.status_code, whole.json()["code"]) == (400, "invalid_request")
    assert whole.json()["errors"][0]["path"] in {"body.file.filename", "body"}
    assert (await api.get(files)).json()["data"] == []


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b"])
async def test_a_forms_name_with_a_line_break_or_nul_is_refused(api, files, name):
    answer = await api.post(files, content=form(file_part(b"x", name)), headers=FORM)

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "body.file.filename")


async def test_no_part_of_a_name_is_part_of_a_path(own_app):
    async with own_app() as own:
        files = await own.open_session()
        for name in NAMES:
            assert (await own.api.post(files, content=name.encode(), headers=named(name))).status_code == 201

        kept = {row["key"] for row in await own.sql("SELECT key FROM blobs")}
        names = own.place.names()
    assert names == kept
    assert len(kept) == len(NAMES)
    assert all(UUID(name.partition("/")[2]).hex[-2:] == name[:2] for name in names)
