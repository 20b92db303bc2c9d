"""The audit tells what is really hidden, and finds what must not be."""

import json
from dataclasses import replace

import pytest
import torch
from tiny import mmm, save, values, write

from mmm.core.masking import Masking
from mmm.core.objective import Objective
from mmm.core.training import Training
from mmm.core.view import View
from mmm.corruptions.drop import Drop
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.module import Data
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.look import Look
from mmm.masking.block import Block
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.masks import audit, character_picture, looks, spans, table
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds
from mmm.testing.toys import ToyIds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write(folder, ("image", "protein"), records=300)
    lines = [" ".join(str(1 + (i * j) % 16) for j in range(1, 10 + i % 9)) for i in range(200)]
    (folder / "some.numbers").write_text("\n".join(lines))
    return folder


FILES = {"image": "some.npz", "protein": "some.fasta", "ids": "some.numbers"}


def ready(folder, masking, corruption=None, names=("image", "protein")):
    """A training that never builds its model, and its data."""
    parts = {
        "image": Image(size=8, patch=2, channels=1, cls=True, augment=False),
        "protein": Protein(max_length=40),
        "ids": ToyIds(),
    }
    objective = (
        masking
        if isinstance(masking, Objective)
        else MaskedModeling(
            masking,
            corruption or MaskVector(),
            {n: Pixels() if n == "image" else TokenIds() for n in names},
        )
    )
    training = Training({n: parts[n] for n in names}, Transformer(16, 1, 2), objective, Readout(), AdamW(), seed=1)
    data = Data(files={n: str(folder / FILES[n]) for n in names}, tokens_per_batch=4096, validation=0.3)
    data.read(training.modalities, training.seed)
    for name, modality in training.modalities.items():
        modality.fit(data.training_records(name))
    return training, data


class All(Masking):
    """Hides everything, specials among it."""

    def rank(self, tokens, progress, draw):
        return draw.per_token(tokens.layout)

    def hidden(self, tokens, progress, draw):
        return torch.ones(len(tokens), dtype=torch.bool)


class Half(All):
    """Hides every other token, whatever unit it belongs to, of records with an even number of tokens."""

    def hidden(self, tokens, progress, draw):
        layout = tokens.layout
        even_S = torch.tensor([n % 2 == 0 for n in layout.lengths])
        return even_S[layout.segment_T] & (layout.place_T % 2 == 1)


class Later(Objective):
    """Predicts every token but the first from the one before it, hiding nothing."""

    def setup(self, model):
        """Nothing to meet."""

    def views(self, tokens, progress, draw):
        answer_N = (tokens.layout.place_T > 0).nonzero()[:, 0]
        return [View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool), answer_N=answer_N, read_N=answer_N - 1)]

    def counts(self, tokens, views):
        return {}

    def forward(self, model, tokens, views, progress):
        return []


def test_the_exact_rate_of_every_modality_and_no_special(folder):
    training, data = ready(folder, {"image": Uniform(0.5), "protein": Span(0.2)})
    assert not hasattr(training, "model")
    found = audit(training, data, 64)
    assert list(found) == ["image", "protein"]
    image, protein = found["image"], found["protein"]
    assert image["records"] == protein["records"] == 64
    assert image["tokens"] == 64 * 16
    assert image["rate"] == image["asked"] == image["drawn"] == 0.5
    assert image["visible"] == 64 * 17, "mask vectors and CLS enter the encoder too"
    chosen = sorted(looks(training, data, "protein", 64), key=lambda look: look.tokens.layout.segments)
    lengths = [n for look in chosen for n in look.tokens.layout.lengths]
    assert protein["rate"] == pytest.approx(sum(round(0.2 * (n - 2)) for n in lengths) / sum(n - 2 for n in lengths))
    for one in found.values():
        assert (one["specials_hidden"], one["units_split"], one["nothing_hidden"]) == (0, 0, 0)
        assert (one["shown_mask"], one["random"], one["kept"]) == (1, 0, 0)


def test_the_split_of_the_hidden(folder):
    found = audit(*ready(folder, Uniform(0.5), MaskVector({"protein": 0.1}, {"protein": 0.2}), ("protein",)), 300)["protein"]
    tokens = found["rate"] * found["tokens"]
    assert found["asked"] == found["rate"]
    for key, share in {"shown_mask": 0.7, "random": 0.1, "kept": 0.2}.items():
        # A random residue equals the true one now and then, and counts as kept.
        assert found[key] == pytest.approx(share, abs=4 * (share * (1 - share) / tokens) ** 0.5 + 0.008)
    assert found["shown_mask"] + found["random"] + found["kept"] == pytest.approx(1)


