"""One frozen CLIP text encoder and its tokenizer: prompts with new words in, the stock encoder's own output out.

No vocabulary is resized. A new word's vectors take the place of the token-embedding *output* at its positions, and the
stock encoder's `forward` does the rest, so that training, judging and a stock pipeline with the published file loaded
all see the same states. It knows nothing of what a U-Net makes of them.

Shapes: B prompts, L tokens (the tokenizer's maximum), V vectors a prompt may use, D width.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ti_core.errors import InputError


class TextEncoder:
    """A tokenizer and the `module` (of transformers) that reads its ids."""

    def __init__(self, tokenizer: Any, module: Any) -> None:
        self.tokenizer, self.module = tokenizer, module

    @property
    def table_ND(self) -> Tensor:
        """Token embeddings of the whole vocabulary."""
        return self.module.get_input_embeddings().weight

    def tokenize(self, prompts: Sequence[str], words: Mapping[str, int]) -> list[tuple[list[int], list[int]]]:
        """Return (ids, slots) of each prompt, each a list of L integers, padded as the stock pipeline pads.

        `words` maps each placeholder, in lower case, to its number of vectors; slots number the rows of all words in
        the mapping's order. Raises InputError when a prompt is longer than the text encoder reads.
        """
        first: dict[str, int] = {}
        rows = 0
        for word, count in words.items():
            first[word] = rows
            rows += count
        return [self._tokenize(prompt, words, first) for prompt in prompts]

    def _tokenize(self, prompt: str, words: Mapping[str, int], first: Mapping[str, int]) -> tuple[list[int], list[int]]:
        tokenizer, length = self.tokenizer, self.tokenizer.model_max_length
        ids, slots = [tokenizer.bos_token_id], [-1]
        for piece, word in _split(prompt, words):
            plain = tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
            ids += plain
            slots += [-1] * len(plain)
            if word:
                # Any ordinary id will do here, its embedding is replaced. It must not be the largest: older
                # configurations (eos_token_id 2) take the place of the largest id as the pooled place.
                ids += [0] * words[word]
                slots += range(first[word], first[word] + words[word])
        if len(ids) + 1 > length:
            raise InputError(f"The prompt {prompt!r} has {len(ids) - 1} tokens; this base model reads {length - 2}.")
        padding = length - len(ids) - 1
        ids += [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * padding
        return ids, slots + [-1] * (1 + padding)

    def read(self, ids_BL: Tensor, slots_BL: Tensor, rows_BVD: Tensor | None, hidden_states: bool) -> Any:
        """The stock encoder's output for B prompts, each with its own rows in its slots. Differentiable in the rows.

        Without rows the prompts are plain. `hidden_states` asks for those of every layer.
        """
        hooks = []
        if rows_BVD is not None:
            at_BL1 = slots_BL.clamp(min=0).unsqueeze(-1)
            placed_BLD = rows_BVD.gather(1, at_BL1.expand(-1, -1, rows_BVD.shape[-1]))
            here_BL1 = (slots_BL >= 0).unsqueeze(-1)

            def replace(_module: nn.Module, _inputs: object, embedded_BLD: Tensor) -> Tensor:
                return torch.where(here_BL1, placed_BLD.to(embedded_BLD.dtype), embedded_BLD)

            hooks.append(self.module.get_input_embeddings().register_forward_hook(replace))
        try:
            return self.module(ids_BL, output_hidden_states=hidden_states)
        finally:
            for hook in hooks:
                hook.remove()

    def initial_vectors(self, phrase: str, count: int) -> Tensor:
        """Return [count, D]: vectors to start from, made of the phrase's token embeddings.

        As many vectors as tokens take one each; fewer take the means of neighbouring tokens; more repeat in turn.
        """
        ids = self.tokenizer(phrase, add_special_tokens=False).input_ids
        rows_TD = self.table_ND[torch.tensor(ids, device=self.table_ND.device)]
        if len(ids) >= count:
            return torch.stack([part.mean(0) for part in torch.tensor_split(rows_TD, count)])
        return rows_TD[torch.arange(count, device=rows_TD.device) % len(ids)].clone()


def _split(prompt: str, words: Mapping[str, int]) -> list[tuple[str, str]]:
    """Cut a prompt at its placeholders: [(text before, placeholder or "")].

    Longest placeholder first, capitals or not: the stock tokenizer, too, looks for added words in lower-cased text.
    """
    if not words:
        return [(prompt, "")]
    ordered = sorted(words, key=len, reverse=True)
    *parts, rest = re.split(f"({'|'.join(map(re.escape, ordered))})", prompt, flags=re.IGNORECASE)
    return [*zip(parts[::2], (word.lower() for word in parts[1::2]), strict=True), (rest, "")]
