"""Files that are not what they should be, through the command line: one line that names the file, and no traceback."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
from tiny import MODALITIES, Done, mmm, save, values, write

ENDINGS = {"text": "txt", "image": "png", "audio": "wav", "protein": "fasta"}
NOISE = np.random.default_rng(0)


def cut_png(path: Path) -> None:
    """A header that is whole, and half a picture."""
    PIL.Image.fromarray(NOISE.integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def cut_flac(path: Path) -> None:
    """A header that is whole, and half a sound."""
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, NOISE.normal(0, 0.1, 2400), 4000)
    path.write_bytes(path.read_bytes()[:1500])


def not_numbers(path: Path) -> None:
    soundfile.write(path, np.full(2400, np.nan, np.float32), 4000, subtype="FLOAT")


def cut_npz(path: Path) -> None:
    np.savez(path, images=NOISE.integers(0, 256, (20, 8, 8), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:700])


def objects_npz(path: Path) -> None:
    """An array that is a pickle."""
    np.savez(path, images=np.array([{"a": 1}], dtype=object))


def broken_row(path: Path) -> None:
    """The third of three pictures in one file is half there."""
    stream = io.BytesIO()
    PIL.Image.fromarray(NOISE.integers(0, 256, (64, 64), dtype=np.uint8)).save(stream, "jpeg")
    rows = [stream.getvalue()] * 2 + [stream.getvalue()[:900]]
    np.savez(path, jpeg=np.frombuffer(b"".join(rows), np.uint8), offsets=np.cumsum([0, *map(len, rows)]))


CORRUPT: dict[str, tuple[str, str, Callable[[Path], object], str | None]] = {
    "text of another encoding": ("text", "bad.txt", lambda p: p.write_bytes("größer".encode("latin1")), None),
    "text that is binary": ("text", "bad.txt", lambda p: p.write_bytes(b"one two\0three"), None),
    "half a line of JSON": ("text", "bad.jsonl", lambda p: p.write_text('{"text": "a b"}\n{"text": "a'), "2"),
    "JSON without the key": ("text", "bad.jsonl", lambda p: p.write_text('{"txt": "a b"}\n'), "1"),
    "half a gzip file": ("text", "bad.txt.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\3abc"), None),
    "no Parquet": ("text", "bad.parquet", lambda p: p.write_bytes(b"PAR1 nonsense"), None),
    "no picture": ("image", "bad.png", lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\nnonsense"), None),
    "half a picture": ("image", "bad.png", cut_png, None),
    "half an archive": ("image", "bad.npz", cut_npz, None),
    "an archive with a pickle": ("image", "bad.npz", objects_npz, None),
    "half a picture in a row": ("image", "bad.npz", broken_row, "2"),
    "no sound": ("audio", "bad.wav", lambda p: p.write_bytes(b"RIFFnonsense"), None),
    "half a sound": ("audio", "bad.flac", cut_flac, None),
    "too short a sound": ("audio", "bad.wav", lambda p: soundfile.write(p, np.zeros(3), 4000), None),
    "a sound of no numbers": ("audio", "bad.wav", not_numbers, None),
    "no residue": ("protein", "bad.fasta", lambda p: p.write_text(">p1\nACDE\n>p2\nAC1E\n"), "p2"),
    "no header": ("protein", "bad.fasta", lambda p: p.write_text("ACDE\n"), None),
    "an id twice": ("protein", "bad.fasta", lambda p: p.write_text(">p1\nACDE\n>p1\nCDEF\n"), "p1"),
    "no sequence": ("protein", "bad.fasta", lambda p: p.write_text(">p1\n>p2\nACDE\n"), "p1"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """Good files of four modalities."""
    return write(tmp_path_factory.mktemp("files"), records=30)


def go(folder: Path, name: str, files: str | list[str], steps: int = 40) -> Done:
    """A run over files of one modality, long enough to come across every record."""
    recipe = values({name: ""}, steps)
    recipe["data"]["files"] = {name: files}
    return mmm("run", save(folder / "tiny.yaml", recipe), "--run_dir", folder / "out")


def one_line(done: Done) -> str:
    assert done.status in (2, 3), done.err
    assert len(done.errors) == 1, done.err
    assert "Traceback" not in done.err
    assert done.err.endswith(done.errors[0] + "\n"), "the error is the last thing that is said, and all of it"
    assert "report:" not in done.out
    return done.errors[0]


def nothing_half_done(folder: Path) -> None:
    """What has begun is there to go on with; no report of a run that failed, no temporary file."""
    left = {p.name for p in (folder / "out").iterdir()} if (folder / "out").exists() else set()
    assert left <= {"assets", "checkpoints", "losses.csv", "recipe.yaml", "tensorboard"}
    assert not [p for p in folder.rglob("*") if ".part" in p.name or p.name.startswith(".")]


@pytest.mark.parametrize("name", MODALITIES)
def test_a_missing_file(tmp_path, name):
    path = tmp_path / f"bad.{ENDINGS[name]}"
    assert f"data.files.{name}: '{path}' matches no file" in one_line(go(tmp_path, name, str(path)))
    nothing_half_done(tmp_path)


@pytest.mark.parametrize("name", MODALITIES)
def test_an_empty_file(tmp_path, files, name):
    path = tmp_path / f"bad.{ENDINGS[name]}"
    path.write_bytes(b"")
    done = go(tmp_path, name, [files[name], str(path)])
    assert done.status == 3
    assert one_line(done).startswith(f"mmm: error: {path}: ")
    nothing_half_done(tmp_path)


@pytest.mark.parametrize("fault", CORRUPT)
def test_a_corrupt_file_among_good_ones(tmp_path, files, fault):
    name, file, make, record = CORRUPT[fault]
    path = tmp_path / file
    make(path)
    done = go(tmp_path, name, [files[name], str(path)])
    where = str(path) if record is None else f"{path}, record {record}"
    assert one_line(done).startswith(f"mmm: error: {where}: ")
    assert done.status == 3
    nothing_half_done(tmp_path)


@pytest.mark.parametrize("name", MODALITIES)
def test_a_file_that_may_not_be_read(tmp_path, files, name):
    path = tmp_path / f"bad.{ENDINGS[name]}"
    path.write_bytes(b"anything")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    assert str(path) in one_line(go(tmp_path, name, [files[name], str(path)]))


@pytest.mark.parametrize("name", MODALITIES)
def test_a_file_that_vanishes_in_the_middle(tmp_path, name, monkeypatch):
    """Text and proteins lie in memory by then; pictures and sounds are read again in every pass."""
    from mmm.core.training import Training

    here = write(tmp_path / "own", [name], records=30)[name]
    real = Training.training_step

    def training_step(self, batch, batch_idx):
        if self.global_step == 2:
            for path in [p for p in (tmp_path / "own").rglob("*") if p.is_file()]:
                path.unlink()
        return real(self, batch, batch_idx)

    monkeypatch.setattr(Training, "training_step", training_step)
    done = go(tmp_path, name, here)
    if done.status:
        said = one_line(done)
        assert str(tmp_path / "own") in said
        assert "no such file" in said.lower() or "cannot be read" in said
    else:
        assert name in ("text", "protein")


def test_a_loss_that_is_not_finite(tmp_path, files):
    recipe = values({"protein": files["protein"]}, 200)
    recipe["model"]["optimizer"] = {"lr": 1e30, "clip": None, "decay": "constant"}
    done = mmm("run", save(tmp_path / "tiny.yaml", recipe), "--run_dir", tmp_path / "out")
    assert done.status == 2
    said = one_line(done)
    assert "step " in said
    assert "protein/TokenIds" in said
    nothing_half_done(tmp_path)


def test_a_header_cannot_command_a_terminal(tmp_path):
    """Neither in an error nor in a line of the log."""
    (tmp_path / "bad.fasta").write_text(">p\x1b]0;name\x07\nAC1E\n")
    recipe = save(tmp_path / "tiny.yaml", values({"protein": str(tmp_path / "bad.fasta")}))
    assert "bad.fasta, record p\\x1b]0;name\\x07: " in one_line(mmm("masks", recipe))
    (tmp_path / "good.csv").write_text("record,a\x1b[2J\nACD,x\n")
    done = mmm("masks", recipe, "--data.files.protein", tmp_path / "good.csv")
    assert "not used: the columns 'a\\x1b[2J'" in done.err
    assert "\x1b" not in done.err


def test_from_a_shell(tmp_path, files):
    """Warnings and library noise included: the error is one line, the last, though a worker ran into it."""
    for i in range(8):  # some of them are training records
        cut_flac(tmp_path / "bad" / f"{i}.flac")
    recipe = values({"audio": ""}, 40)
    recipe["data"] |= {"files": {"audio": [files["audio"], str(tmp_path / "bad")]}, "workers": 1}
    words = ["-m", "mmm", "run", save(tmp_path / "tiny.yaml", recipe), "--run_dir", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert one_line(Done(done.returncode, done.stdout, done.stderr)).startswith(f"mmm: error: {tmp_path / 'bad'}/")
    nothing_half_done(tmp_path)
