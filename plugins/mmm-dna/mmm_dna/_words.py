"""How a sequence is written in tokens: base by base, in k-mers, or in pieces that were learned.

Every way of writing is exact: ``join`` gives back what ``spell`` was given, ambiguous bases too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

SPECIALS = ("[CLS]", "[SEP]", "[MASK]")
CLS, SEP, MASK = range(3)
BASES = "ACGT"
AMBIGUOUS = "NRYSWKMBDHV"
"""IUPAC codes for bases that were not read for certain: N any, R A or G, Y C or T, S C or G, W A or T, K G or T, M A or C,
B not A, D not C, H not G, V not T (Cornish-Bowden 1985, doi:10.1093/nar/13.9.3021)."""

COMPLEMENT = str.maketrans("ACGTNRYSWKMBDHV", "TGCANYRSWMKVHDB")

FIT_BASES = 2**23
"""Bases that a vocabulary is trained on, at most: 8 million."""
FIT_STRETCH = 1000
"""Bases that are merged as one word while it is trained."""


def reverse_complement(sequence: str) -> str:
    """The other strand, read in its own direction; what is no base stays what it is."""
    return sequence[::-1].translate(COMPLEMENT)


class Letters:
    """One token a letter.

    Attributes:
        tokens: by id: three specials, the 15 letters of IUPAC, then what a way of writing adds.
        choices: ids of tokens that are asked and that replace others, ascending. An ambiguous base is shown, never asked: there
            is no truth to it.
        longest: letters a token has at most. shared: how many of them it shares with the next one.
    """

    longest, shared = 1, 0

    def __init__(self, words: Iterable[str] = ()):
        self._set(words)

    def _set(self, words: Iterable[str]) -> None:
        self.tokens = [*SPECIALS, *BASES, *AMBIGUOUS, *words]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.choices = [self.ids[base] for base in BASES]

    def letters(self, tokens: int) -> int:
        """Letters that so many tokens reach over, at most."""
        return tokens * (self.longest - self.shared) + self.shared

    def spell(self, sequence: str) -> list[int]:
        """Ids of a sequence of letters."""
        return [self.ids[letter] for letter in sequence]

    def join(self, ids: Sequence[int]) -> str:
        """The sequence of ids; a special is told by its name."""
        return "".join(self.tokens[i] for i in ids)


class Kmers(Letters):
    """Runs of k bases. What has an ambiguous base in it, or is left over at the end, is written letter by letter and not asked.

    Paper: side by side: Nucleotide Transformer, doi:10.1038/s41592-024-02523-z; overlapping: DNABERT,
    doi:10.1093/bioinformatics/btab083.

    Args:
        k: bases a token. overlap: a token begins at every base, and shares all but one with the next; else side by side.
    """

    def __init__(self, k: int, overlap: bool):
        self.longest, self.shared, self.overlap = k, k - 1 if overlap else 0, overlap
        words = ["".join(bases) for bases in itertools.product(BASES, repeat=k)]
        super().__init__(words)
        self.choices = [self.ids[word] for word in words]

    def spell(self, sequence: str) -> list[int]:
        k, ids = self.longest, self.ids
        if not self.overlap:
            chunks = (sequence[i : i + k] for i in range(0, len(sequence), k))
            return [i for chunk in chunks for i in ([ids[chunk]] if chunk in ids else super(Kmers, self).spell(chunk))]
        found = [ids.get(sequence[i : i + k], ids[sequence[i]]) for i in range(len(sequence) - k + 1)]
        if not found or found[-1] not in self._words:  # a last k-mer holds the letters behind its first; here none does
            found += super().spell(sequence[len(found) :])
        return found

    @property
    def _words(self) -> range:
        return range(self.choices[0], len(self.tokens))

    def join(self, ids: Sequence[int]) -> str:
        if not self.overlap:
            return super().join(ids)
        ends = (i + 1 == len(ids) or ids[i + 1] < len(SPECIALS) for i in range(len(ids)))
        return "".join(
            self.tokens[i] if end or i not in self._words else self.tokens[i][0] for i, end in zip(ids, ends, strict=True)
        )


class Pieces(Letters):
    """Pieces of bases, learned by byte-pair encoding. An ambiguous base is a token of its own.

    Paper: DNABERT-2, arXiv:2306.15006, section 3.1; BPE, arXiv:1508.07909.

    Args:
        vocabulary: tokens of all kinds, at most.
    """

    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary
        self.model: tokenizers.Tokenizer | None = None

    def fit(self, sequences: Iterable[str]) -> None:
        """Learn pieces from sequences; the same ones, the same pieces. At most ``FIT_BASES`` bases are looked at."""
        from tokenizers import Tokenizer, models, trainers

        stretches: list[str] = []
        room = FIT_BASES
        for sequence in sequences:
            for run in re.findall(f"[{BASES}]+", sequence[:room]):
                stretches += (run[i : i + FIT_STRETCH] for i in range(0, len(run), FIT_STRETCH))
            room -= len(sequence)
            if room <= 0:
                break
        if not stretches:
            raise ValueError("Dna: no base to train the vocabulary on; give data")
        model = Tokenizer(models.BPE())
        size = self.vocabulary - len(self.tokens) + len(BASES)  # the bases are among its tokens, too
        model.train_from_iterator(
            stretches, trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(BASES), show_progress=False)
        )
        self.restore(model.to_str())

    def restore(self, text: str) -> None:
        """Take up what was learned. Raises ValueError where it is no vocabulary of pieces."""
        import tokenizers

        try:
            self.model = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"pieces.json is no vocabulary that can be read: {error}") from error
        words = [word for word, _ in sorted(self.model.get_vocab().items(), key=lambda item: item[1])]
        if not set(words) >= set(BASES) or set("".join(words)) > set(BASES):
            raise ValueError("pieces.json is no vocabulary of DNA: its pieces are not made of A, C, G and T")
        self._set(word for word in words if len(word) > 1)
        self.longest = max(map(len, words))
        self.choices = [i for i, token in enumerate(self.tokens) if i >= len(SPECIALS) and set(token) <= set(BASES)]

    def spell(self, sequence: str) -> list[int]:
        if self.model is None:
            raise ValueError("Dna has no vocabulary yet: call fit(records) or restore(assets) first")
        found: list[int] = []
        for run in re.findall(f"[{BASES}]+|.", sequence):
            words = self.model.encode(run).tokens if run[0] in BASES else [run]
            found += (self.ids[word] for word in words)
        return found
