import io
import os
import sys
import tempfile
import tracemalloc

import numpy as np
import pytest
import soundfile

from musicgen.lab.player.sound import Sound, mp3_bytes, render, render_mp3, render_wav, sustained, write_wav
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll


@pytest.fixture(params=["midirenderer", "partials"])
def engine(request, monkeypatch):
    if request.param == "partials":
        monkeypatch.setitem(sys.modules, "midirenderer", None)  # the import of it fails
    else:
        pytest.importorskip("midirenderer")


def roll_of(*notes, n_frames=None):
    return PianoRoll.from_notes(np.array(list(notes), NOTE_DTYPE), n_frames=n_frames)


def energy(sound, start_seconds, end_seconds):
    return float(np.square(sound.samples[int(start_seconds * sound.rate) : int(end_seconds * sound.rate)]).sum())


@pytest.mark.parametrize(("pitch", "hertz"), [(57, 220), (69, 440), (76, 659.26)])
def test_a_pitch_sounds_at_its_frequency(engine, pitch, hertz):
    sound = render(roll_of((pitch, 80, 0, 40)))
    spectrum = np.abs(np.fft.rfft(sound.samples))
    strongest = np.fft.rfftfreq(len(sound.samples), 1 / sound.rate)[spectrum.argmax()]
    assert strongest == pytest.approx(hertz, rel=0.01)


def test_a_note_begins_at_its_onset_and_a_louder_one_has_more_energy(engine):
    sound = render(roll_of((60, 40, 10, 20), (60, 110, 60, 70)))  # at 0.5 s and 3 s
    assert energy(sound, 0, 0.49) == 0
    assert 0 < 3 * energy(sound, 0.5, 1) < energy(sound, 3, 3.5)


def test_the_last_note_rings_out_and_the_end_is_silent(engine):
    sound = render(roll_of((50, 90, 0, 30), n_frames=50))
    assert len(sound.samples) == pytest.approx((2.5 + 1.5) * sound.rate, abs=0.01 * sound.rate)
    assert energy(sound, 1.5, 1.6) > 0
    assert np.abs(sound.samples[-100:]).max() < 0.001


def test_the_loudest_chord_does_not_clip_and_a_soft_note_is_heard(engine):
    every_key = roll_of(*[(pitch, 127, 0, 20) for pitch in range(21, 109)])
    for roll in (every_key, roll_of((64, 20, 0, 20))):
        sound = render(roll)
        assert sound.samples.dtype == np.float32
        assert np.abs(sound.samples).max() == pytest.approx(0.89)


def test_the_pedal_holds_notes_until_it_is_up_or_they_are_struck_again():
    notes = [(60, 70, 0, 10), (60, 70, 40, 50), (64, 70, 5, 20), (67, 70, 55, 60)]
    pedal = np.zeros(100, bool)
    pedal[[*range(8, 30), *range(45, 80)]] = True
    roll = PianoRoll(roll_of(*notes, n_frames=100).velocity, pedal=pedal)
    held = {(pitch, start): end for pitch, _, start, end in sustained(roll)}
    assert held == {(60, 0): 30, (64, 5): 30, (60, 40): 80, (67, 55): 80}
    pedal[:] = True
    held = {(pitch, start): end for pitch, _, start, end in sustained(PianoRoll(roll.velocity, pedal=pedal))}
    assert held == {(60, 0): 40, (64, 5): 100, (60, 40): 100, (67, 55): 100}
    assert sustained(PianoRoll(roll.velocity)) == [list(note) for note in roll.notes.tolist()]


def test_a_note_rings_on_with_the_pedal(engine):
    roll = roll_of((60, 90, 0, 10), n_frames=60)
    dry, wet = (render(PianoRoll(roll.velocity, pedal=np.full(60, down))) for down in (False, True))
    assert energy(wet, 1.5, 2.5) > 20 * energy(dry, 1.5, 2.5)
    assert len(wet.samples) == len(dry.samples)


