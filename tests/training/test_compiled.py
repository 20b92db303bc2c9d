"""Compiled models: the same numbers, names and graphs for every batch."""

import itertools

import pytest
import torch
import torch._dynamo.testing
from tiny import MODALITIES, TARGETS, mmm, save, values, write

from mmm.adapters.prefix import Prefix
from mmm.compiled import compile_parts
from mmm.core.training import Training
from mmm.data.module import Data
from mmm.recipe import Recipe, instantiate, resolve
from mmm.runlog import losses

ENCODERS = {
    "plain": {"depth": 2},
    "post": {"depth": 2, "order": "post", "scale": 0.1},
    "local": {"depth": 3, "rotary": 1, "local": {"reach": 2, "every": 2}, "activation": "geglu", "norm": "rms"},
}


def batches(training: Training, recipe: dict) -> list:
    """Some ragged batches, with views, none of them like another."""
    data = Data(**recipe["data"])
    data.read(training.modalities, training.seed)
    records = {name: iter(data.training_records(name)) for name in training.modalities}
    made = []
    for sizes in itertools.islice(itertools.permutations((2, 3, 5, 7)), 6):
        examples = [{n: r} for n, size in zip(records, sizes, strict=False) for r in itertools.islice(records[n], size)]
        tokens = data.pack(examples)
        made.append((tokens, training.objective.views(tokens, 0.0, training.draw)))
    return made


def learned(training: Training, tokens, views) -> dict[str, torch.Tensor]:
    """Loss and gradients of one batch."""
    training.zero_grad()
    terms = training.objective(training.model, tokens, views, 0.0)
    loss = torch.stack([t.total for t in terms]).sum()
    loss.backward()
    return {"loss": loss.detach()} | {n: p.grad.clone() for n, p in training.named_parameters() if p.grad is not None}


@pytest.fixture
def built(tmp_path):
    def make(encoder: dict) -> tuple[Training, list]:
        recipe = values(write(tmp_path / "files", records=90))
        recipe["model"]["encoder"]["init_args"] |= {"width": 32} | encoder
        training = instantiate(Recipe("here", resolve(recipe, "here")))
        data = Data(**recipe["data"])
        data.read(training.modalities, training.seed)
        training.build(lambda address, part, name: part.fit(data.training_records(name)))
        return training, batches(training, recipe)

    yield make
    torch.compiler.reset()


@pytest.mark.parametrize("encoder", ENCODERS)
def test_same_numbers_and_no_graph_after_the_first_batches(built, encoder, monkeypatch):
    monkeypatch.setattr("mmm.nn.rotary._CACHED", 64)  # a graph holds no number of parts
    training, looks = built(ENCODERS[encoder])
    assert len({tokens.layout.lengths for tokens, _ in looks}) == len(looks)
    plain = [learned(training, *look) for look in looks]
    before = {n: p.clone() for n, p in training.state_dict().items()}
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compile_parts(training.model, backend=counter)
    first = [learned(training, *look) for look in looks[:2]]
    graphs = counter.frame_count
    assert graphs > 0
    with torch.compiler.set_stance("fail_on_recompile"):
        rest = [learned(training, *look) for look in looks[2:]]
    assert counter.frame_count == graphs
    for want, got in zip(plain, [*first, *rest], strict=True):
        assert want.keys() == got.keys()
        for name, value in want.items():
            torch.testing.assert_close(got[name], value, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert before.keys() == training.state_dict().keys()


def test_what_hangs_on_lengths_stays_as_it_is(built):
    training, looks = built({"depth": 2})
    Prefix(3).adapt(training.model)
    want = learned(training, *looks[1])
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compile_parts(training.model, backend=counter)
    learned(training, *looks[0])
    graphs = counter.frame_count
    with torch.compiler.set_stance("fail_on_recompile"):
        got = learned(training, *looks[1])
    assert counter.frame_count == graphs
    torch.testing.assert_close(got["loss"], want["loss"])


def test_blocks_share_their_graphs(built):
    def graphs(depth: int) -> int:
        torch.compiler.reset()
        training, looks = built({"depth": depth})
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        compile_parts(training.model, backend=counter)
        for look in looks[:2]:
            learned(training, *look)
        return counter.frame_count

    assert graphs(2) == graphs(5)


def test_heads_of_four_modalities_stay_within_the_limit(built):
    training, looks = built({})
    compile_parts(training.model, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for look in looks[:2]:
        learned(training, *look)
        with torch.no_grad():
            training.objective(training.model, *look, 0.0)
    assert len(training.model.heads) == len(TARGETS) == len(MODALITIES)
    assert not torch._dynamo.utils.counters["unimplemented"]
    with torch.compiler.set_stance("fail_on_recompile"):
        learned(training, *looks[3])


def test_without_a_compiler_it_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    path = save(tmp_path / "tiny.yaml", values(write(tmp_path / "files"), steps=2))
    done = mmm("run", path, "--run_dir", tmp_path / "out", "--trainer.compile", "true")
    assert done.status == 2
    assert "trainer.compile: true needs a C++ compiler, and 'no-such-compiler' is not found" in done.err


@pytest.mark.slow
def test_a_run(tmp_path):
    recipe = values(write(tmp_path / "files"), steps=12)
    path = save(tmp_path / "tiny.yaml", recipe)
    assert mmm("run", path, "--run_dir", tmp_path / "plain").status == 0
    done = mmm("run", path, "--run_dir", tmp_path / "compiled", "--trainer.compile", "true")
    assert done.status == 0, done.err
    plain, compiled = (losses(tmp_path / name / "losses.csv") for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for term, steps in plain.items():
        assert [total for _, total, _ in compiled[term]] == pytest.approx([total for _, total, _ in steps], rel=1e-3)
