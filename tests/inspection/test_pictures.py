"""Pictures: their size as a person sees it, and a thumbnail that is only pixels."""

from __future__ import annotations

import io

import pytest
from pictures import encoded, gradient, photo, with_text_chunk
from PIL import Image
from reports import brightness, thumbnail_of

from service.domain.attachment import AttachmentType
from workers.inspection.images import write_thumbnail


async def test_a_photo_of_a_phone_stands_upright_and_its_thumbnail_tells_nothing_of_its_owner(look):
    report = await look(photo(4000, 3000, orientation=6), "IMG_0001.JPG", "image/jpeg")
    thumbnail = thumbnail_of(report)

    assert (report.content_type, report.attachment_type) == ("image/jpeg", AttachmentType.IMAGE)
    assert report.properties == {"width": 3000, "height": 4000}
    assert (thumbnail.format, thumbnail.size) == ("WEBP", (384, 512))
    assert brightness(thumbnail, (0, 0, 384, 50)) < 40  # left has become top
    assert brightness(thumbnail, (0, 462, 384, 512)) > 215
    assert not thumbnail.getexif()
    assert {"exif", "icc_profile", "xmp"}.isdisjoint(thumbnail.info)
    assert b"SECRET" not in report.thumbnail.read_bytes()


@pytest.mark.parametrize(
    ("orientation", "size", "dark_corner"),
    [
        (1, (300, 200), (0, 0)),
        (2, (300, 200), (299, 0)),
        (3, (300, 200), (299, 199)),
        (4, (300, 200), (0, 199)),
        (5, (200, 300), (0, 0)),
        (6, (200, 300), (199, 0)),
        (7, (200, 300), (199, 299)),
        (8, (200, 300), (0, 299)),
    ],
)
def test_every_orientation_is_undone(tmp_path, orientation, size, dark_corner):
    # A dark corner at the top left of what the sensor saw.
    seen = Image.new("RGB", (300, 200), "white")
    seen.paste("black", (0, 0, 60, 60))
    exif = Image.Exif()
    exif[0x0112] = orientation
    with Image.open(io.BytesIO(encoded(seen, "JPEG", exif=exif))) as picture:
        picture.load()
        buffer = io.BytesIO()
        write_thumbnail(picture, orientation, buffer)
    thumbnail = Image.open(buffer)

    assert thumbnail.size == size
    assert thumbnail.getpixel(dark_corner)[0] < 60


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
async def test_every_common_format_gives_a_size_and_a_thumbnail(look, kind):
    report = await look(encoded(gradient(800, 400), kind), "picture", "application/octet-stream")

    assert report.content_type == f"image/{kind.lower()}"
    assert report.properties == {"width": 800, "height": 400}
    assert thumbnail_of(report).size == (512, 256)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")]
    + [("TIFF", "F"), ("TIFF", "CMYK"), ("JPEG", "L")],
)
async def test_pictures_of_every_depth_have_thumbnails_with_all_their_shades(look, kind, mode):
    grey = gradient(300, 200, "L")
    picture = grey.point(lambda value: value * 257, "I").convert("I;16") if mode == "I;16" else grey.convert(mode)
    report = await look(encoded(picture, kind))
    thumbnail = thumbnail_of(report)

    assert thumbnail.size == (300, 200)
    assert brightness(thumbnail, (0, 0, 30, 200)) < 40
    assert 110 < brightness(thumbnail, (120, 0, 180, 200)) < 145
    assert brightness(thumbnail, (270, 0, 300, 200)) > 215


async def test_what_is_transparent_stays_transparent(look):
    report = await look(encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 0)), "PNG"))

    assert thumbnail_of(report).getpixel((0, 0))[3] == 0


async def test_of_a_moving_picture_the_first_frame_is_shown(look):
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue", "green")]
    report = await look(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    thumbnail = thumbnail_of(report)

    assert report.properties == {"width": 40, "height": 30}
    assert thumbnail.getpixel((5, 5))[0] > 200
    assert not getattr(thumbnail, "is_animated", False)


async def test_several_pictures_in_one_jpeg_as_phones_make_them_are_read(look):
    report = await look(encoded(gradient(200, 100), "MPO", save_all=True, append_images=[gradient(50, 50)]))

    assert (report.content_type, report.properties) == ("image/jpeg", {"width": 200, "height": 100})


async def test_a_jpeg_of_200_megapixels_is_read_at_a_fraction_of_its_size(look):
    report = await look(encoded(Image.new("L", (16_320, 12_240)), "JPEG"))

    assert report.properties == {"width": 16_320, "height": 12_240}
    assert thumbnail_of(report).size == (512, 384)


async def test_a_comment_in_a_png_does_not_get_into_the_thumbnail(look):
    report = await look(with_text_chunk(gradient(20, 20), "SECRET-COMMENT"))

    assert b"SECRET" not in report.thumbnail.read_bytes()


async def test_a_heic_photo_is_kept_without_a_thumbnail(look):
    report = await look(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "IMG_0002.HEIC", "image/heic")

    assert (report.content_type, report.attachment_type) == ("image/heic", AttachmentType.IMAGE)
    assert (report.properties, report.thumbnail, report.text) == ({}, None, None)
