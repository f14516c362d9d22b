"""The loss scale of one concept where the U-Net computes in fp16 (arXiv 1710.03740, section 3.2).

fp16 ends at 65,504 above and at 6e-8 below, and most gradients of a mean over latents lie under that: the loss is
multiplied by a power of two before the backward pass, and the gradient of the vectors, which is fp32, divided by it
after. Where the scaled gradient overflows, the step is not taken but done again, with the same samples, at half the
scale. Every concept has a scale of its own, so that one that overflows costs its neighbours in the pack nothing. This
module knows no networks.
"""

from dataclasses import dataclass
from typing import Self

START = 2.0**16
"""Scale of the first step. This and the next number are those of torch's GradScaler."""
GROWTH_STEPS = 2000
"""Sound steps in a row after which the scale doubles."""


@dataclass(frozen=True)
class LossScale:
    """A scale, and how many sound steps in a row it has seen."""

    value: float = START
    sound: int = 0

    def after_sound_step(self) -> Self:
        """The scale of the next step."""
        if self.sound + 1 < GROWTH_STEPS:
            return type(self)(self.value, self.sound + 1)
        return type(self)(2 * self.value)

    def halved(self) -> Self:
        """The scale after an overflow."""
        return type(self)(self.value / 2)
