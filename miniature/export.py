"""Stage 9, the folders: fp16 safetensors as the package ships them, written to `export/` in the work folder.

    python -m miniature.export                                                # write what is trained
    python -m miniature.export --into miniature/package/pseudoword_miniature  # and copy it into the package

`mini-sd` loads with `StableDiffusionPipeline.from_pretrained`, `mini-clip` with open_clip's `local-dir:`; `reader` is
the reader of parts, for evaluations.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import save_file

from miniature.clips import model_config, read_clip
from miniature.common import WORK, arguments, log
from miniature.diffusion import read_model, scheduler
from miniature.reader import FOLDER as READER
from miniature.tokenizer import tokenizer
from miniature.vae import FOLDER as VAE

OUT = WORK / "export"


def write_clip(folder: Path) -> None:
    """The judge in open_clip's local-dir layout, with its own tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    config = model_config()
    text = config["text_cfg"] | {"hf_tokenizer_name": "local", "tokenizer_kwargs": {"clean": "lower"}}  # type: ignore[operator]  # a dict
    half = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    told = {"model_cfg": config | {"text_cfg": text}, "preprocess_cfg": half}
    (folder / "open_clip_config.json").write_text(json.dumps(told, indent=1))
    weights = {
        name: value.half() if value.is_floating_point() else value for name, value in read_clip().state_dict().items()
    }
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / "open_clip_model.safetensors")
    tokenizer().save_pretrained(folder)


def write_diffusion(folder: Path) -> None:
    """The pipeline in diffusers' layout."""
    model, done = read_model()
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(VAE), text_encoder=model.text, tokenizer=tokenizer(), unet=model.unet,
        scheduler=scheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder)
    log.info("the diffusion model has seen %d samples", done)


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--into", type=Path)
    known, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    arguments(__doc__ or "")
    write_clip(OUT / "mini-clip")
    write_diffusion(OUT / "mini-sd")
    shutil.copytree(READER, OUT / "reader", dirs_exist_ok=True)
    size = sum(path.stat().st_size for path in OUT.rglob("*") if path.is_file()) / 1e6
    log.info("%s: %.1f MB", OUT, size)
    if known.into:
        for name in ("mini-sd", "mini-clip", "reader"):
            shutil.rmtree(known.into / name, ignore_errors=True)
            shutil.copytree(OUT / name, known.into / name)


if __name__ == "__main__":
    main()
