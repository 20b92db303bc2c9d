"""WFDB records: values of every format, slices, what is refused; and what the package wfdb says, where it is installed."""

from pathlib import Path

import numpy as np
import pytest
from ecg_records import beats, write_wfdb
from mmm_ecg.wfdb import header

from mmm.core.errors import BadRecord

FORMATS = {16: 1000, 61: 1000, 160: 1000, 24: 1000, 32: 1000, 80: 60, 212: 1000}


@pytest.mark.parametrize("form", FORMATS)
def test_values_of_every_format_come_back(tmp_path: Path, form: int) -> None:
    recording = beats(("I", "II", "V1"), seconds=1.004, gap=(1, 30, 50))
    head = header(write_wfdb(tmp_path, "a", recording, form, FORMATS[form]))
    assert (head.rate, head.frames) == (250, 251)  # an odd number of values: the last one of format 212 stands alone
    found = head.recording(())
    assert found.leads == ("I", "II", "V1")
    assert found.rate == 250
    assert np.array_equal(np.isnan(found.sample_LM), np.isnan(recording.sample_LM))
    assert np.nanmax(np.abs(found.sample_LM - recording.sample_LM)) <= 0.51 / FORMATS[form]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("leads", [("II",), ("I", "II", "V1")])
def test_a_slice_is_that_of_the_whole(tmp_path: Path, form: int, leads) -> None:
    head = header(write_wfdb(tmp_path, "a", beats(leads, seconds=0.2), form, FORMATS[form]))
    whole = head.values()
    for start in range(0, head.frames, 7):
        for stop in range(start + 1, head.frames + 1, 9):
            for all_M, some_M in zip(whole, head.values(start, stop), strict=True):
                assert np.array_equal(all_M[start:stop], some_M)


def test_twelve_bits_by_hand(tmp_path: Path) -> None:
    """signal(5): the low 8 bits of the first, then its high 4 below those of the second, then the low 8 of the second."""
    (tmp_path / "x.dat").write_bytes(bytes([0x34, 0x82, 0x01, 0xFF, 0xFF, 0xFE]))
    (tmp_path / "x.hea").write_text("x 1 100 4\nx.dat 212 1\n")
    (value_M,) = header(tmp_path / "x.hea").values()
    assert value_M.tolist() == [0x234, 0x801 - 0x1000, -1, 0xFFE - 0x1000]


