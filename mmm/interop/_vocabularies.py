"""Vocabularies of foreign models: sub-words of text or residues of proteins, in and out.

Shape suffixes: none.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmm.core.errors import BadRecipe
from mmm.core.modality import Assets
from mmm.modalities._frame import frames
from mmm.modalities._ids import ORIGINAL, IdModality
from mmm.modalities._vocabulary import FRAME, ROLES, pretrained_tokenizer
from mmm.modalities.protein import RESIDUES, STANDARD, Protein, Vocabulary
from mmm.modalities.text import Text

from .architecture import Misfit, Original

if TYPE_CHECKING:
    import tokenizers

TOKENS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "dict.txt")
"""Files that hold a vocabulary, by preference."""

BESIDE = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
"""Files that say more about one."""

SPELLINGS = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("<cls>", "<s>", "[CLS]"),
    "sep": ("<eos>", "</s>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
}
"""What special tokens are usually called, by what they are for."""

FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")
"""Tokens that a fairseq dictionary does not write down; they come before those it does. "<mask>" comes after them."""


@dataclass(frozen=True)
class Found:
    """A vocabulary beside foreign weights.

    Args:
        modality: "text" or "protein". folder: where its files lie. assets: what the modality is restored from.
    """

    modality: str
    folder: Path
    assets: Assets


def find(original: Original) -> Found:
    """The vocabulary of a foreign model. One whose ordinary words are single residues is a protein model's.

    It lies beside the weights; a vocab.txt may lie one folder above.

    Raises:
        BadRecipe: none there, or one that cannot be read; names the files.
    """
    folder = original.folder
    if folder is None:
        raise BadRecipe(f"{original.source}: has no folder, so its tokenizer cannot be found")
    beside = [folder / name for name in TOKENS if (folder / name).is_file()]
    file = next(iter([*beside, *(f for f in [folder.parent / "vocab.txt"] if f.is_file())]), None)
    if file is None:
        raise BadRecipe(
            f"{original.source}: no tokenizer beside the weights, so nobody could read a record; put one of "
            f"{', '.join(TOKENS)} into {folder}"
        )
    if file.suffix == ".model":
        return _text(original, file, ())
    tokens = _tokens(file)
    words = [t for t in tokens if not re.fullmatch(r"<.+>|\[.+\]", t)]
    if set(STANDARD) <= set(words) and set(words) <= {*RESIDUES, *"JO.-*|"}:
        return Found("protein", file.parent, {**_protein(original, file, tokens), **_originals(file.parent)})
    return _text(original, file, tokens)


def _tokens(file: Path) -> list[str]:
    """The words of a vocabulary file, by id."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".txt":
            lines = text.splitlines()
            if file.name == "dict.txt":
                return [*FAIRSEQ, *(line.rsplit(" ", 1)[0] for line in lines if line.strip()), "<mask>"]
            return [line.strip() for line in lines]
        value = json.loads(text)
        ids = value if file.name == "vocab.json" else _ids(value)
        by_id = {int(i): str(token) for token, i in ids.items()}
        return [by_id.get(i, f"<{i}>") for i in range(max(by_id) + 1)]
    except (AttributeError, IndexError, KeyError, TypeError, UnicodeDecodeError, ValueError) as error:
        raise BadRecipe(f"{file}: no vocabulary that can be read: {error}") from error


def _ids(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """Words and ids of a tokenizer.json."""
    words = tokenizer["model"]["vocab"]
    ids = dict(words) if isinstance(words, dict) else {word[0]: i for i, word in enumerate(words)}
    return ids | {str(t["content"]): int(t["id"]) for t in tokenizer.get("added_tokens") or ()}


def _originals(folder: Path) -> Assets:
    """Every file of a tokenizer, as it is."""
    there = [folder / name for name in (*TOKENS, *BESIDE) if (folder / name).is_file()]
    return {ORIGINAL + file.name: file.read_bytes() for file in there}


def _text(original: Original, file: Path, tokens: Sequence[str]) -> Found:
    """Sub-words, by the tokenizer that the library makes of them."""
    if file.parent != original.folder:
        raise BadRecipe(f"{original.source}: {file} is a vocabulary of text, and lies not beside the weights; copy it there")
    model, roles = pretrained_tokenizer(str(file.parent))
    unread = {*tokens} - model.get_vocab().keys()
    if unread:
        raise BadRecipe(
            f"{original.source}: transformers makes a tokenizer of its folder that lacks {len(unread)} words of {file.name}, "
            f"such as {sorted(unread)[0]!r}; it needs another form, best a tokenizer.json"
        )
    assets = {
        "tokenizer.json": model.to_str().encode(),
        "specials.json": json.dumps({**roles, FRAME: "own"}).encode(),
    }
    return Found("text", file.parent, {**assets, **_originals(file.parent)})


def _protein(original: Original, file: Path, tokens: Sequence[str]) -> Assets:
    """Residues: what the special ones are for is said beside them, or told by how they are spelt."""
    said: dict[str, Any] = {}
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file.parent / name).is_file():
            try:
                said |= json.loads((file.parent / name).read_text(encoding="utf-8"))
            except (TypeError, ValueError) as error:
                raise BadRecipe(f"{file.parent / name}: no JSON that can be read: {error}") from error
    roles = {}
    for role, keys in ROLES.items():
        named = [value.get("content") if isinstance(value, dict) else value for value in map(said.get, keys)]
        found = next((t for t in (*named, *SPELLINGS[role]) if t in tokens), None)
        if found is not None:
            roles[role] = str(found)
    if "mask" not in roles:
        raise BadRecipe(f"{original.source}: {file} has no mask, such as <mask> or [MASK]; choose a masked model's")
    before, after = (tuple(roles[r] for r in (role,) if r in roles) for role in ("cls", "sep"))
    if file.name == "tokenizer.json":
        before, after = _around(file, tokens)
    vocabulary = Vocabulary(tuple(tokens), roles["mask"], before, after, roles)
    return {"vocabulary.json": json.dumps(asdict(vocabulary)).encode()}


