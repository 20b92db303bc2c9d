"""Real weights of antibodies, from packages: Sapiens (RoBERTa, fairseq) and AntiBERTy (BERT)."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from id_models import agrees
from tiny import mmm as mmm_command

import mmm
from mmm.core.errors import BadRecipe

# Heavy chains of two published human antibodies: S2E12 (against the spike of SARS-CoV-2) and ipilimumab.
HEAVY = (
    "EVQLVQSGPEVKKPGTSVKVSCKASGFTFMSSAVQWVRQARGQRLEWIGWIVIGSGNTNYAQKFQERVTITRDMSTSTAYMELSSLRSEDTAVYYCAAPYCSSISCNDGFDIWGQGTMVTVS"
)
IPILIMUMAB = (
    "QVQLVESGGGVVQPGRSLRLSCAASGFTFSSYTMHWVRQAPGKGLEWVTFISYDGNNKYYADSVKGRFTISRDNSKNTLYLQMNSLRAEDTAIYYCARTGWLGPFDYWGQGTLVTVSS"
)
RECIPES = Path(__file__).parents[2] / "recipes/finetune"
RECORDS = [HEAVY, "EVQLV<mask>SGG", "G"]


def package(name):
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="module")
def sapiens():
    return package("sapiens") / "models" / "v1"


@pytest.fixture(scope="module")
def antiberty():
    return package("antiberty") / "trained_models" / "AntiBERTy_md_smooth"


def recovered(model, sequence, step=1):
    """The share of residues that are the likeliest at their place, each masked alone; of every ``step``-th one."""
    places = range(0, len(sequence), step)
    masked = [f"{sequence[:i]}<mask>{sequence[i + 1 :]}" for i in places]
    tokens = model.modalities["protein"].tokenizer.tokens
    with torch.no_grad():
        answers = model.logits(masked)
    return sum(tokens[int(a[i + 1].argmax())] == sequence[i] for i, a in zip(places, answers, strict=True)) / len(places)


def test_sapiens_knows_a_human_heavy_chain(sapiens):
    model = mmm.load(sapiens / "checkpoint_vh.pt")
    assert recovered(model, HEAVY) >= 0.90
    assert recovered(model, IPILIMUMAB) >= 0.90
    assert model.modalities["protein"].tokenizer.max_length == 144
    with pytest.raises(ValueError, match="'X' at residue 2 is a residue this model has no token for"):
        model.hidden(["EXQ"])


@pytest.mark.parametrize("recipe", ["continue", "protein"])
def test_sapiens_goes_on_and_is_tuned(sapiens, tmp_path, recipe):
    """Its own pre-training on other sequences, and a task."""
    chains = [HEAVY[: 60 + i % 50] for i in range(60)] + [IPILIMUMAB[: 60 + i % 50] for i in range(60)]
    if recipe == "continue":
        path = tmp_path / "chains.fasta"
        path.write_text("".join(f">c{i}\n{chain}\n" for i, chain in enumerate(chains)))
    else:
        path = tmp_path / "chains.csv"
        path.write_text("\n".join(["record,label", *(f"{c},{'one' if i < 60 else 'other'}" for i, c in enumerate(chains))]))
    words = ("--init_from", sapiens / "checkpoint_vh.pt", "--data.files.protein", path, "--run_dir", tmp_path / "run")
    small = ("--trainer.max_steps", 2, "--data.tokens_per_batch", 600, "--trainer.accelerator", "cpu")
    done = mmm_command("run", RECIPES / f"{recipe}.yaml", *words, *small)
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert ("task" in summary) == (recipe == "protein")
    if recipe == "continue":
        assert summary["skill"]["protein"]["value"] > 0.5
        assert recovered(mmm.load(tmp_path / "run"), HEAVY, 8) >= 0.8


@pytest.mark.parametrize("form", ["vocab.txt", "vocab.json", "tokenizer.json"])
def test_sapiens_as_a_folder_of_transformers(sapiens, tmp_path, form):
    from mmm.interop._vocabularies import _of_protein
    from mmm.sources import open_source

    source = open_source(sapiens / "checkpoint_vh.pt")
    source.original.model.save_pretrained(tmp_path)
    direct = source.loaded()
    tokens = direct.modalities["protein"].tokenizer.vocabulary.tokens
    if form == "vocab.txt":
        (tmp_path / form).write_text("\n".join(tokens), encoding="utf-8")
    elif form == "vocab.json":
        (tmp_path / form).write_text(json.dumps({t: i for i, t in enumerate(tokens)}), encoding="utf-8")
    else:
        _of_protein(direct.modalities["protein"])[0].save(str(tmp_path / form))
    again = mmm.load(tmp_path)
    for a, b in zip(direct.logits(RECORDS), again.logits(RECORDS), strict=True):
        assert torch.equal(a, b)


def test_sapiens_goes_out_as_a_folder_of_transformers(sapiens, tmp_path):
    from mmm.export import export

    export(sapiens / "checkpoint_vh.pt", "transformers", tmp_path / "out")
    _, ours = agrees(tmp_path / "out", RECORDS)
    assert recovered(ours, HEAVY) >= 0.90


def test_a_dictionary_that_is_missing(sapiens, tmp_path):
    shutil.copy(sapiens / "checkpoint_vh.pt", tmp_path / "checkpoint_vh.pt")
    with pytest.raises(BadRecipe, match=r"dict\.txt beside it"):
        mmm.load(tmp_path / "checkpoint_vh.pt")


def test_antiberty_knows_a_human_heavy_chain(antiberty):
    model = mmm.load(antiberty)
    assert recovered(model, HEAVY) >= 0.90
    for a, b in zip(model.logits(["MK[MASK]AY"]), model.logits(["MK<mask>AY"]), strict=True):
        assert torch.equal(a, b)
