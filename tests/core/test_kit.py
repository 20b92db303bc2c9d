"""The conformance kit finds what is wrong: every check is shown a part that breaks one promise."""

import copy
from dataclasses import replace
from itertools import count

import pytest
import torch
from torch import nn

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.network import Encoded
from mmm.core.tokens import Piece
from mmm.core.view import View
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds
from mmm.testing import (
    ToyIds,
    ToyPatches,
    ToyWave,
    batch,
    check_corruption,
    check_decoder,
    check_encoder,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    check_target,
    damaged,
    equal,
    found,
    tiny_model,
    toy_raws,
    toys,
)
from mmm.testing.toys import _Ids

RAWS = toy_raws()
TOKENS = batch(toys(), RAWS)


@pytest.mark.parametrize("name", ["ids", "patches", "wave"])
def test_the_toys_conform(name, tmp_path):
    same = equal if name != "patches" else lambda raw, back: equal(raw.reshape(-1, 4), back)
    check_modality(toys()[name], [r[name] for r in RAWS if name in r], same=same)
    good = tmp_path / "good.numbers"
    good.write_text("1 2 3 4\n5 6 7 8\n")
    check_files(toys()[name], good, tmp_path)


def test_twenty_damages():
    cases = dict(damaged(bytes(range(1, 200))))
    assert len(cases) == 20
    assert bytes(range(1, 200)) not in cases.values()


def test_found():
    assert {"Uniform", "Span", "Block"} <= set(found("masking", Masking))
    assert "Masking" not in found("masking", Masking)


class Global(Uniform):
    def rank(self, tokens, progress, draw):
        return torch.rand(len(tokens))


class ByPlace(Uniform):
    def rank(self, tokens, progress, draw):
        return draw.uniform(torch.arange(len(tokens)))


class Halves(Uniform):
    def hidden(self, tokens, progress, draw):
        return tokens.layout.maskable_T & (tokens.layout.place_T % 4 == 1)


class Specials(Uniform):
    def hidden(self, tokens, progress, draw):
        return super().hidden(tokens, progress, draw) | ~tokens.layout.maskable_T


class TooMany(Uniform):
    def hidden(self, tokens, progress, draw):
        return tokens.layout.maskable_T.clone()


class Deaf(Uniform):
    def rank(self, tokens, progress, draw):
        return -tokens.layout.place_T.float()


class Counting(Uniform):
    calls = 0

    def rank(self, tokens, progress, draw):
        self.calls += 1
        return draw.per_token(tokens.layout, self.calls)


class Writing(Uniform):
    def rank(self, tokens, progress, draw):
        tokens.layout.unit_T.add_(0 if len(tokens) == 0 else 1)
        return draw.per_token(tokens.layout)


@pytest.mark.parametrize(
    ("masking", "message"),
    [
        (Global, "global random state"),
        (ByPlace, "another mask alone than in a batch"),
        (Halves, "splits the unit"),
        (Specials, "not maskable"),
        (TooMany, "its law \\(exact\\) allows"),
        (Deaf, "one mask whatever the draw"),
        (Counting, "two masks for one draw"),
        (Writing, "wrote into the unit_T"),
    ],
)
def test_broken_maskings(masking, message):
    with pytest.raises(AssertionError, match=message):
        check_masking(masking(0.4), copy.deepcopy(TOKENS))


class Shifted(Corruption):
    def __call__(self, tokens, hidden_T, progress, draw):
        content = tokens.content["ids"].clone()
        content[1:] = draw.integers(16, torch.arange(max(len(content) - 1, 0)))
        return View.of(tokens.with_content(ids=content), hidden_T, clean=tokens)


class InPlace(Corruption):
    def __call__(self, tokens, hidden_T, progress, draw):
        tokens.content["ids"][:] = 1
        return View.of(tokens, hidden_T)


class AsksSpecials(Corruption):
    def __call__(self, tokens, hidden_T, progress, draw):
        return View.of(tokens, hidden_T, answer_N=torch.arange(len(tokens)))


@pytest.mark.parametrize(
    ("corruption", "message"),
    [(Shifted, "other content alone"), (InPlace, "wrote into the content of ids"), (AsksSpecials, "asks for specials")],
)
def test_broken_corruptions(corruption, message):
    hidden_T = Uniform(0.4).hidden(TOKENS, 0, Draw(0))
    with pytest.raises(AssertionError, match=message):
        check_corruption(corruption(), copy.deepcopy(TOKENS), hidden_T)


