"""Content keys of images: what an image is known by, whatever its name."""

import hashlib

from tier4k.extract.images.header import ImageHeader, read_header

# Names how `decode` treats images that are turned or transparent. Another treatment needs another name, so
# that features of the old one are not found.
TREATMENT = b"upright-on-white-1"


def content_key(data: bytes) -> bytes:
    """Return the key of an image, 32 bytes, from the bytes of its file.

    It is the SHA-256 of the bytes, also of bytes that are no image; for an image that `decode` turns upright
    or composites onto white it is the SHA-256 of the bytes and `TREATMENT`.
    """
    return key_with_header(data, read_header(data))


def key_with_header(data: bytes, header: ImageHeader) -> bytes:
    """Return the key of an image whose header has been read."""
    digest = hashlib.sha256(data)
    if not header.is_plain:
        digest.update(TREATMENT)
    return digest.digest()
