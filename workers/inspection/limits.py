"""What an inspection may use and how much it may give: every number with its unit and its reason."""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

MEMORY_BYTES_MAX = 512 * MIB
"""Address space of the child. A 50-megapixel picture takes 200 MB of it, a sheet of a million cells 80 MB."""

CPU_SECONDS_MAX = 10
"""A 50 MiB PDF takes two of them; what takes ten is made to."""

CPU_SECONDS_FOR_TEXT = 6.0
"""Reading a long file stops here with what there is, so that a second that was well spent is not lost by the next."""

WALL_SECONDS_MAX = 60.0
"""Six times the CPU's share, for a busy machine; after that the child hangs."""

OPEN_FILES_MAX = 32
"""The file, the results, the pipes, and the libraries that the loader opens one after the other."""

TEXT_BYTES_MAX = 4 * MIB
"""Extracted text, in UTF-8. About a million tokens, which is more than any model reads."""

THUMBNAIL_BYTES_MAX = MIB
"""512 × 512 in WebP take 20 to 150 KiB."""

THUMBNAIL_SIDE_MAX = 512
"""Pixels of the longer side (API 5)."""

PIXELS_MAX = 50_000_000
"""Of a picture that is decoded as it is: what the best cameras of phones give, at four bytes a pixel."""

PIXELS_MAX_JPEG = 250_000_000
"""A JPEG can be decoded at an eighth of its size, so even the 200 megapixels of some phones fit."""

RATIO_MAX = 100
"""Unpacked to packed. Office files reach 20, logs 50; bombs begin at 1,000."""

UNPACKED_BYTES_MAX = 100 * MIB
"""An archive that unpacks to less harms nobody, whatever its ratio."""

PACKAGE_PART_BYTES_MAX = MIB
"""A part that only tells what is in an office file: content types, relations, a list of slides."""

PAGES_MAX = 2_000
"""Pages of a PDF of which the text is read."""

SHEETS_MAX = 100
"""Sheets of a workbook that are read."""

SLIDES_MAX = 1_000
"""Slides of a presentation that are read."""

LINE_CHARACTERS_MAX = MIB
"""A longer line is no line of a table."""

SAMPLE_BYTES_MAX = TEXT_BYTES_MAX
"""The beginning of a file, from which its type and encoding are told."""

MESSAGE_BYTES_MAX = 16 * KIB
"""One line between child and parent: a report has 20 short properties."""
