"""The recipe of the miniature: from nothing to the weights in `miniature/package`. A build tool, not in the wheel.

Stages, in the order they run: art, compose, tokenizer, vae, clips, latents, diffusion, reader, export, measure. Each
is a module that `python -m miniature.<stage>` runs alone; `python -m miniature` (or `make miniature`) runs all of them.
"""
