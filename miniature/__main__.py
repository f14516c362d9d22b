"""All stages in their order: `python -m miniature [--scale 0.001]`. What is done is skipped."""

import argparse
import subprocess
import sys

STAGES = ("art", "compose", "tokenizer", "vae", "clips", "latents", "diffusion", "reader", "export", "measure")


def main() -> None:
    """Run every stage in a process of its own, so that none inherits another's threads or memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of every sample budget")
    told = parser.parse_args()
    for stage in STAGES:
        command = [sys.executable, "-m", f"miniature.{stage}", "--scale", str(told.scale)]
        subprocess.run(command, check=True)  # noqa: S603  # our own stages


if __name__ == "__main__":
    main()
