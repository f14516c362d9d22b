"""Caption-free preprocessing: any picture file becomes an upright RGB square. Nothing is written here; no models.

Change what this does to a pixel, and `keys.PREPROCESS_VERSION` must go up.
"""

import io

from PIL import Image, ImageOps

BACKGROUND = (255, 255, 255)
"""What shows through transparency. White is what cut-outs are most often made for."""


def oriented(image: Image.Image) -> Image.Image:
    """Decode completely (the first frame of an animation) and turn upright as the EXIF orientation says."""
    image.seek(0)
    return ImageOps.exif_transpose(image)


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


def png(image: Image.Image) -> bytes:
    """Encode without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()
