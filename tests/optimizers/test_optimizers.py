"""Optimisers: the library's own steps, their groups, and whole runs that go on to the same bits."""

import csv

import pytest
import timm.optim
import torch
from tiny import mmm, save, values, write
from torch import nn

from mmm.optimizers.adamw import AdamW
from mmm.optimizers.lion import Lion
from mmm.optimizers.muon import Muon

LIBRARY = {
    "AdamW": (AdamW, lambda p: torch.optim.AdamW(p, 0.01, (0.9, 0.98), weight_decay=0.01)),
    "Lion": (Lion, lambda p: timm.optim.Lion(p, 0.01, (0.9, 0.99), weight_decay=0.1)),
    "Muon": (Muon, lambda p: timm.optim.Muon(p, 0.01, 0.01, 0.95, True, betas=(0.9, 0.95))),
}


def product() -> nn.Parameter:
    torch.manual_seed(0)
    return nn.Parameter(torch.randn(6, 4))


def steps(parameter: nn.Parameter, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    x = torch.linspace(-1, 1, 24).view(4, 6)
    for _ in range(3):
        optimizer.zero_grad()
        (x @ parameter).square().sum().backward()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("name", LIBRARY)
def test_a_hidden_matrix_moves_as_the_library_moves_it(name):
    cls, library = LIBRARY[name]
    ours, theirs = product(), product()
    made = cls(lr=0.01).build([ours], hidden=[ours])
    assert torch.equal(steps(ours, made), steps(theirs, library([theirs])))
    assert not torch.equal(ours, product())


def test_muon_leaves_what_is_no_product_inside_to_adamw():
    ours, theirs = product(), product()
    steps(ours, Muon(lr=0.01, nesterov=False).build([ours]))
    steps(theirs, torch.optim.AdamW([theirs], 0.01, (0.9, 0.95), weight_decay=0.01))
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("cls", [AdamW, Lion, Muon])
def test_what_has_no_gradient_stays(cls):
    there, absent = product(), product()
    steps(there, cls(lr=0.01, weight_decay=0.5).build([there, absent], hidden=[there, absent]))
    assert torch.equal(absent, product())


@pytest.mark.parametrize("cls", [AdamW, Lion, Muon])
def test_vectors_do_not_decay(cls):
    matrix, vector = product(), nn.Parameter(torch.ones(4))
    decays = {id(p): g["weight_decay"] for g in cls(weight_decay=0.5).build([vector, matrix]).param_groups for p in g["params"]}
    assert decays == {id(matrix): 0.5, id(vector): 0.0}


@pytest.mark.parametrize("cls", [AdamW, Lion, Muon])
@pytest.mark.parametrize(
    "setting",
    [{"clip": -1.0}, {"clip": 0.0}, {"weight_decay": -1.0}, {"final": 5.0}, {"warmup": -5}, {"lr": -1.0}, {"lr": float("nan")}],
    ids=str,
)
def test_numbers_that_make_no_sense_are_refused(cls, setting):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=rf"model\.optimizer\.{name} is {value}; expected"):
        cls(**setting)


def test_a_recipe_with_such_a_number_is_refused_before_its_run_begins(tmp_path):
    recipe = save(tmp_path / "r.yaml", values(write(tmp_path, ("protein",))))
    done = mmm("run", recipe, "--run_dir", tmp_path / "out", "--model.optimizer.clip", "-1")
    assert (done.status, len(done.errors)) == (2, 1)
    assert "model.optimizer.clip is -1.0; expected a norm above 0, or null for no clipping" in done.err
    assert not (tmp_path / "out").exists()


def test_nothing_to_train():
    with pytest.raises(ValueError, match="nothing is trained"):
        AdamW().build([nn.Parameter(torch.ones(2), requires_grad=False)])


def test_muon_is_told_the_products_of_encoder_and_decoder(tmp_path):
    from mmm.recipe import instantiate, read

    recipe = values(write(tmp_path, ("protein",)))
    recipe["model"] |= {
        "optimizer": "Muon",
        "decoder": {"class_path": "TransformerDecoder", "init_args": {"width": 16, "heads": 2}},
    }
    training = instantiate(read(save(tmp_path / "r.yaml", recipe)))
    training.build(lambda address, part, name: None)
    names = {id(p): n for n, p in training.model.named_parameters()}
    optimizer = training.optimizer_settings.build(training.trained(), None, training.hidden_matrices())
    hidden = {names[id(p)] for g in optimizer.param_groups if not g["use_fallback"] for p in g["params"]}
    assert {n for n in hidden if n.startswith("encoder.")} == {f"encoder.blocks.0.{n}.weight" for n in PRODUCTS}
    assert "decoder.project.weight" in hidden
    assert "decoder.mask_vector" not in hidden
    assert all(n.startswith(("encoder.", "decoder.")) for n in hidden)


PRODUCTS = ("attention.qkv", "attention.out", "mlp.up", "mlp.down")


@pytest.mark.parametrize("name", ["Lion", "Muon"])
def test_a_run_goes_on_to_the_same_bits(tmp_path, name):
    recipe = values(write(tmp_path, ("protein", "text")), steps=6)
    recipe["model"]["optimizer"] = {"class_path": name, "init_args": {"warmup": 2}}
    path = save(tmp_path / "recipe.yaml", recipe)
    words = ("--checkpoint_every", "3")
    assert mmm("run", path, "--run_dir", tmp_path / "whole", *words).status == 0
    whole = rows(tmp_path / "whole")
    for later in sorted((tmp_path / "whole/checkpoints").iterdir())[1:]:
        later.unlink()
    (tmp_path / "whole/summary.json").unlink()
    assert mmm("run", path, "--run_dir", tmp_path / "whole", "--resume", *words).status == 0
    assert rows(tmp_path / "whole") == whole
    assert len(whole) == 12


def rows(folder) -> list[list[str]]:
    with (folder / "losses.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]
