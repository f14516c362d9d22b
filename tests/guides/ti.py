"""`ti` for the guide's test: random weights learn nothing however long they are trained, so training and judging are
short, and every word is taken for accepted, or there would be none to use. All else is `ti` as it is."""

import sys

from flows.cli import main
from ti_core import stations

SHORT = {
    "train": ["--steps", "2", "--checkpoint-every", "1", "--batch-size", "2", "--seeds", "2", "--sampler-steps", "2"],
    "judge": ["--sampler-steps", "2"],
    "generate": ["--sampler-steps", "2"],
}
"""What is typed last wins."""

judged = stations.report


def accepted(*given: object) -> object:
    return judged(*given).model_copy(update={"verdict": "accepted"})


stations.report = accepted
sys.argv += SHORT.get(sys.argv[1], [])
main()
