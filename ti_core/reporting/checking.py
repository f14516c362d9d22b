"""The page of `ti check`: pictures before and after they were cut, and what was found of them. Nothing was trained."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ti_core.images.preprocess import Prepared
from ti_core.records import Finding, ImageSet, Picture
from ti_core.reporting.report import environment

_SIDE = 160
_FRAME = (230, 60, 140)


@dataclass(frozen=True)
class Checked:
    """What was found at one source. `error` says why no picture of it can be used; "" where some can."""

    name: str
    images: ImageSet
    made: dict[str, Prepared]
    error: str = ""

    def findings(self, picture: Picture) -> list[Finding]:
        """What was found of one picture."""
        return [one for one in self.images.findings if one.file == picture.name]

    @property
    def others(self) -> list[Finding]:
        """What was found of the set as a whole, and of files that are left out."""
        used = {picture.name for picture in self.images.pictures}
        return [one for one in self.images.findings if one.file not in used]


def check_page(checked: Sequence[Checked]) -> bytes:
    """The page, as UTF-8 HTML; it loads nothing."""
    template = environment().get_template("check.html")
    return template.render(checked=checked, before=before).encode()


def before(picture: Picture, made: Prepared) -> Image.Image:
    """The whole picture, small, with its square framed; what the square adds is not shown."""
    whole = made.whole.copy()
    whole.thumbnail((2 * _SIDE, _SIDE))
    scale = whole.width / picture.width, whole.height / picture.height
    left, top, right, bottom = (side * scale[place % 2] for place, side in enumerate(picture.crop))
    frame = max(left, 0), max(top, 0), min(right, whole.width) - 1, min(bottom, whole.height) - 1
    if (picture.crop[2] - picture.crop[0], picture.crop[3] - picture.crop[1]) != (picture.width, picture.height):
        ImageDraw.Draw(whole).rectangle(frame, outline=_FRAME, width=2)
    return whole