class Mean(TokenIds):
    def loss(self, output_NV, truth_N):
        return super().loss(output_NV, truth_N).mean()


class Relative(Pixels):
    def truth(self, tokens, answer_N):
        return super().truth(tokens, answer_N) - tokens.content[self.name].mean()


class Forgetful(Pixels):
    def bind(self, name, tokenizer):
        super().bind(name, tokenizer)
        self.scale = getattr(self, "scale", 1.0)

    def truth(self, tokens, answer_N):
        return super().truth(tokens, answer_N) * self.scale

    def fit(self, records):
        self.scale = 2.0


@pytest.mark.parametrize(
    ("target", "name", "message"),
    [
        (Mean, "ids", "Do not average"),
        (Relative, "patches", "depends on its batch mates"),
        (Forgetful, "patches", "do not bring its truth back"),
    ],
)
def test_broken_targets(target, name, message):
    records = [object()] if target is Forgetful else ()
    with pytest.raises(AssertionError, match=message):
        check_target(target(), name, TOKENS, records)


class Leaking(Transformer):
    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        encoded = super().forward(x_KD, layout_K, rule, time_S, want)
        return Encoded(encoded.x_KD + encoded.x_KD.sum(0) / (len(x_KD) + 1), encoded.layers)


class Lawless(Transformer):
    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        return super().forward(x_KD, layout_K, None, time_S, want)


class Idle(Transformer):
    def __init__(self, *args):
        super().__init__(*args)
        self.unused = nn.Linear(2, 2)


class Silent(Transformer):
    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        return Encoded(super().forward(x_KD, layout_K, rule, time_S).x_KD)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (Leaking, "batch mates leak"),
        (Lawless, "does not obey"),
        (Idle, "no gradient reaches unused"),
        (Silent, "returned layers"),
    ],
)
def test_broken_encoders(encoder, message):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match=message):
        check_encoder(encoder(16, 1, 2))


class Everything(Readout):
    def forward(self, x_KD, view):
        return x_KD


def test_a_broken_decoder():
    with pytest.raises(AssertionError, match="places were asked"):
        check_decoder(Everything())


class Means(MaskedModeling):
    def forward(self, model, tokens, views, progress):
        terms = super().forward(model, tokens, views, progress)
        for term in terms:
            term.total = term.total / max(term.count, 1)
        return terms


class Sparse(MaskedModeling):
    def forward(self, model, tokens, views, progress):
        return [t for t in super().forward(model, tokens, views, progress) if t.count]


class Miscounted(MaskedModeling):
    def counts(self, tokens, views):
        return {name: count + 1 for name, count in super().counts(tokens, views).items()}


class Unlearning(MaskedModeling):
    def forward(self, model, tokens, views, progress):
        terms = super().forward(model, tokens, views, progress)
        for term in terms:
            term.total = term.total.detach() + 0 * term.total
        return terms


@pytest.mark.parametrize(
    ("objective", "check", "message"),
    [
        (Means, check_objective, "never a mean"),
        (Sparse, check_objective, "forward counted"),
        (Miscounted, check_objective, "counts says"),
        (Unlearning, check_learns, "should fall below"),
    ],
)
def test_broken_objectives(objective, check, message):
    modalities = {"ids": ToyIds(), "patches": ToyPatches()}
    model = tiny_model(modalities)
    broken = objective(Uniform(0.5), MaskVector(), {"ids": TokenIds(), "patches": Pixels()})
    broken.setup(model)
    raws = [{n: r[n] for n in modalities if n in r} for r in RAWS if set(r) != {"wave"}]
    with pytest.raises(AssertionError, match=message):
        check(broken, model, batch(modalities, raws))


def ids(**changes):
    """A modality of ids whose tokenizer differs in one thing."""
    modality = ToyIds()
    globals()["Changed"] = type("Changed", (_Ids,), {"__module__": __name__, **changes})  # where pickle looks for it
    modality.tokenizer = Changed()  # noqa: F821
    return modality


def _tokenize(**fields):
    def tokenize(self, raw, draw=None):
        piece = _Ids.tokenize(self, raw)
        given = {
            f: fields[f](piece) if f in fields else getattr(piece, f) for f in ("content", "positions", "units", "maskable")
        }
        return Piece(**given)

    return tokenize


