"""What a run leaves while it trains."""

import csv

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tiny import write

from mmm.checkpoint import AtomicCheckpointIO, Checkpoints, load_checkpoint
from mmm.core.training import Training
from mmm.corruptions.mask_vector import MaskVector
from mmm.data.mixture import Mixture
from mmm.data.module import Data
from mmm.decoders.readout import Readout
from mmm.encoders.transformer import Transformer
from mmm.masking.uniform import Uniform
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.optimizers.adamw import AdamW
from mmm.runlog import RunLog, cut, losses, write_whole
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds


class Spoiled(TokenIds):
    """Cross-entropy whose third training loss is infinite."""

    steps = 0

    def loss(self, output_NV, truth_N):
        self.steps += self.training
        return super().loss(output_NV, truth_N) / (0.0 if self.steps == 3 else 1.0)


class Watch(Callback):
    """Keeps the terms and tokens of every step as training holds them."""

    def __init__(self):
        self.terms, self.tokens = [], 0

    def on_train_batch_end(self, trainer, training, outputs, batch, batch_idx):
        self.terms += [[str(trainer.global_step), t.name, repr(float(t.total)), repr(t.count)] for t in training.last_terms]
        self.tokens += training.last_tokens


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write(tmp_path_factory.mktemp("files"), ("image", "protein"))


def fit(files, folder, target=TokenIds, stop_at=0, resume=None, **options):
    """Six steps on images and proteins, a checkpoint every two; ``stop_at`` breaks the run off after a step."""
    torch.manual_seed(0)
    images = Image(size=8, patch=4, channels=1, augment=False)
    training = Training(
        {"image": images, "protein": Protein(max_length=24)},
        Transformer(16, 1, 2, dropout=0.1),
        MaskedModeling(Uniform(0.3), MaskVector(), {"image": Pixels(), "protein": target()}),
        Readout(),
        AdamW(lr=1e-3),
    )
    data, runlog, watch = Data(files=files, tokens_per_batch=200, validation=0.3), RunLog(), Watch()

    class Stop(Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == stop_at:
                raise RuntimeError("power cut")

    trainer = Trainer(
        max_steps=6,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        callbacks=[runlog, watch, Stop(), Checkpoints(folder / "checkpoints", 2)],
        plugins=[AtomicCheckpointIO()],
        use_distributed_sampler=False,
        check_val_every_n_epoch=None,
        val_check_interval=6,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(training, data, ckpt_path=resume, weights_only=True)
    return training, data, runlog, watch


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, *fit(files, folder)


def test_every_term_of_every_step_is_written_to_the_last_bit(whole):
    folder, _, _, _, watch = whole
    rows = list(csv.reader((folder / "losses.csv").open()))
    assert rows[0] == ["step", "term", "total", "count"]
    assert rows[1:] == watch.terms
    assert [r[0] for r in rows[1:]] == [str(s) for s in range(1, 7) for _ in range(2)]
    assert losses(folder / "losses.csv")["protein/TokenIds"][5] == (6, float(rows[-1][2]), float(rows[-1][3]))


def test_nothing_stays_beside_what_is_told(whole):
    assert sorted(p.name for p in whole[0].iterdir()) == ["assets", "checkpoints", "losses.csv"]


def test_a_resumed_run_writes_what_an_unbroken_one_writes(whole, files, tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        fit(files, tmp_path, stop_at=5)
    assert max(step for step, *_ in losses(tmp_path / "losses.csv")["image/Pixels"]) == 5
    _, data, runlog, _ = fit(files, tmp_path, resume=str(tmp_path / "checkpoints" / "step-4.ckpt"))
    assert (tmp_path / "losses.csv").read_bytes() == (whole[0] / "losses.csv").read_bytes()
    assert data.cursor == whole[2].cursor
    assert runlog.summary()["tokens"] == whole[3].summary()["tokens"], "tokens of both sessions count"


def test_the_cursor_is_that_of_the_step_that_was_saved(whole):
    folder, _, data, _, _ = whole
    plans = Mixture(data.sources("train"), 200, 0).batches()
    cursors = [next(plans).cursor for _ in range(6)]
    assert data.cursor == cursors[5]
    saved = load_checkpoint(folder / "checkpoints" / "step-4.ckpt")
    assert saved["Data"]["cursor"] == cursors[3]


def test_the_summary_counts_real_tokens_and_divides_the_time(whole):
    _, training, data, runlog, watch = whole
    summary = runlog.summary()
    assert summary["steps"] == 6
    assert summary["processes"] == 1
    assert summary["tokens"] == watch.tokens > 0
    assert summary["fill"] == pytest.approx(watch.tokens / (6 * 200))
    assert 0.5 < summary["fill"] <= 1
    assert summary["seconds"] > 0
    assert summary["tokens_per_second"] == pytest.approx(watch.tokens / summary["seconds"])
    assert 0 < summary["waiting"] < 1
    assert summary == runlog.summary(), "the clock stands when training has ended"
    totals = {}
    training.eval()
    for batch in data.val_dataloader():
        for term in training.validation_step(batch, 0):
            total, count = totals.get(term.name, (0.0, 0.0))
            totals[term.name] = (total + float(term.total.detach()), count + term.count)
    assert summary["validation"] == pytest.approx({n: t / c for n, (t, c) in totals.items()}, rel=1e-5)


def test_a_short_run_is_not_counted(whole):
    summary = whole[3].summary()
    assert (summary["flops"], summary["utilisation"]) == (None, None)


def test_another_profiler_is_left_alone(files, tmp_path):
    _, _, runlog, _ = fit(files, tmp_path, profiler="simple")
    assert runlog.summary()["waiting"] is None


def test_a_loss_gone_bad_stops_the_run_before_it_is_saved(files, tmp_path):
    with pytest.raises(ValueError, match="step 3: protein/Spoiled is inf"):
        fit(files, tmp_path, Spoiled)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-2.ckpt"]
    assert [step for step, *_ in losses(tmp_path / "losses.csv")["protein/Spoiled"]] == [1, 2]


def test_cutting_leaves_the_steps_before_and_drops_what_a_crash_cut_short(tmp_path, caplog):
    path = tmp_path / "losses.csv"
    path.write_text('step,term,total,count\n1,a,0.1,2.0\n1,"b,c",0.30000000000000004,2.0\n2,a,5.0,1.0\n3,a,4.0,1.0\n4,a,3')
    cut(path, 2)
    assert path.read_text() == 'step,term,total,count\n1,a,0.1,2.0\n1,"b,c",0.30000000000000004,2.0\n2,a,5.0,1.0\n'
    assert not caplog.records
    cut(path, 5)
    assert "steps 3 to 5 are missing" in caplog.text
    cut(path, 0)
    assert path.read_text() == "step,term,total,count\n"
    assert [p.name for p in tmp_path.iterdir()] == ["losses.csv"]


def test_a_file_is_written_whole_or_stays_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, "first")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "half \ud800")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
