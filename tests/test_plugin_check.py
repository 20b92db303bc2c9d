"""`mmm plugin check` and the parts of the kit it is made of: what is broken is found, named, and told how to be mended."""

import json
from pathlib import Path

import pytest
import torch
from installed import declare, importable
from tiny import mmm

from mmm.core.tokens import Piece
from mmm.testing import ToyIds, ToyPatches, check_plugin, check_positions, check_round_trip, check_specials
from mmm.testing.outcome import MEND, attempt
from mmm.testing.runs import same_losses

HEAD = '''\
"""A toy."""

import torch
from torch import nn

from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Piece

class DiceTokenizer(Tokenizer):
    """One token a throw, behind a special."""

    suffixes = (".dice",)
    size = 7
    choices = torch.arange({first}, 7)

    def __init__(self):
        {keep}

    def tokenize(self, raw, draw=None):
        if not raw or {strange}:
            raise ValueError("no throw")
        ids = torch.tensor([0, *map(int, raw)])
        return Piece(ids, {positions}, maskable=torch.arange(len(ids)) > 0)

    def detokenize(self, content_R):
        return {back}

    def empty(self):
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record):
        return len(record.raw) + {specials}

    def records(self, path):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield Record(str(path), number, line, line.encode())


class Dice(Modality):
    """Throws of a die."""

    def __init__(self):
        super().__init__()
        self.tokenizer = DiceTokenizer()

    def build(self, width):
        self.table = nn.Embedding(7, width)
        self.mask = nn.Parameter(torch.randn(width))
        {build}

    def embed(self, content_R, layout_N, hidden_N):
        x_ND = torch.where(hidden_N[:, None], self.mask, self.table(content_R))
        return {embedded}
'''
RECIPE = """\
# {name}-tiny.yaml - a toy
plugins: [mmm-dice]
model:
  modalities: {{{name}: Dice}}
  encoder: {{class_path: Transformer, init_args: {{width: 16, depth: 1, heads: 2}}}}
  objective:
    class_path: MaskedModeling
    init_args: {{masking: Uniform, corruption: MaskVector, targets: {{{name}: TokenIds}}}}
data: {{tokens_per_batch: 64}}
trainer: {{max_steps: 2}}
"""
SOUND = {
    "strange": "set(raw) - set('123456')",
    "first": "1",
    "keep": "pass",
    "positions": "torch.arange(len(ids))",
    "specials": "1",
    "back": "''.join(map(str, content_R[1:].tolist()))",
    "build": "pass",
    "embedded": "x_ND",
}
BROKEN = {
    "strange": "False",
    "first": "0",
    "keep": "self.check = lambda: None",
    "positions": "torch.arange(len(ids)) // 2",
    "specials": "0",
    "back": "'6' * len(content_R)",
    "build": "self.unused = nn.Linear(2, 2); self.shift = torch.rand(width)",
    "embedded": "x_ND + self.shift - x_ND.mean(0)",
}


@pytest.fixture
def dice(tmp_path):
    """Writes a plugin of that toy and declares it."""
    package = tmp_path / "mmm_dice"
    package.mkdir()

    def write(faults: dict[str, str], name: str = "dice", examples: bool = True) -> Path:
        (package / "__init__.py").write_text(HEAD.format(**{**SOUND, **faults}))
        (tmp_path / "pyproject.toml").write_text("")  # a project's own folder, where recipes lie beside the package
        (tmp_path / "recipes").mkdir()
        (tmp_path / "recipes" / f"{name}-tiny.yaml").write_text(RECIPE.format(name=name))
        if examples:
            (package / "examples").mkdir()
            (package / "examples" / "games.dice").write_text("\n".join(["1234561", "665544", "31", "6262626", "12345", "44"]))
        declare(tmp_path, "mmm-dice", "mmm_dice")
        return package

    with importable(tmp_path, package="mmm_dice"):
        yield write


