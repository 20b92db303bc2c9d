"""The conformance kit over this plugin, and what is special about its modality."""

from pathlib import Path

import pytest
from mmm_example_name.example_name import ExampleName

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record
from mmm.corruptions.mask_vector import MaskVector
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.testing import batch, check_files, check_learns, check_masking, check_modality, check_plugin, near, tiny_model

RAWS = [[float(i * j % 23) for i in range(8 * (2 + j))] for j in range(1, 5)]
RECORDS = [Record("memory", i, raw, repr(raw).encode()) for i, raw in enumerate(RAWS)]


def same(raw, back):
    """Numbers are scaled on the way there and back."""
    import torch

    return near(torch.tensor(raw), torch.tensor(back), 1e-4)


def test_everything_that_this_package_brings():
    """All of it at once, as ``mmm plugin check`` does: needs the package installed, and takes half a minute."""
    check_plugin("mmm-example_name")


def test_the_modality():
    """The same kit, on arguments and raw values of one's own choice."""
    check_modality(ExampleName(patch=8), RAWS, RECORDS, same=same)


def test_a_masking_that_was_never_told_of_it():
    """Counts are exact, and what is hidden can be learned."""
    modality = ExampleName(patch=8)
    modality.fit(RECORDS)
    tokens = batch({"example_name": modality}, [{"example_name": raw} for raw in RAWS])
    check_masking(Uniform(0.4), tokens)
    model = tiny_model({"example_name": modality})
    objective = MaskedModeling(Uniform(0.4), MaskVector(), {"example_name": Pixels()})
    objective.setup(model)
    check_learns(objective, model, tokens)


def test_twenty_damaged_files(tmp_path: Path):
    """Each is read, or refused in a line that says why."""
    good = tmp_path / "good.series"
    good.write_text("\n".join(" ".join(map(str, raw)) for raw in RAWS))
    check_files(ExampleName(patch=8), good, tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1 2 three 4", "'three' is no number"), ("1 2 nan 4", "not finite"), ("1 2 3", "fewer than the 4"), ("\n", "no series")],
)
def test_what_cannot_be_read(tmp_path: Path, text: str, reason: str):
    """The message names the file, the line and the cause."""
    path = tmp_path / "bad.series"
    path.write_text(text)
    with pytest.raises(BadRecord, match=reason) as caught:
        list(ExampleName(patch=4).tokenizer.records(path))
    assert "bad.series" in str(caught.value)


def test_windows():
    """A long series is cut at a place that the draw chooses, and at its beginning without one."""
    tokenizer = ExampleName(patch=4, max_length=3).tokenizer
    raw = [float(i) for i in range(41)]
    assert tokenizer.detokenize(tokenizer.tokenize(raw).content) == raw[:12]
    starts = {tokenizer.tokenize(raw, Draw(0).at(epoch)).content[0, 0].item() for epoch in range(50)}
    assert starts == {float(4 * i) for i in range(8)}
    assert tokenizer.tokenize(raw).cut
    assert not tokenizer.tokenize(raw[:12]).cut
