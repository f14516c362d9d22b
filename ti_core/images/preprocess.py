"""Caption-free preprocessing: any picture file becomes an upright RGB square. Nothing is written here; no models.

Change what this does to a pixel, and `keys.PREPROCESS_VERSION` must go up.
"""

import io

from PIL import ExifTags, Image, ImageOps

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit warns or fails at other sizes than `Settings.max_picture_pixels`

BACKGROUND = (255, 255, 255)
"""What shows through transparency. White is what cut-outs are most often made for."""


UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture of each EXIF orientation upright; 1 and anything unknown is upright."""


def oriented(image: Image.Image) -> Image.Image:
    """Decode completely (the first frame of an animation) and turn upright as the EXIF orientation says.

    `ImageOps.exif_transpose` would also write the other EXIF tags anew, and fails where one of them is malformed.
    """
    image.seek(0)
    image.load()
    turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return image.copy() if turn is None else image.transpose(turn)


def flattened(image: Image.Image) -> Image.Image:
    """Return 8-bit RGB; transparency is laid over `BACKGROUND`, 16-bit grey is scaled rather than clipped."""
    if image.mode.startswith("I;16"):
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGBA", rgba.size, (*BACKGROUND, 255))
        return Image.alpha_composite(canvas, rgba).convert("RGB")
    return image.convert("RGB")


def square(data: bytes, resolution: int) -> Image.Image:
    """Return the picture as an upright RGB square of `resolution` pixels a side: centre crop, then Lanczos."""
    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.fit(flattened(oriented(image)), (resolution, resolution), Image.Resampling.LANCZOS)


def mask_square(data: bytes, mask: bytes | None, resolution: int) -> Image.Image:
    """Return what the masked loss learns of a picture, cropped as `square` crops: 8-bit grey, 255 where it shows.

    `mask` is a mask picture's file, white where it shows; without one the picture's own alpha is taken, and an opaque
    picture shows everywhere.
    """
    with Image.open(io.BytesIO(mask or data)) as image:
        upright = oriented(image)
    if mask:
        shown = flattened(upright).convert("L")
    elif upright.has_transparency_data:
        shown = upright.convert("RGBA").getchannel("A")
    else:
        shown = Image.new("L", upright.size, 255)
    return ImageOps.fit(shown, (resolution, resolution), Image.Resampling.LANCZOS)


def png(image: Image.Image) -> bytes:
    """Encode without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()