def test_what_a_header_may_leave_out(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(np.arange(10, dtype="<i2").tobytes())
    (tmp_path / "x.hea").write_text("# before\n\nx 1\r\nx.dat 16\r\n# a report: Sinus rhythm\n")
    head = header(tmp_path / "x.hea")
    assert (head.rate, head.frames) == (250, 10)
    assert head.comments == ("before", "a report: Sinus rhythm")
    assert np.allclose(head.recording(()).sample_LM, np.arange(10)[None] / 200)  # 200 a millivolt, as the format says
    assert head.recording(()).leads == ("signal 1",)


def test_gain_zero_units_offset_and_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_bytes(b"head" + np.array([110, 120, 130], "<i2").tobytes())
    (tmp_path / "b.dat").write_bytes(np.array([1, 2, 3], "<i2").tobytes())
    (tmp_path / "x.hea").write_text("x 2 100 3\na.dat 16+4 10(100)/uV 16 5 0 360 0 aVr\nb.dat 16 2/mmHg 16 1 0 6 0 ABP\n")
    head = header(tmp_path / "x.hea")
    recording = head.recording(())  # pressure is no lead
    assert recording.leads == ("aVR",)
    assert np.allclose(recording.sample_LM, [[0.001, 0.002, 0.003]])
    assert np.allclose(head.recording(("ABP",)).sample_LM, [[0.0, 0.5, 1.0]])


def test_several_samples_a_frame(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_bytes(np.arange(12, dtype="<i2").tobytes())
    (tmp_path / "x.hea").write_text("x 2 50 4\nx.dat 16x2 1/mV 16 0 0 0 0 II\nx.dat 16 1/mmHg 16 0 0 0 0 ABP\n")
    head = header(tmp_path / "x.hea")
    recording = head.recording((), 1, 3)
    assert recording.rate == 100
    assert recording.sample_LM.tolist() == [[3, 4, 6, 7]]
    with pytest.raises(BadRecord, match="different rates"):
        head.leads(("II", "ABP"))


def test_equal_names_get_numbers(tmp_path: Path) -> None:
    head = header(write_wfdb(tmp_path, "a", beats(("ECG", "ecg ", "ECG"))))
    assert [s.name for s in head.signals] == ["ECG", "ecg", "ECG (2)"]


def test_a_changed_value_is_said_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_wfdb(tmp_path, "a", beats(("I", "II")))
    head = header(path)
    head.check(head.values())
    assert not caplog.text
    data = bytearray((tmp_path / "a.dat").read_bytes())
    data[2] ^= 1
    (tmp_path / "a.dat").write_bytes(data)
    head.check(head.values())
    assert "the values of II add up to" in caplog.text
    assert "values of I add" not in caplog.text


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no record line"),
        ("x\n", "no record line"),
        ("x two 250 10\n", "no record line"),
        ("x/2 1 250 10\nx1 5\nx2 5\n", "several segments"),
        ("x 1 0 10\nx.dat 16\n", "no rate"),
        ("x 1 fast 10\nx.dat 16\n", "no rate"),
        ("x 2 250 10\nx.dat 16\n", "says 2 signals, 1 are described"),
        ("x 0 250 10\n", "says 0 signals"),
        ("x 1 250 10\nx.dat\n", "line 2.*no signal line"),
        ("x 1 250 10\nx.dat 16 a/mV\n", "no signal line"),
        ("x 1 250 10\nx.dat 310\n", "format 310 is not read; those that are: 16, 24, 32, 61, 80, 160, 212"),
        ("x 1 250 10\n../x.dat 16\n", "beside the header"),
        ("x 1 250 10\nhttps://example.org/x.dat 16\n", "beside the header"),
        ("x 1 250 10\nx.dat 16 200 12 1e9\n", "line 2"),
        ("x 1 250 999999999999\nx.dat 16\n", "values; from 1 to"),
        ("x 1 250 11\nx.dat 16\n", "x.dat is truncated: 20 bytes, 22 are needed"),
        ("x 1 250 10\ny.dat 16\n", "y.dat cannot be read"),
        ("x 1\ny.dat 16\n", "y.dat is not beside it"),
        ("x 1 250 10\nx.dat 16 200/mmHg\n", "no signal of it is a voltage"),
        ("x 1 250 10\nx.dat 16:3 200/mV\n", "late by 3 samples"),
    ],
)
def test_records_that_are_not_read(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "x.dat").write_bytes(bytes(20))
    (tmp_path / "x.hea").write_text(text)
    with pytest.raises(BadRecord, match=word) as error:
        header(tmp_path / "x.hea").recording(())
    assert "x.hea" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", [16, 24, 32, 61, 80, 160, 212])
def test_the_package_wfdb_reads_the_same(tmp_path: Path, form: int) -> None:
    wfdb = pytest.importorskip("wfdb", reason="the package wfdb is not installed: pip install mmm-ecg[test]")
    head = header(write_wfdb(tmp_path, "a", beats(("I", "II", "V1"), seconds=1.004, gap=(1, 30, 50)), form, FORMATS[form]))
    theirs = wfdb.rdrecord(str(tmp_path / "a"), physical=False)
    assert np.array_equal(np.stack(head.values(), 1), theirs.d_signal)
    theirs = wfdb.rdrecord(str(tmp_path / "a"))
    assert np.allclose(head.recording(()).sample_LM.T, theirs.p_signal, atol=1e-6, equal_nan=True)
    assert list(head.recording(()).leads) == theirs.sig_name