@pytest.mark.parametrize("n_frames", [0, 30])
def test_silence_stays_silent(engine, n_frames):
    sound = render(PianoRoll(np.zeros((n_frames, 88), np.uint8)))
    assert len(sound.samples) == pytest.approx((n_frames / 20 + 1.5) * sound.rate, abs=0.01 * sound.rate)
    assert not sound.samples.any()


def test_a_wav_file_holds_the_sound(tmp_path):
    sound = render(roll_of((72, 70, 3, 9)))
    write_wav(sound, tmp_path / "tone.wav")
    samples, rate = soundfile.read(tmp_path / "tone.wav")
    assert rate == sound.rate
    assert soundfile.info(tmp_path / "tone.wav").subtype == "PCM_16"
    np.testing.assert_allclose(samples, sound.samples, atol=2 / 2**16)


def test_an_mp3_is_the_sound_in_under_250_kb_per_minute(engine):
    sound = render(roll_of((48, 90, 0, 100), (55, 80, 20, 100), (64, 100, 40, 100)))
    mp3 = mp3_bytes(sound)
    samples, rate = soundfile.read(io.BytesIO(mp3))
    assert rate == 24_000
    every = sound.rate // rate
    assert len(mp3) * 60 * every / len(sound.samples) * rate < 250_000
    wanted = sound.samples[::every]
    assert np.corrcoef(samples[: len(wanted)], wanted)[0, 1] > 0.99


def test_a_long_piece_is_rendered_in_blocks_that_fit_together(engine, tmp_path, monkeypatch):
    notes = [(40 + 7 * i, 60 + i, 13 * i, 13 * i + 9) for i in range(8)]  # one sounds over each border of 2 s
    roll = PianoRoll(roll_of(*notes, n_frames=105).velocity, pedal=np.arange(105) % 60 > 20)
    whole = render(roll)
    monkeypatch.setattr("musicgen.lab.player.sound.BLOCK_SECONDS", 2)
    parts = render(roll)
    assert len(parts.samples) == len(whole.samples)
    np.testing.assert_allclose(parts.samples, whole.samples, atol=0.003)
    render_wav(roll, tmp_path / "a.wav")
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == whole.rate and samples.shape == whole.samples.shape
    np.testing.assert_allclose(samples, parts.samples, atol=2 / 2**16)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    mp3, rate, seconds = render_mp3(roll)
    assert (rate, seconds) == (parts.rate, len(parts.samples) / parts.rate)
    heard, from_the_whole = (soundfile.read(io.BytesIO(each))[0] for each in (mp3, mp3_bytes(parts)))
    np.testing.assert_allclose(heard, from_the_whole, atol=0.003)


def test_the_memory_of_a_players_sound_does_not_grow_with_the_piece(monkeypatch):
    def noise(part):
        return Sound(np.zeros(round((part.duration_seconds + 1.5) * 44_100), np.float32), 44_100)

    monkeypatch.setattr("musicgen.lab.player.sound._render_part", noise)
    monkeypatch.setattr("musicgen.lab.player.sound.BLOCK_SECONDS", 5)
    peaks = []
    for n_seconds in (60, 30):
        tracemalloc.start()
        mp3, _, seconds = render_mp3(PianoRoll(np.zeros((n_seconds * 20, 88), np.uint8)))
        peaks.append(tracemalloc.get_traced_memory()[1] - 2 * len(mp3))  # it is kept twice at the end
        tracemalloc.stop()
        assert seconds == n_seconds + 1.5
    assert peaks[0] < 1.2 * peaks[1] < 60 * 44_100 * 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
def test_a_full_folder_for_temporary_files_is_named_with_advice(engine, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: open("/dev/full", "w+b"))
    with pytest.raises(OSError, match=r"No space left on device \(TMPDIR chooses another\)") as error:
        render_mp3(PianoRoll(np.full((20, 88), 70, np.uint8)))
    assert error.value.filename == str(tmp_path)
