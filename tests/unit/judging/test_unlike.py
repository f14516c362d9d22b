import numpy as np
from numpy.typing import NDArray

from ti_core.judging.unlike import ratios, unlike
from ti_core.records import ImageSet, Picture


def features(*cosines_of_first: float) -> NDArray[np.float32]:
    """Pictures at these cosines from one direction, each aside of it in a direction of its own."""
    made = np.zeros((len(cosines_of_first), len(cosines_of_first) + 1), np.float32)
    for row, cosine in enumerate(cosines_of_first):
        made[row, 0], made[row, row + 1] = cosine, (1 - cosine**2) ** 0.5
    return made


def images(count: int) -> ImageSet:
    return ImageSet(
        pictures=tuple(Picture(name=f"{n}.png", sha256=str(n) * 64, width=64, height=64) for n in range(count))
    )


def test_a_distance_is_told_in_those_of_the_others() -> None:
    found = ratios(features(0.9, 0.9, 0.9, 0.9))
    assert np.allclose(found, 1, atol=1e-5)
    found = ratios(features(0.9, 0.9, 0.9, 0.1))
    assert np.isclose(found[3], (1 - 0.09) / (1 - 0.81), atol=1e-4)  # about 4.8
    assert (found[:3] < 1).all()


def test_the_one_that_is_unlike_the_others_is_named() -> None:
    (finding,) = unlike(features(0.9, 0.1, 0.9, 0.9), images(4))
    assert (finding.file, finding.severity, finding.kind) == ("1.png", "hint", "unlike")
    assert finding.text.startswith("1.png is unlike the other pictures")


def test_of_sets_that_hang_together_and_of_three_pictures_nothing_is_said() -> None:
    assert unlike(features(0.9, 0.8, 0.85, 0.75), images(4)) == ()
    assert unlike(features(0.9, 0.9, 0.1), images(3)) == ()
    assert len(unlike(np.ones((4, 1), np.float32), images(4))) == 0  # copies of one picture