def test_dropped_tokens_do_not_enter_the_encoder(folder):
    found = audit(*ready(folder, Uniform(0.75), Drop(), ("image",)), 50)["image"]
    assert found["visible"] == 50 * (4 + 1)
    assert (found["rate"], found["asked"], found["shown_mask"]) == (0.75, 0.75, 1)


def test_what_is_left_out_unasked_is_hidden_too(folder):
    tokens = next(looks(*ready(folder, Uniform(0.5), names=("image",)), "image", 1)).tokens
    none_T = torch.zeros(len(tokens), dtype=torch.bool)
    look = Look.at(tokens, View.of(tokens, none_T, kept_K=torch.arange(len(tokens) - 3)))
    assert look.masked_T.tolist() == look.hidden_T.tolist() == [False] * (len(tokens) - 3) + [True] * 3
    assert not look.asked_T.any()


def test_hidden_specials_and_split_units_are_found(folder):
    found = audit(*ready(folder, All(), names=("ids",)), 40)["ids"]
    assert found["specials_hidden"] == 40
    assert found["units_split"] == 0
    training, data = ready(folder, Half(), names=("ids",))
    found = audit(training, data, 40)["ids"]
    lengths = [n for look in looks(training, data, "ids", 40) for n in look.tokens.layout.lengths]
    assert found["nothing_hidden"] == sum(n % 2 for n in lengths) > 0
    assert found["units_split"] == sum(n // 2 - 1 for n in lengths if n % 2 == 0), "the last unit is one token"


def test_what_is_asked_without_being_hidden_is_not_hidden(folder):
    found = audit(*ready(folder, Later(), names=("protein",)), 20)["protein"]
    assert found["rate"] == 0
    assert found["asked"] > 1, "the end is a special and asked too"
    assert found["drawn"] is None
    assert found["nothing_hidden"] == 20


def test_a_schedule_is_looked_at_over_the_whole_of_training(folder):
    class Rising(Uniform):
        def rates(self, tokens, progress, draw):
            return torch.full((tokens.layout.segments,), progress, dtype=torch.float64)

    found = audit(*ready(folder, Rising(), names=("image",)), 160)["image"]
    assert found["rate"] == pytest.approx(0.5, abs=0.02)


def test_the_same_records_whatever_their_order(folder):
    training, data = ready(folder, Uniform(0.3), names=("protein",))
    first = audit(training, data, 20)
    records = data.training_records("protein")
    data.training_records = lambda name: records[::-1]
    assert audit(training, data, 20) == first


def test_spans_end_with_their_record():
    hidden_T = torch.tensor([1, 1, 0, 1, 1, 1, 0, 1]).bool()
    assert spans(hidden_T, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])) == [2, 1, 2, 1]
    assert spans(torch.zeros(3).bool(), torch.zeros(3).long()) == []


def test_a_line_and_a_grid_in_characters(folder):
    training, data = ready(folder, {"image": Block(0.5), "protein": Uniform(0.2)})
    line = character_picture(next(looks(training, data, "protein", 1)))
    assert line[0] == line[-1] == "○"
    assert set(line[1:-1]) == {"■", "·"}
    special, *grid = character_picture(next(looks(training, data, "image", 1))).splitlines()
    assert special == "○"
    assert [len(row.split()) for row in grid] == [4] * 4
    assert "".join(grid).count("■") == 8
    look = next(looks(training, data, "image", 1))
    far_T = look.tokens.layout.position_TC[:, -1] == 3
    mirrored = replace(look, hidden_T=far_T)
    assert all(row.split() == ["·", "·", "·", "■"] for row in character_picture(mirrored).splitlines()[1:])


def test_the_table_has_a_row_for_every_number(folder):
    found = audit(*ready(folder, Uniform(0.5)), 10)
    made = table(found)
    assert [c.header for c in made.columns] == ["", "image", "protein"]
    assert made.row_count == len(found["image"]) + 1, "two of the span lengths"


def test_the_command_prints_words_pictures_and_json(tmp_path):
    recipe = save(tmp_path / "tiny.yaml", values(write(tmp_path / "files", ("text", "image"))))
    done = mmm("masks", recipe, "--records", "20")
    assert done.status == 0, done.err
    assert "specials hidden" in done.out
    assert "■" in done.out
    done = mmm("masks", recipe, "--json", "--records", "20", "--model.objective.init_args.masking.init_args.rate", "0.5")
    found = json.loads(done.out)
    assert set(found) == {"text", "image"}
    assert found["image"]["rate"] == 0.5
    assert found["image"]["records"] == 20