class Shows(ToyIds):
    def embed(self, content_R, layout_N, hidden_N):
        return super().embed(content_R, layout_N, torch.zeros_like(hidden_N))


class LetsThrough(ToyPatches):
    def embed(self, content_R, layout_N, hidden_N):
        return super().embed(content_R, layout_N, hidden_N) + 0.1 * self.project(content_R)


class Mixes(ToyPatches):
    def embed(self, content_R, layout_N, hidden_N):
        x_ND = super().embed(content_R, layout_N, hidden_N)
        return x_ND - x_ND.mean(0)


class LosesState(ToyWave):
    def build(self, width):
        super().build(width)
        self.shift = torch.rand(width)

    def embed(self, content_R, layout_N, hidden_N):
        return super().embed(content_R, layout_N, hidden_N) + self.shift


class TiedView(ToyIds):
    def tied(self):
        return self.table.weight[:-1]


def _with_lambda():
    modality = ToyIds()
    modality.tokenizer.choose = lambda: None
    return modality


BROKEN = {
    "positions": (lambda: ids(coordinates=2), "coordinates = 2"),
    "units go back": (lambda: ids(tokenize=_tokenize(units=lambda p: -p.units)), "never decrease"),
    "maskable are numbers": (lambda: ids(tokenize=_tokenize(maskable=lambda p: p.maskable.long())), "must be .* bools"),
    "empty of another type": (lambda: ids(empty=lambda self: torch.zeros(0)), "they must agree"),
    "ids without end": (lambda: ids(choices=torch.arange(40)), "outside 0..16"),
    "a lambda in the tokenizer": (lambda: _with_lambda(), "cannot be pickled"),
    "the way back": (lambda: ids(detokenize=lambda self, content_R: []), "came back as"),
    "global random": (
        lambda: ids(tokenize=_tokenize(content=lambda p: torch.randint_like(p.content, 16))),
        "global random state",
    ),
    "shows the hidden": (Shows, "Put the mask vector there|zero everywhere|no gradient reaches mask"),
    "lets the hidden through": (LetsThrough, "lets hidden content through"),
    "mixes records": (Mixes, "depends on its batch mates"),
    "state in neither": (LosesState, "learned kept in neither"),
    "a view as tied": (TiedView, "must be a parameter"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_modalities(case):
    torch.manual_seed(0)
    make, message = BROKEN[case]
    modality = make()
    name = "wave" if isinstance(modality, ToyWave) else "patches" if isinstance(modality, ToyPatches) else "ids"
    same = equal if name == "ids" else None
    with pytest.raises(AssertionError, match=message):
        check_modality(modality, [r[name] for r in RAWS if name in r], same=same)


def test_a_crash_on_a_damaged_file_is_reported(tmp_path):
    good = tmp_path / "good.numbers"
    good.write_text("1 2 3 4\n")
    modality = ToyPatches()
    modality.tokenizer.records = _crash_unless(good, modality.tokenizer.records)
    with pytest.raises(AssertionError, match="ends in IndexError"):
        check_files(modality, good, tmp_path)


KEPT = {
    "no such attribute": lambda tokenizer: setattr(tokenizer, "measuring", ("max_length", "width")),
    "records that are kept on disk are others": lambda tokenizer: setattr(tokenizer, "records", _renamed(tokenizer.records)),
    "lengths of records that are kept on disk": lambda tokenizer: setattr(tokenizer, "length", _counting(tokenizer.length)),
}


@pytest.mark.parametrize("message", KEPT)
def test_what_is_not_kept_on_disk_as_it_is(message, tmp_path):
    good = tmp_path / "good.fasta"
    good.write_text(">a\nMKV\n>b\nMKVA\n")
    modality = Protein(max_length=8)
    for folder in (tmp_path / "sound", tmp_path / "broken"):
        folder.mkdir()
    check_files(modality, good, tmp_path / "sound")
    KEPT[message](modality.tokenizer)
    with pytest.raises(AssertionError, match=message):
        check_files(modality, good, tmp_path / "broken")


def _renamed(records):
    calls = count()
    return lambda path: (replace(record, record=f"{record.record} {next(calls)}") for record in records(path))


def _counting(length):
    calls = count()
    return lambda record: length(record) + next(calls)


def _crash_unless(good, records):
    def read(path):
        if path != good:
            raise IndexError("list index out of range")
        return records(path)

    return read