def test_everything_that_is_broken_is_found_at_once(dice):
    """One fault does not hide the others. The name ``words`` is the kit's own in mixtures, so no run is begun."""
    dice(BROKEN, name="words")
    done = mmm("plugin", "check", "mmm-dice", "--json")
    assert done.status == 2, done.err
    found = json.loads(done.out)
    assert (found["plugin"], found["ok"]) == ("mmm-dice 1.0", False)
    failed = {c["check"]: c for c in found["checks"] if not c["ok"]}
    assert failed.keys() == {
        "round trip", "workers", "positions", "specials and units", "length", "malformed files", "gradients", "packed = alone",
        "save and load", "objective", "trains",
    }  # fmt: skip
    for check, text in {
        "round trip": "came back as",
        "workers": "cannot be pickled",
        "positions": "2 tokens of one record stand at position",
        "specials and units": r"choices has the ids [0] of specials",
        "length": "length says",
        "malformed files": "ids outside 0..6",
        "gradients": "no gradient reaches unused.weight",
        "packed = alone": "depends on its batch mates",
        "save and load": "kept in neither",
        "trains": "'words' cannot be mixed with the kit's own",
    }.items():
        assert text in failed[check]["failure"], failed[check]
        assert failed[check]["mend"] == MEND[check]
    passed = {c["check"] for c in found["checks"] if c["ok"]}
    assert passed >= {
        "imports",
        "recipe",
        "constructs",
        "sample records",
        "pieces",
        "mask vector",
        "empty in a batch",
        "mask counts",
    }


def test_the_report_says_what_failed_and_how_it_is_mended(dice):
    dice({}, examples=False)
    done = mmm("plugin", "check", "dice")
    assert done.status == 2
    assert done.out.splitlines() == [
        "mmm-dice 1.0",
        "  ok      imports              Dice, DiceTokenizer",
        "  ok      recipe               dice-tiny.yaml",
        "",
        "Dice, as dice-tiny.yaml constructs it",
        "  ok      constructs",
        "  FAILED  sample records",
        "          no sample records: mmm_dice/examples/ has no file that it reads",
        "          (.dice)",
        "          mend: put a few small files that its tokenizer reads into the",
        "          package's folder examples/",
        "",
        "4 checks, 1 failed",
    ]
    with pytest.raises(AssertionError, match=r"has no file that it reads \(\.dice\)\n    mend: put a few small files"):
        check_plugin("mmm-dice")


def test_a_plugin_that_is_not_installed(dice):
    dice({})
    for name in ("mmm-dise", "dise"):
        done = mmm("plugin", "check", name)
        assert (done.status, len(done.errors)) == (2, 1)
        assert f"no plugin {name!r} is installed" in done.err
        assert "mmm-dice" in done.err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import a_library_that_is_not_there\n\nfrom mmm.core.masking import Masking\n\n\nclass Mine(Masking):\n    pass\n",
         "a_library_that_is_not_there"),
        ("x = 1\n", "no class in it descends from a role"),
        ("class Broken(:\n", "no Python"),
    ],
    ids=["an import", "no class", "no Python"],
)  # fmt: skip
def test_a_package_that_cannot_be_used(tmp_path, source, said):
    (tmp_path / "mmm_odd").mkdir()
    (tmp_path / "mmm_odd" / "__init__.py").write_text(source)
    declare(tmp_path, "mmm-odd", "mmm_odd")
    with importable(tmp_path, package="mmm_odd"):
        done = mmm("plugin", "check", "mmm-odd")
    assert done.status == 2
    assert "FAILED  imports" in done.out
    assert said in " ".join(done.out.split())


