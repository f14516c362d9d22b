"""Find the second opinion: a vision transformer on disk that sees likeness otherwise than CLIP does. No torch.

DreamBooth (arXiv 2208.12242, section 4.2) prefers DINO for likeness of one thing, since it is not trained to call
different things of a class the same. This module reads names and bytes; `ti_core.judging.dino` computes.
"""

import hashlib
from pathlib import Path

from ti_core.backbone.digests import digest_file
from ti_core.backbone.hub import hub_name
from ti_core.errors import InputError
from ti_core.records import OpinionInfo
from ti_core.settings import expanded

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


def find_opinion(name: str) -> OpinionInfo:
    """Find and digest the vision transformer `name`: a folder in transformers' layout, or a hub name.

    Raises InputError when there is none, or a file is missing.
    """
    folder = expanded(name)
    if not folder.is_dir():
        folder = _from_hub(name)
    whole = hashlib.sha256()
    for file in FILES:
        path = folder / file
        if not path.is_file():
            raise InputError(f"The second opinion in {folder} is not complete: there is no {path}.")
        whole.update(f"{file}\0{digest_file(path)}\n".encode())
    return OpinionInfo(name=name, folder=str(folder.resolve()), digest=whole.hexdigest())


def _from_hub(name: str) -> Path:
    repository = hub_name(name)
    if repository is None:
        raise InputError(f"PSEUDOWORD_DINO is {name!r}: name a folder with a vision transformer, or owner/model.")
    return repository.cached(FILES) or repository.download(list(FILES))
