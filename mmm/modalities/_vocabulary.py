"""Vocabularies of text: byte-level BPE, WordPiece and unigram, trained by the tokenizers library."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from mmm.core.errors import BadRecipe

if TYPE_CHECKING:
    import tokenizers

LIBRARY = f"tokenizers {version('tokenizers')}"
"""Whose ids they are: another version may part a text otherwise."""
Algorithm = Literal["bpe", "unigram", "wordpiece"]
SPECIALS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Of a vocabulary trained here, by what they are for, in the order of their ids."""


FRAME = "frame"
"""Beside the roles: that nothing stands around a text but what the tokenizer itself adds, be it nothing."""
ROLES = {
    "pad": ("pad_token",),
    "unk": ("unk_token",),
    "cls": ("cls_token", "bos_token"),
    "sep": ("sep_token", "eos_token"),
    "mask": ("mask_token",),
}
"""The same of a pretrained one: attributes that name each, by preference."""


def pretrained_tokenizer(name: str) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """(a published tokenizer, its special tokens by what they are for).

    Args:
        name: a folder with a tokenizer, or a hub name.

    Raises:
        BadRecipe: nothing there, a tokenizer that the tokenizers library cannot run, or one without what a masked model needs.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except Exception as e:  # the library raises many kinds
        reason = " ".join(str(e).split())[:300]
        raise BadRecipe(f"Text(pretrained={name!r}): no tokenizer could be loaded from there: {reason}") from e
    if not loaded.is_fast:
        raise BadRecipe(f"Text(pretrained={name!r}): has no tokenizer.json (a fast tokenizer), which Text needs")
    roles = {role: next(filter(None, (getattr(loaded, n, None) for n in names)), None) for role, names in ROLES.items()}
    for role in ("cls", "sep", "mask"):
        if roles[role] is None:
            raise BadRecipe(f"Text(pretrained={name!r}): has no {role} token; choose a tokenizer of a masked model")
    return loaded.backend_tokenizer, {role: str(token) for role, token in roles.items() if token is not None}


def train(texts: Iterable[str], algorithm: Algorithm, vocabulary: int) -> tokenizers.Tokenizer:
    """A tokenizer trained on ``texts``; the same texts give the same ids.

    Raises:
        ValueError: ``vocabulary`` has no room for the characters of the texts.
    """
    from tokenizers import AddedToken

    model = {"bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}[algorithm](texts, vocabulary)
    model.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in SPECIALS.values()])
    return model


def _bpe(texts: Iterable[str], vocabulary: int) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer, model.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*SPECIALS.values()],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    return model


def _wordpiece(texts: Iterable[str], vocabulary: int) -> tokenizers.Tokenizer:
    """As the library trains it (by BPE), but for the ids of the characters inside words: it numbers them in the order of a hash
    table that changes from run to run, here they are named beforehand."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.normalizer, model.pre_tokenizer = normalizers.BertNormalizer(lowercase=False), pre_tokenizers.BertPreTokenizer()
    model.decoder = decoders.WordPiece()
    characters = sorted({c for text in texts for c in model.normalizer.normalize_str(text) if not c.isspace()})
    first = [*SPECIALS.values(), *("##" + c for c in characters)]
    _check_room(vocabulary, len(first) + len(characters))
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=first,
        initial_alphabet=characters,
        continuing_subword_prefix="##",
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    fitted = Tokenizer(models.WordPiece(model.get_vocab(), unk_token=SPECIALS["unk"]))
    fitted.normalizer, fitted.pre_tokenizer, fitted.decoder = model.normalizer, model.pre_tokenizer, model.decoder
    return fitted


def _unigram(texts: Iterable[str], vocabulary: int) -> tokenizers.Tokenizer:
    """As the library trains it, but in alphabetical order and with scores to 0.01: both differ from run to run there, the order
    wholly, the scores by some 0.0003."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    model = Tokenizer(models.Unigram())
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    model.normalizer = normalizers.Sequence([normalizers.NFKC(), spaces, normalizers.Strip()])
    model.pre_tokenizer, model.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials, unk = [*SPECIALS.values()], SPECIALS["unk"]
    _check_room(vocabulary, len({c for text in texts for c in model.normalizer.normalize_str(text)}) + len(specials) + 1)
    trainer = trainers.UnigramTrainer(vocab_size=vocabulary, special_tokens=specials, unk_token=unk, show_progress=False)
    model.train_from_iterator(texts, trainer)
    scores = {token: round(score, 2) for token, score in json.loads(model.to_str())["model"]["vocab"]}
    order = [*specials, *sorted(scores.keys() - set(specials))]
    model.model = models.Unigram([(token, scores[token]) for token in order], specials.index(unk), False)
    return model


def _check_room(vocabulary: int, least: int) -> None:
    if vocabulary < least:
        raise ValueError(f"Text(vocabulary={vocabulary}): the training texts have so many characters that {least} are needed")


def extend(model: tokenizers.Tokenizer, texts: Sequence[str], extra: int) -> dict[int, list[int]]:
    """Give a vocabulary the words that shorten these texts most, at most ``extra`` of them.

    A word counts where it stands alone in the text as the vocabulary normalises it, at least twice, and was read as several
    tokens; those come first whose count times the tokens saved is largest.

    Returns:
        The new ids, each with the old ones that the word was read as.
    """
    from tokenizers import AddedToken

    normalise = model.normalizer.normalize_str if model.normalizer is not None else str
    counts = Counter(word for text in texts for word in re.findall(r"\w+", normalise(text)))
    old = {word: model.encode(word, add_special_tokens=False).ids for word, n in counts.items() if n > 1}
    saved = {word: counts[word] * (len(ids) - 1) for word, ids in old.items() if len(ids) > 1}
    words = sorted(saved, key=lambda word: (-saved[word], word))[:extra]
    model.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    vocabulary = model.get_vocab()
    return {vocabulary[word]: old[word] for word in words}