PARTS = '''\
"""Parts that are no modality."""

import torch

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.network import Decoder, Encoded, Encoder
from mmm.core.sampler import Sampler, filled
from mmm.core.view import View
from mmm.targets.pixels import Pixels


class FromTheEnd(Masking):
    """Hides the last tokens of a segment."""

    def rank(self, tokens, progress, draw):
        return draw.per_token(tokens.layout) - tokens.layout.place_T // 3


class Twice(FromTheEnd):
    """Depends on the place in the batch."""

    def rank(self, tokens, progress, draw):
        return draw.uniform(torch.arange(len(tokens)))


class Halves(Pixels):
    """Half the numbers."""

    def truth(self, tokens, answer_N):
        return super().truth(tokens, answer_N) / 2


class Shows(Corruption):
    """Hides nothing."""

    def __call__(self, tokens, hidden_T, progress, draw):
        return View.of(tokens, torch.zeros_like(hidden_T), answer_N=hidden_T.nonzero()[:, 0])


class Linear(Encoder):
    """One layer.

    Args:
        width: D.
    """

    depth = 1

    def __init__(self, width: int = 64):
        super().__init__()
        self.width = width
        self.layer = torch.nn.Linear(width, width)

    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        y_KD = x_KD + self.layer(x_KD)
        return Encoded(y_KD, {i: y for i, y in enumerate((x_KD, y_KD)) if i in want})


class Mean(Linear):
    """Mixes records."""

    def forward(self, x_KD, layout_K, rule=None, time_S=None, want=()):
        return super().forward(x_KD - x_KD.mean(0), layout_K, rule, time_S, want)


class AtOnce(Sampler):
    """All tokens in one step."""

    def __init__(self, temperature: float = 1.0):
        super().__init__(1, temperature)

    def __call__(self, model, tokens, hidden_T, draw, drops=False):
        at_N = hidden_T.nonzero()[:, 0]
        return filled(tokens, at_N, self.guess(model, tokens, hidden_T, at_N, draw, 0, drops).id_N)


class Specials(AtOnce):
    """Puts a special there."""

    def __call__(self, model, tokens, hidden_T, draw, drops=False):
        at_N = hidden_T.nonzero()[:, 0]
        return filled(tokens, at_N, torch.zeros(len(at_N), dtype=torch.int64))


class Peeks(AtOnce):
    """Shows the model what it is to fill in."""

    def __call__(self, model, tokens, hidden_T, draw, drops=False):
        at_N = hidden_T.nonzero()[:, 0]
        return filled(tokens, at_N, self.guess(model, tokens, hidden_T & False, at_N, draw, 0, drops).id_N)
'''


def test_parts_that_are_no_modality(tmp_path):
    (tmp_path / "mmm_parts").mkdir()
    (tmp_path / "mmm_parts" / "__init__.py").write_text(PARTS)
    declare(tmp_path, "mmm-parts", "mmm_parts")
    with importable(tmp_path, package="mmm_parts"):
        done = mmm("plugin", "check", "mmm-parts", "--json")
    found = {c["part"]: c for c in json.loads(done.out)["checks"]}
    assert {p: c["ok"] for p, c in found.items()} == {
        "mmm-parts": True, "FromTheEnd": True, "Twice": False, "Halves": True, "Shows": True, "Linear": True, "Mean": False,
        "AtOnce": True, "Specials": False, "Peeks": False,
    }  # fmt: skip
    assert "another mask alone than in a batch" in found["Twice"]["failure"]
    assert "predicts patches" in found["Halves"]["note"]
    assert "batch mates leak into it" in found["Mean"]["failure"]
    assert "looks at the hidden tokens" in found["Peeks"]["failure"]
    assert found["AtOnce"]["note"] == "fills in ids"
    assert "puts ids there that stand for no content" in found["Specials"]["failure"]


# -- pieces of the kit ---------------------------------------------------------------------------------------------------------


def changed(make, **fields):
    """A toy whose pieces have other fields."""
    modality = make()
    real = modality.tokenizer.tokenize

    def tokenize(raw, draw=None):
        piece = real(raw)
        given = {f: getattr(piece, f) for f in ("content", "positions", "units", "maskable")}
        return Piece(**{**given, **{f: change(piece) for f, change in fields.items()}})

    modality.tokenizer.tokenize = tokenize
    return modality


