"""Everything that is found keeps its promises, and any masking, corruption and target works on any modality it applies to."""

import inspect
import logging

import pytest
import torch

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.modality import Modality
from mmm.core.network import Decoder, Encoder
from mmm.core.objective import Objective
from mmm.core.sampler import Sampler
from mmm.core.target import Target
from mmm.corruptions.mask_vector import MaskVector
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.masking.uniform import Uniform
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.token_ids import TokenIds
from mmm.testing import (
    batch,
    check_corruption,
    check_counts,
    check_decoder,
    check_encoder,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    check_sampler,
    check_target,
    found,
    tiny_model,
    toy_raws,
    toys,
)

MODALITIES = found("modalities", Modality)
MASKINGS = found("masking", Masking)
CORRUPTIONS = found("corruptions", Corruption)
TARGETS = {name: cls for name, cls in found("targets", Target).items() if cls.learnable}
ELSEWHERE = ("NoObjective", "Sum")  # asked of and made of others; tasks, too, are tested elsewhere: they need labels
OBJECTIVES = {n: c for n, c in found("objectives", Objective).items() if c.metric is None and n not in ELSEWHERE}
ENCODERS = found("encoders", Encoder)
DECODERS = found("decoders", Decoder)
SAMPLERS = found("samplers", Sampler)
VARIANTS = [
    "Text, whole words", "Image, any size", "Image, augmented", "Audio, waveform", "Protein, learned places",
    "Spectrogram, filled up, overlapping",
]  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Records of the examples are cut on purpose; that this is said aloud is tested elsewhere."""
    caplog.set_level(logging.ERROR, "mmm")
    torch.manual_seed(0)


@pytest.fixture
def made(examples, small):
    """(modality, tokens, records) of an example, fitted and not yet built."""

    def make(key: str):
        assert key in examples, f"{key} was found, but tests/conftest.py has no entry for it in EXAMPLES; add a small one."
        example = examples[key]
        modality = example.make()
        if example.fitted:
            modality.fit(example.records)
        return modality, batch({"own": modality}, [{"own": raw} for raw in example.raws]), example.records

    return make


def part(cls, small, **arguments):
    """A small one."""
    return cls(**{**small.get(cls.__name__, {}), **arguments})


def first_target(tokens, small) -> Target:
    """A target that applies and learns nothing from records beforehand."""
    for cls in TARGETS.values():
        target = part(cls, small)
        if cls.fit is Target.fit and binds(target, tokens):
            return part(cls, small)
    return _Flat()


def binds(target: Target, tokens) -> bool:
    try:
        target.bind("own", tokens.tokenizers["own"])
    except ValueError as error:
        if "'own'" not in str(error):
            raise AssertionError(f"{type(target).__name__} refuses a modality without naming it: {error}") from error
        return False
    return True


class _Flat(Target):
    """Where no target without fitting applies: the number of the token in its piece."""

    size = 1

    def truth(self, tokens, answer_N):
        return tokens.layout.place_T[answer_N, None].float() / 10

    def loss(self, output_NV, truth_N):
        return (output_NV - truth_N).square().mean(-1)

    def context_free(self, truths):
        raise NotImplementedError


@pytest.mark.parametrize("key", [*MODALITIES, *VARIANTS])
def test_modality(key, examples, pool):
    assert key in examples, f"{key} was found, but tests/conftest.py has no entry for it in EXAMPLES; add a small one."
    example = examples[key]
    records = example.records if example.fitted else ()
    check_modality(example.make(), example.raws, records, same=example.same, pool=pool)


@pytest.mark.parametrize("key", MODALITIES)
def test_damaged_files(key, examples, made, tmp_path):
    modality, *_ = made(key)
    check_files(modality, examples[key].write(tmp_path), tmp_path)


@pytest.mark.parametrize("key", [*MODALITIES, *VARIANTS])
@pytest.mark.parametrize("masking", MASKINGS)
def test_masking(masking, key, made, small):
    """Counts by the law, on every modality, and something is learned."""
    modality, tokens, _ = made(key)
    strategy = part(MASKINGS[masking], small, rate=0.4)
    check_masking(strategy, tokens)
    if key not in VARIANTS:
        model = tiny_model({"own": modality})
        objective = MaskedModeling(strategy, MaskVector(), {"own": first_target(tokens, small)})
        objective.setup(model)
        (view,) = objective.views(tokens, 0, Draw(5))
        hidden_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, view.answer_N, True)
        check_counts(strategy, tokens, hidden_T, 0, Draw(5).stream("mask"))
        check_learns(objective, model, tokens)


@pytest.mark.parametrize("masking", MASKINGS)
def test_masks_in_another_process(masking, made, small, pool):
    _, tokens, _ = made("Text, whole words")
    check_masking(part(MASKINGS[masking], small, rate=0.4), tokens, pool)


@pytest.mark.parametrize("key", [*MODALITIES, *VARIANTS])
@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_corruption(corruption, key, made, examples, small):
    modality, tokens, _ = made(key)
    cls = CORRUPTIONS[corruption]
    split = {"random": 0.1 if examples[key].random else 0.0, "keep": 0.1}
    own = part(cls, small, **{k: v for k, v in split.items() if k in inspect.signature(cls).parameters})
    check_corruption(own, tokens, Uniform(0.4).hidden(tokens, 0, Draw(0)))
    model = tiny_model({"own": modality}, decoder=TransformerDecoder(24, 1, 4))
    objective = MaskedModeling(Uniform(0.4), own, {"own": first_target(tokens, small)})
    objective.setup(model)
    check_objective(objective, model, tokens)
    if key not in VARIANTS:
        check_learns(objective, model, tokens)


@pytest.mark.parametrize("key", [*MODALITIES, *VARIANTS])
@pytest.mark.parametrize("target", TARGETS)
def test_target(target, key, made, small):
    """It conforms and can be learned, or refuses the modality by name."""
    modality, tokens, records = made(key)
    own = part(TARGETS[target], small)
    if not binds(part(TARGETS[target], small), tokens):
        return
    fitted = type(own).fit is not Target.fit
    check_target(part(TARGETS[target], small), "own", tokens, records if fitted else ())
    model = tiny_model({"own": modality})
    objective = MaskedModeling(Uniform(0.4), MaskVector(), {"own": own})
    objective.setup(model)
    if fitted:
        own.fit(records)
    check_learns(objective, model, tokens)


def test_every_target_applies_to_some_modality(made, small):
    for cls in TARGETS.values():
        keys = [*MODALITIES, *VARIANTS]
        assert any(binds(part(cls, small), made(key)[1]) for key in keys), f"{cls.__name__} binds to no example at all."


@pytest.mark.parametrize("encoder", ENCODERS)
def test_encoder(encoder, small):
    check_encoder(part(ENCODERS[encoder], small))


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoder(decoder, small):
    check_decoder(part(DECODERS[decoder], small))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_objective(objective, made, small):
    """On all modalities at once, with an encoder and a decoder of any kind."""
    modalities, targets = {}, {}
    raws: list[dict] = []
    for key in MODALITIES:
        modality, tokens, records = made(key)
        name = key.lower()
        modalities[name], targets[name] = modality, first_target(tokens, small)
        raws += [{name: r.raw} for r in records[:2]]
    raws.append({name: raw for entry in raws for name, raw in entry.items()})  # and one record that has them all
    cls = OBJECTIVES[objective]
    parts = {"masking": Uniform(0.4), "corruption": MaskVector(), "targets": targets}
    own = part(cls, small, **{k: v for k, v in parts.items() if k in inspect.signature(cls).parameters})
    model = tiny_model(modalities)
    own.setup(model)
    tokens = batch(modalities, raws)
    check_objective(own, model, tokens)
    check_learns(own, model, tokens)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_networks_learn(encoder, decoder, made, small):
    modality, tokens, _ = made("Protein")
    net = part(ENCODERS[encoder], small)
    model = tiny_model({"own": modality}, net, part(DECODERS[decoder], small), net.width)
    objective = MaskedModeling(Uniform(0.4), MaskVector(), {"own": first_target(tokens, small)})
    objective.setup(model)
    check_learns(objective, model, tokens)


@pytest.mark.parametrize("drops", [False, True], ids=["shown as masks", "left out"])
@pytest.mark.parametrize("key", ["toys", *MODALITIES, *VARIANTS])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sampler(sampler, key, drops, made, small):
    """On every modality of ids, and beside others."""
    if key == "toys":
        modalities, tokens = toys(), batch(toys(), toy_raws())
    else:
        modality, tokens, _ = made(key)
        modalities = {"own": modality}
    name = tokens.names[0]
    tokenizer = modalities[name].tokenizer
    if tokenizer.choices is None:
        pytest.skip("samplers fill in ids, and this modality has none")
    model = tiny_model(modalities, decoder=TransformerDecoder(24, 1, 4) if drops else None)
    target = TokenIds()
    target.bind(name, tokenizer)
    model.make_head("", name, target, "linear")
    hidden_T = Uniform(0.5).hidden(tokens, 0, Draw(0)) & (tokens.layout.modality_T == 0)
    check_sampler(part(SAMPLERS[sampler], small), model, tokens, hidden_T, drops)
