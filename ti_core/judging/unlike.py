"""One picture unlike the others of its set, in the judge's eyes: another thing, or a wrong file.

Measured in docs/decisions/0021. It loads no judge, and leaves nothing out. N pictures, E features.
"""

import numpy as np
from numpy.typing import NDArray

from ti_core.records import Finding, ImageSet

UNLIKE = 2.5
FEWEST = 4
"""Pictures of which one can be told from the others."""


def ratios(features_NE: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each of at least three pictures lies from the others on average, over how far those lie from each other
    [N]; distances are 1 − cosine of features of length one."""
    far_NN = 1 - features_NE @ features_NE.T
    np.fill_diagonal(far_NN, 0)
    count, own_N = len(far_NN), far_NN.sum(axis=1)
    others_N = (far_NN.sum() - 2 * own_N) / ((count - 1) * (count - 2))
    return np.asarray(own_N / (count - 1) / np.maximum(others_N, 1e-6))


def unlike(features_NE: NDArray[np.float32], images: ImageSet) -> tuple[Finding, ...]:
    """The picture that is unlike the others, if there is one; features are in the order of the set's pictures."""
    if len(features_NE) < FEWEST:
        return ()
    apart_N = ratios(features_NE)
    worst = int(apart_N.argmax())
    if apart_N[worst] < UNLIKE:
        return ()
    name = images.pictures[worst].name
    text = f"{name} is unlike the other pictures in the judge's eyes: is it of the same thing, and was it meant?"
    return (Finding(severity="hint", kind="unlike", file=name, text=text),)
