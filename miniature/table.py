"""The model card's table from measured figures: `python -m miniature.table old new`. It measures nothing.

Every name is a `figures-<name>.json` that `miniature.measure` wrote; a figure that was not measured stays a dash.
"""

import argparse
import json

from miniature.common import WORK

ROWS = (
    ("VAE, held-out PSNR", "{vae_psnr:.1f} dB", "30"),
    ("reader on held-out scenes: mean over parts", "{reader_parts:.2f}", ".90"),
    (
        "reader on held-out scenes: background / style / size",
        "{reader_background:.2f} / {reader_style:.2f} / {reader_size:.2f}",
        ".97",
    ),
    ("parts seen in pictures for captions of seen subjects", "{seen_parts:.2f}", ".85"),
    ("background seen in them", "{seen_background:.2f}", ""),
    (
        "held-out subjects, parts seen: learned word (class word / another's word; real pictures)",
        "{word_parts:.2f} ({class_word_parts:.2f} / {swapped_parts:.2f}; {reader_real:.2f})",
        ".70",
    ),
    (
        "background, size, style obeyed with the learned word (class word)",
        "{word_obeyed:.2f} ({class_word_obeyed:.2f})",
        ".85",
    ),
    ("of these, a background colour that no training picture had", "{word_unseen_background:.2f}", ""),
    (
        "outside eye: right subject of {concepts}, learned word (class word; real pictures)",
        "{eye_word:.2f} ({eye_class_word:.2f}; {eye_real:.2f})",
        "half of the real pictures'",
    ),
    (
        "judge: right subject of {concepts}, learned word (class word; real pictures)",
        "{judge_word:.2f} ({judge_class_word:.2f}; {judge_real:.2f})",
        "real .80",
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
        print(f"| {cell(title, columns[-1])} | {' | '.join(cell(form, one) for one in columns)} | {aim} |")


if __name__ == "__main__":
    main()
