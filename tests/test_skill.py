"""The skill of each modality: its numbers, its interval, its independence of how it was computed."""

import math
from collections import Counter
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tiny import write

from mmm.core.draw import Draw
from mmm.core.training import Training
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.module import VALIDATION_EPOCH, Data
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.skill import by_key, context_free, evaluate, interval
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("files"), ("image", "protein"))


def ready(files, rate=0.4, names=("image", "protein"), normalise=False):
    """A built model of images and proteins, and its data; no trainer."""
    torch.manual_seed(0)
    parts = {"image": Image(size=8, patch=4, channels=1, augment=False), "protein": Protein(max_length=24)}
    targets = {"image": Pixels(normalise), "protein": TokenIds()}
    rates = {n: Uniform(rate[n] if isinstance(rate, dict) else rate) for n in names}
    training = Training(
        {n: parts[n] for n in names},
        Transformer(16, 1, 2, dropout=0.5),
        MaskedModeling(rates, MaskVector(), {n: targets[n] for n in names}),
        Readout(),
        AdamW(),
        seed=3,
    )
    data = Data(files={n: files[n] for n in names}, tokens_per_batch=200, validation=0.3)
    data.read(training.modalities, training.seed)
    training.build(lambda address, part, name: part.fit(data.training_records(name)))
    return training, data


def numbers(skills):
    """All numbers of all skills, by name."""
    return {(n, k): v for n, s in skills.items() for k, v in asdict(s).items() if isinstance(v, float)}


def test_skill_is_one_minus_loss_over_a_baseline_counted_by_hand(files):
    training, data = ready(files)
    skill = evaluate(training, data)["protein"]
    tokenizer = data.tokenizers["protein"]
    counts = Counter()
    for record in data.training_records("protein"):
        piece = tokenizer.tokenize(record.raw)
        counts.update(piece.content[piece.maskable].tolist())
    total, size = sum(counts.values()), tokenizer.size
    loss = guess = tokens = 0.0
    training.eval()
    for batch in data.val_dataloader():
        views = training.objective.views(batch.micro[0], 1.0, training.draw)
        for answer in training.objective.answers(training.model, batch.micro[0], views):
            if answer.name == "protein":
                loss += float(answer.loss_N.detach().sum())
                tokens += len(answer.loss_N)
                guess += sum(-math.log((counts[i] + 1) / (total + size)) for i in answer.truth_N.tolist())
    assert skill.value == pytest.approx(1 - loss / guess, abs=1e-6)
    assert skill.loss == pytest.approx(loss / tokens)
    assert skill.baseline == pytest.approx(guess / tokens)
    assert skill.tokens == tokens
    assert skill.low < skill.value < skill.high
    assert (skill.vocabulary, skill.target, skill.unit) == (size, "TokenIds", "nats a token")
    assert "training records" in skill.guess


def test_a_model_that_answers_the_baseline_has_no_skill(files):
    training, data = ready(files)
    answers = {
        "protein/TokenIds": lambda b: -b.loss_V,
        "image/Pixels": lambda b: b.mean_V,
    }
    for address, answer in answers.items():
        name = address.split("/")[0]
        target = training.objective.targets()[address]
        head = training.model.heads[address].output
        torch.nn.init.zeros_(head.weight)
        head.bias.data = answer(context_free(training, data, name, target)).float()
    for skill in evaluate(training, data).values():
        assert skill.value == pytest.approx(0, abs=1e-5)
        assert skill.low == pytest.approx(0, abs=1e-5)
        assert skill.high == pytest.approx(0, abs=1e-5)


def test_validation_records_are_all_asked_and_no_training_record_is(files, monkeypatch):
    training, data = ready(files)
    seen, views = [], training.objective.views
    monkeypatch.setattr(training.objective, "views", lambda t, p, d: seen.append((t, p)) or views(t, p, d))
    skills = evaluate(training, data)
    asked = {s for tokens, _ in seen for s in tokens.layout.sample_S.tolist()}
    assert asked == {s for source in data.sources("validation") for s in source.samples.tolist()}
    assert {p for _, p in seen} == {1.0}
    assert all(e == VALIDATION_EPOCH for tokens, _ in seen for e in tokens.layout.epoch_S.tolist())
    assert {n: s.records for n, s in skills.items()} == {
        s.name.removeprefix("files."): len(s.examples) for s in data.sources("validation")
    }


def test_evaluating_twice_gives_the_same_and_leaves_everything_as_it_was(files):
    training, data = ready(files)
    training.train()
    training.model.encoder.eval()
    first = evaluate(training, data)
    assert evaluate(training, data) == first
    assert training.training
    assert training.objective.training
    assert not training.model.encoder.training
    assert all(p.grad is None for p in training.parameters())


