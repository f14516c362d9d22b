"""Does the doubt about class words fall on wrong ones? All held-out concepts, their own class word beside all others'.

    python benchmarks/class_words.py            # seconds

Each concept's pictures are named by its right class word (examples/concepts/*/concept.toml) and, as wrong ones, by those of
all other concepts, but for `object`, which is never wrong. Writes docs/benchmarks/class-words.md.
"""

import statistics
from pathlib import Path

from ti_core.backbone.folder import find_base, find_judge, known_nouns
from ti_core.images.preprocess import square
from ti_core.judging.clip import resident_clip
from ti_core.judging.scoring import naming
from ti_core.planning.batch import read_batch
from ti_core.reporting.words import DOUBTFUL
from ti_core.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
CONCEPTS = ROOT / "examples" / "concepts"
DOC = ROOT / "docs" / "benchmarks" / "class-words.md"
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)


def main() -> None:
    """Measure, and write the table."""
    base = find_base("miniature")
    nouns = known_nouns(base)
    settings = Settings(allowed_roots=(CONCEPTS,))
    specs = [item.spec for item in read_batch(str(CONCEPTS), "", settings) if item.spec]
    words = sorted({spec.class_word for spec in specs})
    right, wrong = list[float](), list[float]()
    with resident_clip(find_judge("", base.kind), "cpu") as clip:
        for spec in specs:
            files = sorted(Path(spec.pictures).glob("*.png"))
            features_NE = clip.image_features([square(file.read_bytes(), base.resolution) for file in files])
            for word in words:
                closer = naming(word, nouns, clip, features_NE).closer
                if word == spec.class_word:
                    right.append(closer)
                elif word != "object":
                    wrong.append(closer)
    lines = [
        "# Class words: how often the doubt falls on a right and on a wrong one",
        "",
        f"Made by `python benchmarks/class_words.py` with the miniature's judge: {len(specs)} held-out concepts, which it never saw, "
        f"{len(nouns)} everyday nouns. A class word is doubted when more of the nouns than a share are nearer to every "
        f"picture; {DOUBTFUL} is what pages use. Wrong words are those of the other concepts.",
        "",
        "| share | right words doubted | wrong words doubted |",
        "|---|---|---|",
    ]
    for share in SHARES:
        told = [f"{statistics.fmean(one > share for one in ones):.0%}" for ones in (right, wrong)]
        lines.append(f"| {'**' * (share == DOUBTFUL)}{share}{'**' * (share == DOUBTFUL)} | {' | '.join(told)} |")
    lines += [
        "",
        "It has not been measured with a CLIP of Stable Diffusion's size, which knows hundreds of nouns.",
        "",
    ]
    DOC.write_text("\n".join(lines))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
