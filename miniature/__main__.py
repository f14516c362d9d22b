"""All stages in their order: `python -m miniature [--scale 0.001] [--processes 2]`. What is done is skipped."""

import argparse
import os
import subprocess
import sys

STAGES = ("art", "compose", "tokenizer", "vae", "clips", "latents", "diffusion", "export", "measure")


def main() -> None:
    """Run every stage in a process of its own, so that none inherits another's threads or memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of every sample budget")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of the diffusion stage")
    told = parser.parse_args()
    for stage in STAGES:
        extra = ["--processes", str(told.processes)] if stage == "diffusion" else []
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", f"miniature.{stage}", "--scale", str(told.scale), *extra], check=True
        )


if __name__ == "__main__":
    main()