def test_the_precision_is_the_trainers(files):
    training, data = ready(files)
    full = evaluate(training, data)["protein"].loss
    entered = []

    def forward_context():
        entered.append(True)
        return torch.autocast("cpu", torch.bfloat16)

    data.trainer = SimpleNamespace(
        global_rank=0, world_size=1, precision_plugin=SimpleNamespace(forward_context=forward_context)
    )
    half = evaluate(training, data)["protein"].loss
    assert entered == [True]
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


def test_a_modality_that_is_never_asked_is_left_out_aloud(files, caplog):
    training, data = ready(files, rate={"image": 0.5, "protein": 0.0})
    assert list(evaluate(training, data)) == ["image"]
    assert "skill of 'protein'" in caplog.text


def test_a_normalised_target_says_so(files):
    skill = evaluate(*ready(files, names=("image",), normalise=True))["image"]
    assert skill.unit == "squared error a number, each token normalised"
    assert skill.baseline == pytest.approx(15 / 16, abs=0.05), "a patch of 16 normalised numbers, and a mean near 0"
    assert skill.vocabulary is None


def test_a_capped_baseline_is_chosen_by_keys_and_told(files, caplog):
    training, data = ready(files, names=("protein",))
    target = training.objective.targets()["protein/TokenIds"]
    with caplog.at_level("INFO", "mmm"):
        few = context_free(training, data, "protein", target, 5)
    assert "learned from 5 of" in caplog.text
    records = data.training_records("protein")
    forwards = by_key(records, Draw(1), len(records))
    assert by_key(records[::-1], Draw(1), len(records)) == forwards != records
    assert by_key(records, Draw(1), 3) == forwards[:3]
    data.training_records = lambda name: records[::-1]
    assert torch.equal(context_free(training, data, "protein", target, 5).loss_V, few.loss_V)


def test_the_interval_is_that_of_the_bootstrap():
    generator = np.random.default_rng(0)
    baseline_R = generator.uniform(5, 15, 400)
    loss_R = baseline_R * generator.normal(0.7, 0.1, 400)
    low, high = interval(loss_R, baseline_R, Draw(5))
    assert (low, high) == interval(loss_R, baseline_R, Draw(5))
    assert (low, high) != interval(loss_R, baseline_R, Draw(6))
    ratio = loss_R.sum() / baseline_R.sum()
    # The delta method for a ratio of sums; 2.576 standard errors are 99 %.
    error = np.sqrt(((loss_R - ratio * baseline_R) ** 2).sum()) / baseline_R.sum()
    assert low == pytest.approx(1 - ratio - 2.576 * error, abs=0.3 * error)
    assert high == pytest.approx(1 - ratio + 2.576 * error, abs=0.3 * error)
    wide = interval(loss_R[:25], baseline_R[:25], Draw(5))
    assert 2.5 < (wide[1] - wide[0]) / (high - low) < 6, "a sixteenth of the records, four times as wide"
    assert interval(np.array([3.0]), np.array([4.0]), Draw(0)) == (0.25, 0.25)
    few_R = np.array([0.0, 0.0, 0.0, 0.0, 2.0])  # a third of the resamplings asks for nothing at all
    assert interval(few_R, few_R * 2, Draw(0)) == (0.5, 0.5)


def _process(rank, world, files, store):
    """One process of several: its share of the validation records, the result of all."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        training, data = ready(files)
        plugin = SimpleNamespace(forward_context=torch.no_grad)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world, precision_plugin=plugin)
        return len(data.val_dataloader()), evaluate(training, data)
    finally:
        dist.destroy_process_group()


def test_two_processes_tell_what_one_tells(files, tmp_path):
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        (batches_0, first), (batches_1, second) = pool.starmap(
            _process, [(rank, 2, files, str(tmp_path / "store")) for rank in (0, 1)], chunksize=1
        )
    assert batches_0
    assert batches_1
    assert first == second
    one = evaluate(*ready(files))
    assert numbers(first) == pytest.approx(numbers(one), abs=1e-6)
    assert {n: (s.records, s.tokens) for n, s in first.items()} == {n: (s.records, s.tokens) for n, s in one.items()}


def test_the_masked_tokens_alone(files):
    """Where all that is asked is masked they are the skill; where all is shown as it is there are none."""
    training, data = ready(files)
    for skill in evaluate(training, data).values():
        assert skill.masked == (skill.value, skill.low, skill.high)
    training.objective.corruption = MaskVector(keep=1.0)
    for skill in evaluate(training, data).values():
        assert math.isfinite(skill.value)
        assert all(map(math.isnan, skill.masked))
