"""Use published words: a prompt with any of them to pictures. It trains and judges nothing."""

import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ti_core import formats
from ti_core.backbone.folder import find_base
from ti_core.backbone.resident import resident
from ti_core.client import champion
from ti_core.config import EvaluationConfig
from ti_core.errors import InputError
from ti_core.sampling.sampler import Sampling, sample
from ti_core.sampling.words import encode
from ti_core.settings import Settings
from ti_core.store import Store, get_blob

WORD = re.compile(r"<([a-z0-9-]+)>", re.IGNORECASE)


def generate(
    prompt: str,
    out: Path,
    seeds: Sequence[int],
    config: EvaluationConfig,
    base_model: str,
    settings: Settings,
    store: Store,
) -> list[Path]:
    """Make one PNG per seed from `prompt`, in which `<name>`, in capitals or not, stands for the champion of that
    concept.

    One seed writes `out`; several write `out` with -1, -2, … before its suffix. `base_model` "" is the settings' own.
    Raises NotFoundError for a word that is not published for this base model, InputError for a prompt that is too long,
    a word made for other weights of the same name, or an `out` that cannot be written.
    """
    settings.check_place(base_model, settings.base_model)
    base = find_base(base_model or settings.base_model)
    names = list(dict.fromkeys(name.lower() for name in WORD.findall(prompt)))
    champions = [champion(name, base.slug, settings) for name in names]
    words = {
        one.placeholder: formats.read_checkpoint(get_blob(store, one.vectors), f"the word {one.placeholder}")
        for one in champions
    }
    for one in champions:
        if one.base_digest != base.digest:
            raise InputError(
                f"The word {one.placeholder} was made for other weights than those of {base.name} here (digest "
                f"{one.base_digest[:12]}, not {base.digest[:12]}): name the base model it was trained on, or train "
                "it anew."
            )
    resolved = config.resolved(base.kind)
    how = Sampling(resolved.sampler or "ddim", resolved.sampler_steps, resolved.guidance, base.resolution)
    with resident(base, settings.device, settings.precision) as model:
        jobs = encode(model, [prompt], words).repeat_interleave(len(seeds))
        pictures = sample(model, jobs, list(seeds), how)
    paths = [out] if len(seeds) == 1 else [out.with_stem(f"{out.stem}-{n + 1}") for n in range(len(seeds))]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for path, picture in zip(paths, pictures, strict=True):
            Image.fromarray(picture).save(path, "PNG")
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from None
    return paths
