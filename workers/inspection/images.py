"""Pictures: their size as a person sees it, and a thumbnail that carries nothing but pixels."""

from __future__ import annotations

from typing import BinaryIO, cast

from PIL import AvifImagePlugin, Image
from PIL.ExifTags import Base

from workers.inspection.limits import PIXELS_MAX, PIXELS_MAX_JPEG, THUMBNAIL_SIDE_MAX
from workers.inspection.reading import Reading
from workers.inspection.refusals import Refusal, Unreadable

FORMATS = {
    "image/avif": ("AVIF",),
    "image/bmp": ("BMP",),
    "image/gif": ("GIF",),
    "image/jpeg": ("JPEG", "MPO"),  # several pictures in one file, as phones make them
    "image/png": ("PNG",),
    "image/tiff": ("TIFF",),
    "image/webp": ("WEBP",),
}

TOO_MANY_PIXELS = f"The picture has more than {PIXELS_MAX // 1_000_000} million pixels."
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an EXIF orientation. Pillow's own function writes the whole EXIF anew, and stumbles over odd ones."""

LYING_ON_ITS_SIDE = {5, 6, 7, 8}

QUALITY = 80
"""Of WebP; below it faces suffer at this size."""

PALETTES = {"1", "P", "PA"}
DEEP_GREYS = {"F", "I", "I;16", "I;16B", "I;16L", "I;16N"}
GREYS = 255

Image.MAX_IMAGE_PIXELS = None  # our own limits are below, stricter and by format
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there are no threads behind the locks


def parse(reading: Reading) -> None:
    """Measure the picture and make its thumbnail, of the first frame where it moves."""
    with Image.open(reading.source, formats=FORMATS[reading.file_type.content_type]) as picture:
        width, height = picture.size
        is_jpeg = reading.file_type.content_type == "image/jpeg"
        if width * height > (PIXELS_MAX_JPEG if is_jpeg else PIXELS_MAX):
            raise Unreadable(Refusal.DECOMPRESSION_LIMIT, TOO_MANY_PIXELS)
        picture.draft(None, (THUMBNAIL_SIDE_MAX * 2, THUMBNAIL_SIDE_MAX * 2))  # a JPEG is decoded at a fraction
        if picture.width * picture.height > PIXELS_MAX:
            raise Unreadable(Refusal.DECOMPRESSION_LIMIT, TOO_MANY_PIXELS)
        is_loaded = _load(picture)
        orientation = _orientation(picture)
        if orientation in LYING_ON_ITS_SIDE:
            width, height = height, width
        reading.properties["width"], reading.properties["height"] = width, height
        if is_loaded:
            write_thumbnail(picture, orientation, reading.thumbnail)


def _load(picture: Image.Image) -> bool:
    """Decode the picture; false where memory does not suffice, as for WebP, which takes 16 bytes a pixel."""
    try:
        picture.load()
    except MemoryError:
        return False
    return True


def write_thumbnail(picture: Image.Image, orientation: int, file: BinaryIO) -> None:
    """Write a picture as WebP, at most 512 pixels long or high, upright, without metadata; it is used up by that."""
    has_alpha = picture.has_transparency_data
    if picture.mode in PALETTES:
        picture = picture.convert("RGBA" if has_alpha else "RGB")  # numbers of colours cannot be averaged
    picture.thumbnail((THUMBNAIL_SIDE_MAX, THUMBNAIL_SIDE_MAX))
    if picture.mode in DEEP_GREYS:
        picture = _shallow(picture)
    if orientation in UPRIGHT:
        picture = picture.transpose(UPRIGHT[orientation])
    picture.convert("RGBA" if has_alpha else "RGB").save(
        file, "WEBP", quality=QUALITY, exif=b"", xmp=b"", icc_profile=b""
    )


def _shallow(picture: Image.Image) -> Image.Image:
    """Map greys of more than eight bits onto eight: the darkest black, the brightest white."""
    deep = picture.convert("F")
    darkest, brightest = cast("tuple[float, float]", deep.getextrema())
    scale = GREYS / (brightest - darkest) if brightest > darkest else 0.0
    return deep.point(lambda grey: grey * scale - darkest * scale).convert("L")


def _orientation(picture: Image.Image) -> int:
    """How the camera was held, 1 where that is not told; TIFF pictures are turned when they are loaded."""
    try:
        return int(picture.getexif().get(Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - broken metadata raise anything, and do not make a picture worse
        return 1