def _around(file: Path, tokens: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """What a tokenizer.json puts around a sequence."""
    import tokenizers

    try:
        model = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises nothing more special
        raise BadRecipe(f"{file}: no tokenizer that can be read: {error}") from error
    model.no_padding()
    model.no_truncation()
    return tuple(tuple(tokens[i] for i in fence) for fence in frames(model, None, None)[0].fences)


# -- out -----------------------------------------------------------------------------------------------------------------------


def write(modality: IdModality, folder: Path) -> None:
    """Write tokenizer files that AutoTokenizer reads: the original ones where there are, else made of our vocabulary."""
    originals = modality.originals
    if "tokenizer_config.json" in originals or "tokenizer.json" in originals:
        for name, data in originals.items():
            (folder / name).write_bytes(data)
        return
    from transformers import PreTrainedTokenizerFast

    model, roles = _of_text(modality) if isinstance(modality, Text) else _of_protein(modality)
    names = {f"{role}_token": token for role, token in roles.items()}
    length = modality.ids.max_length
    made: Any = PreTrainedTokenizerFast
    made(tokenizer_object=model, model_max_length=length, **names).save_pretrained(folder)


def _of_text(modality: Text) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    tokenizer = modality.tokenizer
    assert tokenizer.model is not None
    model = copy.deepcopy(tokenizer.model)
    roles = {role: token for role, token in tokenizer.roles.items() if role != FRAME}
    if model.post_processor is None and FRAME not in tokenizer.roles:
        model.post_processor = _template(roles, tokenizer.cls, tokenizer.sep)
    return model, roles


def _of_protein(modality: IdModality) -> tuple[tokenizers.Tokenizer, dict[str, str]]:
    """One token a character; the names of special tokens stand for themselves."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    if not isinstance(modality, Protein):
        raise Misfit(f"there is no way to write down the vocabulary of a {type(modality).__name__}")
    vocabulary = modality.tokenizer.vocabulary
    ids = {token: i for i, token in enumerate(vocabulary.tokens)}
    roles = vocabulary.roles
    model = Tokenizer(models.WordLevel(ids, roles.get("unk", vocabulary.mask)))
    model.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    model.decoder = decoders.Fuse()
    model.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in roles.values()])
    if vocabulary.before and vocabulary.after:
        model.post_processor = _template(roles, ids[vocabulary.before[0]], ids[vocabulary.after[0]])
    return model, roles


def _template(roles: Mapping[str, str], cls: int, sep: int) -> Any:
    """[CLS] a [SEP], and [CLS] a [SEP] b [SEP] with b of type 1."""
    from tokenizers.processors import TemplateProcessing

    before, after = roles["cls"], roles["sep"]
    return TemplateProcessing(
        single=f"{before} $A {after}", pair=f"{before} $A {after} $B:1 {after}:1", special_tokens=[(before, cls), (after, sep)]
    )


def special_id(modality: IdModality, role: str) -> int | None:
    """The id of a special token of a text's or a protein's vocabulary; None where it has none."""
    if isinstance(modality, Protein):
        vocabulary = modality.tokenizer.vocabulary
        return vocabulary.tokens.index(vocabulary.roles[role]) if role in vocabulary.roles else None
    assert isinstance(modality, Text) and modality.tokenizer.model is not None
    token = modality.tokenizer.roles.get(role)
    return modality.tokenizer.model.token_to_id(token) if token is not None else None
