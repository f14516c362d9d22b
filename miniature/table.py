"""The model card's table from measured figures: `python -m miniature.table old new`. It measures nothing.

Every name is a `figures-<name>.json` that `miniature.measure` wrote; a figure that was not measured stays a dash.
"""

import argparse
import json

from miniature.common import WORK

ROWS = (
    ("VAE, held-out PSNR", "{vae_psnr:.1f} dB", "28"),
    ("own CLIP: held-out picture→picture R@1 of 32", "{clip_held_out:.2f}", ".70"),
    ("own CLIP: text→picture R@1 over {clip_text_of} seen concepts", "{clip_text:.2f}", ".55"),
    ("own CLIP: background colour, zero-shot (of 12)", "{clip_background:.2f}", ".95"),
    ("right caption for a generated picture, R@1 among 50", "{caption_top1:.2f}", ".60"),
    (
        "mean cosine of a generated picture to its caption / to another's",
        "{caption_score:.2f} / {caption_score_shuffled:.2f}",
        "",
    ),
    ("inversion: right concept, R@1 of 32 (class word)", "{inversion_top1:.2f} ({class_word_top1:.2f})", ".80"),
    (
        "inversion: CLIP-I / swapped (class word; real pictures)",
        "{inversion_clip_i:.2f} / {swapped_clip_i:.2f} ({class_word_clip_i:.2f}; {real_clip_i:.2f})",
        ".80 / below the class word",
    ),
)


def cell(form: str, figures: dict[str, float]) -> str:
    """One figure, or a dash."""
    try:
        return form.format(**figures)
    except KeyError:
        return "–"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+")
    names = parser.parse_args().names
    parts = [json.loads((WORK / f"figures-{name}.json").read_text()) for name in names]
    columns = [{key: value for part in one.values() for key, value in part.items()} for one in parts]
    print(f"| figure | {' | '.join(names)} | aim |")
    print("|---" * (len(names) + 2) + "|")
    for title, form, aim in ROWS:
        print(f"| {cell(title, columns[0])} | {' | '.join(cell(form, one) for one in columns)} | {aim} |")


if __name__ == "__main__":
    main()
