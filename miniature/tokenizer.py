"""Stage 3, the tokenizer: CLIP's byte-level BPE, trained on the captions' words, so that every one is one token.

    python -m miniature.tokenizer

A word that no caption holds breaks into pieces, as a new word does in a real model.
"""

import json
from functools import lru_cache

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from miniature.captions import corpus
from miniature.common import DEVICE, TOKENS, WORK, arguments, log

START, END, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
FOLDER = WORK / "tokenizer"


def train(lines: list[str]) -> CLIPTokenizer:
    """A CLIP tokenizer that knows every word of `lines`. The two special tokens come last, as CLIP's pooling wants."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix=SUFFIX))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=20_000,
            min_frequency=1,
            initial_alphabet=alphabet,
            end_of_word_suffix=SUFFIX,
            show_progress=False,
        ),
    )
    merges = [tuple(pair) for pair in _merges(bpe)]
    tokens = [*alphabet, *(letter + SUFFIX for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS)


def _merges(bpe: Tokenizer) -> list[list[str]]:
    return json.loads(bpe.to_str())["model"]["merges"]


@lru_cache(maxsize=1)
def tokenizer() -> CLIPTokenizer:
    """What this stage wrote."""
    return CLIPTokenizer.from_pretrained(str(FOLDER))


def token_ids(texts: list[str]) -> Tensor:
    """[N, TOKENS] int64, padded as the stock pipeline pads."""
    told = tokenizer()(texts, padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt")
    return told.input_ids.to(DEVICE)


def main() -> None:
    """Run the stage."""
    arguments(__doc__ or "")
    if (FOLDER / "tokenizer.json").is_file():
        return
    made = train(corpus())
    made.save_pretrained(FOLDER)
    log.info("a vocabulary of %d tokens", len(made))


if __name__ == "__main__":
    main()