def test_positions_are_unique_or_all_the_same():
    raws = [[1, 2, 3], [4, 5]]
    assert check_positions(ToyIds(), raws) == "unique"
    assert check_positions(ToyPatches(), [torch.rand(2, 3, 4)]) == "unique"
    assert check_positions(changed(ToyIds, positions=lambda p: torch.zeros(len(p))), raws) == "a set"
    with pytest.raises(AssertionError, match=r"2 tokens of one record stand at position \(1.0,\)"):
        check_positions(changed(ToyIds, positions=lambda p: (torch.arange(len(p)) + 1) // 2), raws)
    with pytest.raises(AssertionError, match="tokens of some records have positions of their own"):
        check_positions(changed(ToyIds, positions=lambda p: torch.arange(len(p)) * (len(p) == 4)), raws)


def test_specials():
    raws = [[1, 2, 3], [4, 5]]
    assert check_specials(ToyIds(), raws) == "7 tokens, 2 of them specials; 3 units that can be hidden"
    with pytest.raises(AssertionError, match="nothing can be hidden"):
        check_specials(changed(ToyIds, maskable=lambda p: torch.zeros(len(p), dtype=torch.bool)), raws)
    with pytest.raises(AssertionError, match="stands in one unit with one"):
        check_specials(changed(ToyIds, units=lambda p: torch.zeros(len(p), dtype=torch.int64)), raws)


def test_the_mask_is_an_id_of_its_own():
    for mask in (3, 17, -1):
        modality = ToyIds()
        modality.tokenizer.mask = mask
        with pytest.raises(AssertionError, match=f"tokenizer.mask is {mask}; it is an id below size"):
            check_specials(modality, [[1, 2]])


def test_round_trips():
    raws = [[1, 2, 3], [4, 5]]
    assert check_round_trip(ToyIds(), raws) == "exact"
    grid = ToyPatches()
    assert check_round_trip(grid, [torch.rand(1, 3, 4)], same=lambda raw, back: torch.equal(raw[0], back)) == "exact"
    scaled = ToyPatches()
    scaled.tokenizer.detokenize = lambda content_R: (content_R + 1e-5)[None]
    assert check_round_trip(scaled, [torch.rand(1, 3, 4)]) == "by content"
    other = ToyIds()
    other.tokenizer.detokenize = lambda content_R: content_R.numpy().tobytes()
    assert check_round_trip(other, raws) == "one way"
    for back, message in (([1], "tokenised to other content"), ([99], "which tokenize refuses")):
        other.tokenizer.detokenize = lambda content_R, back=back: back
        with pytest.raises(AssertionError, match=message):
            check_round_trip(other, raws)


def test_two_runs_are_compared_term_by_term(tmp_path):
    for name, rows in {
        "one": "1,a/TokenIds,10.0,4\n", "alike": "1,a/TokenIds,10.0005,4\n", "count": "1,a/TokenIds,10.0,5\n",
        "loss": "1,a/TokenIds,10.1,4\n",
    }.items():  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "losses.csv").write_text("step,term,total,count\n" + rows)
    same_losses(tmp_path / "one", tmp_path / "alike")
    with pytest.raises(AssertionError, match="one process asks 4 tokens, two ask 5"):
        same_losses(tmp_path / "one", tmp_path / "count")
    with pytest.raises(AssertionError, match=r"the loss is 10 on one process and 10\.1 on two"):
        same_losses(tmp_path / "one", tmp_path / "loss")


def test_a_crash_in_somebodys_code_is_told_with_its_place():
    def crash():
        return {}["nothing"]

    outcome = attempt("part", "speed", crash)
    assert outcome.failure == f"KeyError: 'nothing' (test_plugin_check.py, line {crash.__code__.co_firstlineno + 1})"
    assert outcome.mend == MEND["speed"]
    assert attempt("part", "speed", lambda: "1 record a second").note == "1 record a second"
