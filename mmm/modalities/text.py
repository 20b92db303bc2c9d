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
from mmm.core.modality import Assets, Encoded, Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._frame import frames
from mmm.modalities._ids import Embedding, IdModality, Positions, Window
from mmm.modalities._texts import Raws, fault_of, json_rows, pieces, stretches, table_rows, texts_of
from mmm.modalities._vocabulary import FRAME, LIBRARY, SPECIALS, Algorithm, extend, pretrained_tokenizer, train

if TYPE_CHECKING:
    import tokenizers


class TextTokenizer(Tokenizer):
    """[CLS] ids [SEP], of two texts [CLS] ids [SEP] ids [SEP]; a pretrained tokenizer puts its own specials where it puts them.
    They cannot be masked; the mask's own name inside a text ("a [MASK] b") becomes its id.

    Args:
        vocabulary, algorithm, pretrained, max_length, unit, record_words, field: see ``Text``.
        rows, types: see ``Embedding``. With two types or more, a token has two coordinates: its type, and its place.
    """

    together = True  # a raw value may be two texts, which are one piece
    suffixes = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet", ".arrow", ".feather")
    reading = ("record_words", "field")
    measuring = ("max_length", "library")
    encoding = ("unit", "library")
    library = LIBRARY

    def __init__(
        self,
        vocabulary: int,
        algorithm: Algorithm,
        pretrained: str | None,
        max_length: int,
        unit: Literal["token", "word"],
        record_words: int,
        field: str,
        rows: int | None = None,
        types: int = 0,
    ):
        self.vocabulary, self.algorithm, self.pretrained = vocabulary, algorithm, pretrained
        self.max_length, self.unit, self.record_words, self.field = max_length, unit, record_words, field
        self.rows, self.coordinates = rows, 2 if types > 1 else 1
        self.window = Window(max_length - 2, "text of {} tokens")
        self.model: tokenizers.Tokenizer | None = None
        self.roles: dict[str, str] = {}
        self.added: dict[int, list[int]] = {}

    def fit(self, records: Sequence[Record]) -> None:
        """Train the vocabulary on the records' texts, or load the pretrained one."""
        if self.pretrained is not None:
            self._load_pretrained(self.pretrained)
        else:
            if not records:
                raise ValueError("Text: no record to train the vocabulary on; give data, or pretrained")
            self._set(train(Raws(records), self.algorithm, self.vocabulary), SPECIALS)

    def assets(self) -> Assets:
        found = {"tokenizer.json": self._ready().to_str().encode(), "specials.json": json.dumps(self.roles).encode()}
        return found | ({"added.json": json.dumps(self.added).encode()} if self.added else {})

    def restore(self, assets: Assets) -> None:
        import tokenizers

        try:
            model = tokenizers.Tokenizer.from_str(assets["tokenizer.json"].decode())
        except Exception as error:  # of no special kind
            raise ValueError(f"tokenizer.json is no tokenizer that can be read: {error}") from error
        self.added = {int(i): old for i, old in json.loads(assets.get("added.json", b"{}")).items()}
        self._set(model, json.loads(assets["specials.json"]))

    def extend(self, texts: Sequence[str], extra: int) -> None:
        """Add words of these texts to the vocabulary; see ``Text``."""
        self.added = extend(self._ready(), texts, extra)
        self._set(self._ready(), self.roles)

    def _load_pretrained(self, pretrained: str) -> None:
        self._set(*pretrained_tokenizer(pretrained))

    def _set(self, model: tokenizers.Tokenizer, roles: dict[str, str]) -> None:
        model.no_truncation()
        model.no_padding()
        if self.unit == "word" and model.pre_tokenizer is None:
            raise BadRecipe("Text(unit='word'): this pretrained tokenizer does not split words; choose unit 'token'")
        self.model, self.roles = model, dict(roles)
        vocabulary = model.get_vocab()
        special = {role: vocabulary[token] for role, token in roles.items() if role != FRAME}
        self.cls, self.sep, self._mask = (special[role] for role in ("cls", "sep", "mask"))
        added = {i for i, token in model.get_added_tokens_decoder().items() if token.special}
        specials = added | set(special.values())
        self.specials = torch.tensor(sorted(specials), device="cpu")  # whatever device is the default now
        self._choices = torch.tensor(sorted(set(vocabulary.values()) - specials), device="cpu")
        if len(self._choices) == 0:
            raise BadRecipe(f"Text: the tokenizer has {len(specials)} special tokens and no other; is its vocabulary missing?")
        self.frames = frames(model, None, None) if FRAME in roles else frames(model, self.cls, self.sep)
        if self.max_length <= len(self.frames[0]):
            raise BadRecipe(
                f"Text(max_length={self.max_length}): no room for a token beside {len(self.frames[0])} special ones"
            )
        self.window.room = self.max_length - len(self.frames[0])

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
        ids = max(self._ready().get_vocab().values()) + 1
        if self.added:
            return max(self.rows or 0, ids)
        if self.rows is not None and self.rows < ids:
            raise BadRecipe(f"Text(embedding.rows={self.rows}): the vocabulary has {ids} ids; it belongs to another model")
        return self.rows or ids

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

    def tokenize(self, raw: str | tuple[str, str], draw: Draw | None = None) -> Piece:
        """A text longer than ``max_length`` is cut to a window at a place that ``draw`` chooses; of two, first the longer one.

        Raises:
            ValueError: ``raw`` is no text or an empty one, or there is no vocabulary yet.
        """
        codes = [self._codes(text) for text in texts_of(raw)]
        texts = [each[0] for each in codes]
        frame = self.frames[len(texts) - 1]
        if len(texts) == 1:
            kept = [self.window(len(texts[0]), draw)]
        else:
            kept = [*self.window.two(len(texts[0]), len(texts[1]), self.max_length - len(frame), draw)]
        whole, texts = texts, [text[at] for text, at in zip(texts, kept, strict=True)]
        id_N = frame.around(texts)
        place_N = torch.arange(len(id_N))
        return Piece(
            content=id_N,
            positions=place_N if self.coordinates == 1 else torch.stack([frame.types_of(texts), place_N], 1),
            units=frame.units_of([each[1, at] for each, at in zip(codes, kept, strict=True)]) if self.unit == "word" else None,
            maskable=~torch.isin(id_N, self.specials),
            cut=sum(map(len, texts)) < sum(map(len, whole)),
        )

    def encode(self, raw: str) -> Tensor:
        """The ids; where words are hidden as a whole, the number of each one's word after them, -1 for none."""
        encoding = self._encode(raw)
        words = [-1 if w is None else w for w in encoding.word_ids] if self.unit == "word" else []
        return torch.tensor(encoding.ids + words, dtype=torch.int32)

    def _codes(self, raw: str) -> Tensor:
        """(1, ids); where words are units (2, ids): under each id the number of its word."""
        codes = raw.codes if isinstance(raw, Encoded) else self.encode(raw)
        return codes.view(2, len(codes) // 2) if self.unit == "word" else codes[None]

    def _encode(self, raw: str) -> tokenizers.Encoding:
        fault = fault_of(raw)
        if fault:
            raise ValueError(fault)
        return self._ready().encode(raw, add_special_tokens=False)

    def tagged(self, raw: str, draw: Draw | None = None) -> tuple[int, Tensor]:
        """How many words a text has (white space parts them); and the word that each token of its piece begins, by its number,
        -1 where it begins none. ``draw`` as in ``tokenize``."""
        encoding = self._encode(raw)
        word_of: list[int] = []
        words = 0
        for i, character in enumerate(raw):
            words += not character.isspace() and (i == 0 or raw[i - 1].isspace())
            word_of.append(-1 if character.isspace() else words - 1)
        begun, last = [], -1
        for start, end in encoding.offsets:
            word = next((w for w in word_of[start:end] if w >= 0), last)
            begun.append(word if word > last else -1)
            last = max(last, word)
        before, after = ([-1] * len(fence) for fence in self.frames[0].fences)
        return words, torch.tensor([*before, *begun[self.window(len(begun), draw)], *after])

    def detokenize(self, content_R: Tensor) -> str:
        """The text. Byte-level BPE gives back every text exactly; the others up to Unicode form and white space. Two texts
        come back as one, with what stands between them."""
        model, ids = self._ready(), content_R.tolist()
        return model.decode(ids[self.frames[0].inside(ids)], skip_special_tokens=False)

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        texts = texts_of(record.raw)
        return min(sum(self._codes(text).shape[1] for text in texts) + len(self.frames[len(texts) - 1]), self.max_length)

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
        embedding: token types, factorised or padded tables, and what else published models have.
        extra: with ``init_from``, at most so many words of the recipe's own texts are added to the pretrained vocabulary: those
            that shorten them most. The row of each begins as the mean of the rows it was read as (arXiv:2109.04607).
    """

    adjustable = ("max_length", "unit", "record_words", "field", "extra")

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
        embedding: Embedding | None = None,
        extra: int = 0,
    ):
        super().__init__(positions, norm, eps, embedding)
        least = 256 + len(SPECIALS) if algorithm == "bpe" else len(SPECIALS) + 1
        if pretrained is None and vocabulary < least:
            raise BadRecipe(f"Text(vocabulary={vocabulary}): {algorithm} needs {least} or more (its alphabet and the specials)")
        if extra < 0:
            raise BadRecipe(f"Text(extra={extra}): needs 0 or more")
        if max_length < 3:
            raise BadRecipe(f"Text(max_length={max_length}): needs 3 or more: [CLS], a token, [SEP]")
        if record_words < 1:
            raise BadRecipe(f"Text(record_words={record_words}): needs 1 or more")
        self.extra = extra
        rows, types = self.settings.rows, self.settings.types
        self.tokenizer: TextTokenizer = TextTokenizer(
            vocabulary, algorithm, pretrained, max_length, unit, record_words, field, rows, types
        )

    def fit(self, records: Sequence[Record]) -> None:
        self.tokenizer.fit(records)

    def extend(self, records: Sequence[Record]) -> bool:
        """Once: what a run has extended is as it is for the runs that begin from it."""
        if not self.extra or self.tokenizer.added:
            return False
        self.tokenizer.extend([text for r in records for text in texts_of(r.raw)], self.extra)
        return True

    def extended(self) -> dict[int, list[int]]:
        return self.tokenizer.added
