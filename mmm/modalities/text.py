"""Text: records of paragraphs, sub-word ids of the tokenizers library, one embedding row an id.

Shape suffixes: R content rows, N tokens of this modality, D width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Assets, Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._ids import IdModality, Positions, Window
from mmm.modalities._texts import fault_of, json_rows, pieces, stretches, table_rows
from mmm.modalities._vocabulary import SPECIALS, Algorithm, train

if TYPE_CHECKING:
    import tokenizers


class TextTokenizer(Tokenizer):
    """[CLS] ids [SEP]. The specials cannot be masked; the mask's own name inside a text ("a [MASK] b") becomes its id.

    Args:
        vocabulary, algorithm, pretrained, max_length, unit, record_words, field: see ``Text``.
    """

    suffixes = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet", ".arrow", ".feather")

    def __init__(
        self,
        vocabulary: int,
        algorithm: Algorithm,
        pretrained: str | None,
        max_length: int,
        unit: Literal["token", "word"],
        record_words: int,
        field: str,
    ):
        self.vocabulary, self.algorithm, self.pretrained = vocabulary, algorithm, pretrained
        self.max_length, self.unit, self.record_words, self.field = max_length, unit, record_words, field
        self.window = Window(max_length - 2, "text of {} tokens")
        self.model: tokenizers.Tokenizer | None = None
        self.roles: dict[str, str] = {}

    def fit(self, records: Sequence[Record]) -> None:
        """Train the vocabulary on the records' texts, or load the pretrained one."""
        if self.pretrained is not None:
            self._load_pretrained(self.pretrained)
        else:
            texts = [r.raw for r in records]
            if not texts:
                raise ValueError("Text: no record to train the vocabulary on; give data, or pretrained")
            self._set(train(texts, self.algorithm, self.vocabulary), SPECIALS)

    def assets(self) -> Assets:
        return {"tokenizer.json": self._ready().to_str().encode(), "specials.json": json.dumps(self.roles).encode()}

    def restore(self, assets: Assets) -> None:
        import tokenizers

        try:
            model = tokenizers.Tokenizer.from_str(assets["tokenizer.json"].decode())
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"tokenizer.json is no tokenizer that can be read: {error}") from error
        self._set(model, json.loads(assets["specials.json"]))

    def _load_pretrained(self, pretrained: str) -> None:
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(pretrained, trust_remote_code=False)
        except (OSError, ValueError) as e:
            raise BadRecipe(f"Text(pretrained={pretrained!r}): no tokenizer could be loaded from there: {e}") from e
        if not loaded.is_fast:
            raise BadRecipe(f"Text(pretrained={pretrained!r}): has no tokenizer.json (a fast tokenizer), which Text needs")
        roles = {
            "cls": loaded.cls_token or loaded.bos_token,
            "sep": loaded.sep_token or loaded.eos_token,
            "mask": loaded.mask_token,
        }
        for role, token in roles.items():
            if token is None:
                raise BadRecipe(f"Text(pretrained={pretrained!r}): has no {role} token; choose a tokenizer of a masked model")
        self._set(loaded.backend_tokenizer, roles)

    def _set(self, model: tokenizers.Tokenizer, roles: dict[str, str]) -> None:
        model.no_truncation()
        model.no_padding()
        if self.unit == "word" and model.pre_tokenizer is None:
            raise BadRecipe("Text(unit='word'): this pretrained tokenizer does not split words; choose unit 'token'")
        self.model, self.roles = model, dict(roles)
        vocabulary = model.get_vocab()
        self.cls, self.sep, self._mask = (vocabulary[roles[r]] for r in ("cls", "sep", "mask"))
        added = {i for i, token in model.get_added_tokens_decoder().items() if token.special}
        self.special_ids = frozenset(added | {vocabulary[token] for token in roles.values()})
        self._choices = torch.tensor(sorted(set(vocabulary.values()) - self.special_ids))

    def _ready(self) -> tokenizers.Tokenizer:
        if self.model is None and self.pretrained is not None:
            self._load_pretrained(self.pretrained)
        if self.model is None:
            raise ValueError("Text has no vocabulary yet: call fit(records) or restore(assets) first")
        return self.model

    @property
    def size(self) -> int:  # type: ignore[override]
        """Ids: those there are; before ``fit``, those asked for."""
        if self.model is None and self.pretrained is None:
            return self.vocabulary
        return max(self._ready().get_vocab().values()) + 1

    @property
    def choices(self) -> Tensor:  # type: ignore[override]
        """All ids but the specials."""
        if self.model is None and self.pretrained is None:
            return torch.arange(len(SPECIALS), self.vocabulary)
        self._ready()
        return self._choices

    @property
    def mask(self) -> int:
        self._ready()
        return self._mask

    @property
    def fences(self) -> frozenset[int]:
        """Ids that stand around a text and are no part of it."""
        return frozenset({self.cls, self.sep})

    def tokenize(self, raw: str, draw: Draw | None = None) -> Piece:
        """A text longer than ``max_length`` is cut to a window at a place that ``draw`` chooses.

        Raises:
            ValueError: ``raw`` is no text or an empty one, or there is no vocabulary yet.
        """
        encoding = self._encode(raw)
        kept = self.window(len(encoding), draw)
        ids = torch.tensor([self.cls, *encoding.ids[kept], self.sep])
        return Piece(
            content=ids,
            positions=torch.arange(len(ids)),
            units=_word_units(encoding.word_ids[kept]) if self.unit == "word" else None,
            maskable=torch.tensor([i not in self.special_ids for i in ids.tolist()]),
            cut=len(ids) - 2 < len(encoding),
        )

    def _encode(self, raw: str) -> tokenizers.Encoding:
        fault = fault_of(raw)
        if fault:
            raise ValueError(fault)
        return self._ready().encode(raw, add_special_tokens=False)

    def detokenize(self, content_R: Tensor) -> str:
        """The text. Byte-level BPE gives back every text exactly; the others up to Unicode form and white space."""
        model = self._ready()
        ids = [i for i in content_R.tolist() if i not in self.fences]
        return model.decode(ids, skip_special_tokens=False)

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        return min(len(self._encode(record.raw)) + 2, self.max_length)

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The text itself."""
        fault = fault_of(value)
        if fault:
            raise BadRecord(table, row, fault)
        return Record(str(table), row, value, value.encode())

    def records(self, path: Path) -> Iterator[Record]:
        """Texts of one file, all of it UTF-8.

        - ``.txt``: stretches of ``record_words`` words (white space parts them) or more. Paragraphs (blank lines part them) are
          put together until there are so many; one that is longer is cut at the end of a sentence or line, at worst between
          words; a short rest at the end of the file joins the stretch before it. Records are numbered from 1.
        - ``.jsonl``: one JSON object a line, the text under ``field``, a label under "label" if there is one. Line numbers.
        - ``.parquet .arrow .feather``: the same as columns. Row numbers, from 0.

        Raises:
            BadRecord: not UTF-8, a NUL character, a lone surrogate, broken JSON, no such key, no string, no text in it.
        """
        kind = Path(path.name.lower().removesuffix(".gz")).suffix
        if kind == ".txt":
            rows: Iterable[tuple[int, Any, Any]] = (
                (n, text, None) for n, text in enumerate(stretches(pieces(path, self.record_words), self.record_words), 1)
            )
        else:
            rows = json_rows(path, self.field) if kind == ".jsonl" else table_rows(path, self.field)
        empty = True
        for number, text, label in rows:
            empty = False
            fault = fault_of(text)
            if fault:
                raise BadRecord(path, number, fault)
            yield Record(str(path), number, text, text.encode(), label)
        if empty:
            raise BadRecord(path, None, "no text in it")


class Text(IdModality):
    """Text as sub-word ids.

    Byte-level BPE knows every character and gives back every text exactly (GPT-2; RoBERTa, ModernBERT). WordPiece (BERT, cased)
    and unigram (SentencePiece with NFKC; ALBERT, XLM-R) know the characters of the training texts, others become [UNK].
    Training is deterministic: the same texts, the same ids.

    Paper: BPE, arXiv:1508.07909; unigram, arXiv:1804.10959; WordPiece, arXiv:1609.08144.

    Args:
        vocabulary: ids to train; there may be fewer where the texts are few. Without meaning when ``pretrained``.
        algorithm: how the vocabulary is trained.
        pretrained: a folder with a tokenizer.json or a hub name, used as it is with its own special tokens.
        max_length: tokens of the longest piece, [CLS] and [SEP] among them; longer texts are cut to a random window.
        unit: what is hidden as a whole: each token, or all tokens of a word (whole-word masking).
        positions: absolute positions, of ``max_length`` places where learned; "none" where the encoder's are rotary.
        norm: LayerNorm after the embedding. eps: of it.
        record_words: words of a record of a .txt file, at least; about twice as many at most.
        field: key or column of the text in .jsonl and table files.
    """

    def __init__(
        self,
        vocabulary: int = 30000,
        algorithm: Algorithm = "bpe",
        pretrained: str | None = None,
        max_length: int = 512,
        unit: Literal["token", "word"] = "token",
        positions: Positions = "none",
        norm: bool = False,
        eps: float = 1e-5,
        record_words: int = 64,
        field: str = "text",
    ):
        super().__init__(positions, norm, eps)
        least = 256 + len(SPECIALS) if algorithm == "bpe" else len(SPECIALS) + 1
        if pretrained is None and vocabulary < least:
            raise BadRecipe(f"Text(vocabulary={vocabulary}): {algorithm} needs {least} or more (its alphabet and the specials)")
        if max_length < 3:
            raise BadRecipe(f"Text(max_length={max_length}): needs 3 or more: [CLS], a token, [SEP]")
        if record_words < 1:
            raise BadRecipe(f"Text(record_words={record_words}): needs 1 or more")
        self.tokenizer: TextTokenizer = TextTokenizer(vocabulary, algorithm, pretrained, max_length, unit, record_words, field)

    def fit(self, records: Sequence[Record]) -> None:
        self.tokenizer.fit(records)

    def assets(self) -> Assets:
        return self.tokenizer.assets()

    def restore(self, assets: Assets) -> None:
        self.tokenizer.restore(assets)


def _word_units(word_ids: Sequence[int | None]) -> Tensor:
    """unit_N of [CLS], tokens of these words, [SEP]."""
    units = [0]
    for i, word in enumerate(word_ids):
        units.append(units[-1] + (i == 0 or word != word_ids[i - 1]))
    return torch.tensor([*units, units[-1] + 1])
