"""The page of `ti check`: pictures before and after they were cut, and what was found of them. Nothing was trained."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ti_core.images.preprocess import Prepared
from ti_core.records import ImageSet
from ti_core.reporting.given import Given, framed
from ti_core.reporting.report import environment


@dataclass(frozen=True)
class Checked:
    """What was found at one source. `error` says why no picture of it can be used; "" where some can. The pictures are
    shown where `shown` says so."""

    name: str
    images: ImageSet
    made: dict[str, Prepared]
    error: str = ""
    shown: bool = True

    @property
    def given(self) -> list[Given]:
        """The pictures by name."""
        return [
            Given(
                one,
                self.images.findings_of(one),
                self.made[one.sha256].square if self.shown else None,
                framed(one, self.made[one.sha256].whole) if one.whole and self.shown else None,
            )
            for one in sorted(self.images.pictures, key=lambda picture: picture.name)
        ]


def check_page(checked: Iterable[Checked]) -> Iterator[bytes]:
    """The page in parts, as UTF-8 HTML; it loads nothing. Of what it shows no more than one concept is held at a time:
    all pictures of a batch would take gigabytes."""
    template = environment().get_template("check.html")
    return (part.encode() for part in template.generate(checked=checked))
