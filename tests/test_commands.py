"""The command line: from a folder of MIDI files to a new piece, and its messages for bad input."""

import importlib
import json
import os
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import fields, replace

import mido
import numpy as np
import pytest
import soundfile
from raw_midi import metre, midi_bytes, note, pedal, scale, tempo

from musicgen.__main__ import COMMANDS, main
from musicgen.commands import training_config_classes
from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.generation.beat_search import FoundBeats
from musicgen.midi import read_midi, read_performance, write_midi
from musicgen.piano_roll import PianoRoll
from musicgen.training import load_checkpoint, save_checkpoint
from musicgen.utils import progress

TINY = "--hidden-size 8 --attention-size 4 --attention-span 16 --window-frames 16 --n-epochs".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make ten short pieces, one of them broken, and keep the cache away from the user's."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(5)
    for index in range(10):
        held = np.repeat(random.random((12 + index, 88)) < 0.03, 5, axis=0)
        write_midi(PianoRoll(np.where(held, 70, 0).astype(np.uint8)), folder / f"piece {index}.mid")
    (folder / "piece 3.mid").write_text("hello")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture
def run(capsys):
    """Run a command that succeeds, and return its JSON."""

    def run(*arguments):
        assert main([*map(str, arguments), "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def checkpoint(folder, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(folder), "--out", str(run_dir), "--composers", "Unknown", *TINY, "2"]) == 0
    return run_dir / "best.safetensors"


def test_sample_writes_what_the_sampler_reads(run, folder, tmp_path):
    said = run("sample", folder / "piece 1.mid", "--out", tmp_path / "roll.npz", "--fps", 10)
    roll, kept = read_midi(folder / "piece 1.mid", fps=10), np.load(tmp_path / "roll.npz")
    np.testing.assert_array_equal(kept["velocity"], roll.velocity)
    assert (kept["velocity"].dtype, kept["fps"]) == (np.uint8, 10)
    assert (said["n_frames"], said["n_notes"], said["dropped"]) == (roll.n_frames, roll.n_notes, 0)


def test_prepare_names_what_it_skips(run, folder):
    said = run("prepare", folder)
    assert (said["n_files"], said["n_sampled"]) == (10, 9)
    assert [skipped["file"] for skipped in said["skipped"]] == ["piece 3.mid"]
    assert "MThd" in said["skipped"][0]["reason"]


def test_beats_are_found_once_and_training_reads_them(run, folder, checkpoint, tmp_path, monkeypatch):
    asked = []

    def track_beats(model, roll, fine):
        assert fine == read_midi(data / f"{(0, 1, 4)[min(len(asked), 2)]}.mid", fps=100)
        asked.append(roll.n_frames)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return np.array([[0.5, 1], [0.9 + roll.n_frames, 0]])

    monkeypatch.setattr("musicgen.evaluation.beat_tracking.track_beats", track_beats)
    data = tmp_path / "data"
    data.mkdir()
    for index in (0, 1, 2, 4):
        (data / f"{index}.mid").write_bytes((folder / f"piece {index}.mid").read_bytes())
    np.savez(data / "beats.npz", **{"2.mid": np.array([[0.25, 1.0], [0.75, 0.0]])})
    n_frames = [read_midi(data / f"{index}.mid").n_frames for index in (0, 1, 4)]
    assert main(["beats", str(data), "--checkpoint", str(checkpoint)]) == 130  # Ctrl-C in the third piece
    said = run("beats", data, "--checkpoint", checkpoint)
    assert asked == [*n_frames, n_frames[2]]
    assert (said["n_found"], said["n_kept"], said["without_beats"]) == (1, 3, [])
    times = {piece.name: piece.beats[:, 0].tolist() for piece in load_corpus(data)}
    assert times == {"2.mid": [0.25, 0.75]} | {f"{index}.mid": [0.5, 0.9 + n] for index, n in zip((0, 1, 4), n_frames)}


def test_recordings_without_beats_are_named(run, folder, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("musicgen.evaluation.beat_tracking.track_beats", lambda *rolls: None)
    (tmp_path / "data").mkdir()
    for index in (5, 6):
        (tmp_path / "data" / f"{index}.mid").write_bytes((folder / f"piece {index}.mid").read_bytes())
    said = run("beats", tmp_path / "data", "--checkpoint", checkpoint, "--out", tmp_path / "found.npz")
    assert (said["n_found"], said["n_kept"], said["without_beats"]) == (0, 0, ["5.mid", "6.mid"])
    assert not (tmp_path / "found.npz").exists()


def test_a_finished_run_is_resumed_without_a_change(run, folder, checkpoint):
    before = checkpoint.read_bytes()
    said = run("train", folder, "--out", checkpoint.parent, "--resume", "--composers", "unknown", *TINY, 2)
    assert (said["checkpoint"], said["epochs"]) == (str(checkpoint), 2)
    assert 0 < said["validation_nll"] < 88 * np.log(2)
    assert checkpoint.read_bytes() == before


def test_training_stores_its_composers(checkpoint):
    assert load_checkpoint(checkpoint).model.config.composers == ("unknown",)  # of a folder without a table


def test_training_can_start_from_a_checkpoint_and_records_it(run, folder, checkpoint, tmp_path):
    before = load_checkpoint(checkpoint)
    best = min(row["validation_nll"] for row in before.record["progress"]["history"])
    typed = ["--start", checkpoint, "--dropout", 0.5, "--n-epochs", 1]
    said = run("train", folder, "--out", tmp_path / "run", *typed)
    assert said["start_nll"] == pytest.approx(best, rel=1e-5)
    assert said["validation_nll"] <= said["start_nll"]
    kept = load_checkpoint(said["checkpoint"])
    assert kept.record["start"] == before.record
    assert kept.model.config == replace(before.model.config, dropout=0.5)  # what was typed counts
    assert (kept.record["training"]["optimizer"], kept.record["training"]["n_epochs"]) == ("adamw", 1)


def test_what_does_not_fit_the_model_to_start_from_is_refused_with_both_values(folder, checkpoint, tmp_path, capsys):
    typed = ["--start", str(checkpoint), "--dropout", "0.5", "--hidden-size", "99", "--copy-heads", "4"]
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *typed]) == 2
    said = capsys.readouterr().err
    assert "hidden_size is 99, there" in said and "dropout" not in said
    assert not (tmp_path / "run").exists()


def test_evaluate_scores_the_checkpoint_beside_its_baselines(run, folder, checkpoint):
    said = run("evaluate", checkpoint, folder, "--split", "train")
    assert said["n_frames"] > said["n_pieces"] > 0
    assert 0 < said["markov_nll"] < said["marginal_nll"]
    assert {"nll", "frame_f1", "onset_f1", "changed_nll", "accuracy", "velocity_nll", "n_struck"} <= said.keys()


def test_a_model_is_scored_at_its_own_frame_rate(run, folder, checkpoint, tmp_path):
    kept = load_checkpoint(checkpoint)
    kept.model.config = replace(kept.model.config, fps=10)
    save_checkpoint(tmp_path / "slow.safetensors", kept.model, kept.tensors, kept.record)
    options = ["--split", "validation", "--device", "cpu"]
    usual, slow = (run("evaluate", path, folder, *options) for path in (checkpoint, tmp_path / "slow.safetensors"))
    assert slow["n_frames"] == pytest.approx(usual["n_frames"] / 2, rel=0.05)


def test_generate_writes_the_piece_its_sound_and_its_figure(run, folder, checkpoint, tmp_path):
    files = [tmp_path / name for name in ("new.mid", "new.wav", "new.png")]
    wanted = ["--prime", folder / "piece 7.mid", "--beats", 3, "--seconds", 4, "--checkpoint", checkpoint]
    said = run("generate", "--out", files[0], "--wav", files[1], "--png", files[2], *wanted)
    assert (said["seconds"], said["files"]) == (4.0, [str(file) for file in files])
    assert (said["prime"], said["prime_seconds"]) == ("piece 7", 1.5)
    prime = read_midi(folder / "piece 7.mid")[:30]
    np.testing.assert_array_equal(read_midi(files[0]).active[:30], prime.active)
    assert soundfile.info(files[1]).duration > 4
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_generate_tells_the_beat_that_it_found_unless_it_shall_play_freely(checkpoint, tmp_path, monkeypatch, capsys):
    beats = np.stack([np.arange(-1, 9) * 0.4, np.zeros(10)], axis=1)
    found = FoundBeats(beats, [beats], np.array([0.4]), np.array([0.0]), np.array([50.0]), 60.0)
    module = importlib.import_module("musicgen.generation.generate")  # the package has a function of that name
    monkeypatch.setattr(module, "find_beats", lambda model, prime: found)
    write_midi(PianoRoll(np.repeat(np.eye(8, 88, 30, dtype=np.uint8) * 70, 10, axis=0)), tmp_path / "prime.mid")
    command = ["generate", "--prime", tmp_path / "prime.mid", "--beats", 4, "--seconds", 3, "--checkpoint", checkpoint]
    said = {}
    for bpm in ([], ["--bpm", 80], ["--bpm", "none"]):
        assert main([*map(str, [*command, *bpm, "--out", tmp_path / "new.mid"])]) == 0
        said[" ".join(map(str, bpm))] = capsys.readouterr().err
    assert "beat found: 150 per minute" in said[""]
    assert not any("beat found" in text for bpm, text in said.items() if bpm)
    assert main(["generate", "--bpm", "-3", "--out", str(tmp_path / "new.mid")]) == 2


def test_generate_fills_the_middle_between_an_opening_and_an_ending(run, folder, checkpoint, tmp_path):
    ending = read_performance(folder / "piece 8.mid").first_beats(10_000)
    wanted = ["--prime", folder / "piece 7.mid", "--beats", 3, "--seconds", 3, "--checkpoint", checkpoint]
    said = run("generate", *wanted, "--ending", folder / "piece 8.mid", "--n", 2, "--out", tmp_path / "new.mid")
    for number in (1, 2):
        piece = read_midi(tmp_path / f"new-{number}.mid")
        np.testing.assert_array_equal(piece.active[:30], read_midi(folder / "piece 7.mid").active[:30])
        np.testing.assert_array_equal(piece.active[60:], ending.active)
    assert said["seconds"] == 3 + ending.duration_seconds


def test_an_ending_needs_an_opening_and_must_exist(folder, checkpoint, tmp_path, capsys):
    command = ["generate", "--out", str(tmp_path / "new.mid"), "--checkpoint", str(checkpoint), "--seconds", "2"]
    ending = str(folder / "piece 8.mid")
    assert main([*command, "--ending", ending, "--beats", "0"]) == 2
    assert "opening" in capsys.readouterr().err
    assert main([*command, "--ending", str(tmp_path / "no.mid")]) == 2
    assert "no.mid" in capsys.readouterr().err


def test_generate_works_without_a_prime(run, checkpoint, tmp_path):
    wanted = ["--beats", 0, "--seconds", 2, "--seed", 4, "--checkpoint", checkpoint]
    said = run("generate", "--out", tmp_path / "new.mid", *wanted)
    assert (said["seconds"], said["realtime_factor"] > 0) == (2.0, True)
    assert (said["composer"], said["prime"], said["prime_seconds"]) == (None, None, 0)


def test_generate_takes_a_composer_of_the_model_and_every_control(run, checkpoint, tmp_path):
    wanted = [
        "--beats",
        8,
        "--seconds",
        2,
        "--checkpoint",
        checkpoint,
        "--composer",
        "UNKNOWN",
        "--guidance-scale",
        2,
        "--no-pedal",
    ]
    controls = "--temperature 0.9 --release-temperature 0.8 --top-p 0.95 --max-polyphony 9 --seed 4".split()
    said = run("generate", "--out", tmp_path / "new.mid", *wanted, *controls)
    assert (said["seconds"], said["composer"]) == (2.0, "unknown")  # there is no opening for this one
    assert read_midi(tmp_path / "new.mid").active.sum(axis=1).max() <= 9


@pytest.fixture
def tiny(tiny_model, tmp_path):
    """The path of a checkpoint of a model that was trained at 10 frames per second."""
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model(n_pitches=88, fps=10), {}, {})
    return tmp_path / "tiny.safetensors"


def test_several_continuations_are_numbered_and_can_leave_the_prime_out(run, folder, tiny, tmp_path):
    wanted = ["--prime", folder / "piece 7.mid", "--beats", 3, "--seconds", 4, "--checkpoint", tiny, "--n", 2]
    files = ["--out", tmp_path / "new.mid", "--png", tmp_path / "new.png"]
    whole = run("generate", *files, *wanted)
    assert whole["files"] == [str(tmp_path / name) for name in ("new-1.mid", "new-1.png", "new-2.mid", "new-2.png")]
    pieces = [read_midi(tmp_path / f"new-{number}.mid", fps=10) for number in (1, 2)]
    assert np.array_equal(pieces[0].velocity[:15], pieces[1].velocity[:15])
    assert pieces[0].notes.tolist() != pieces[1].notes.tolist()
    assert [each["n_notes"] for each in whole["pieces"]] == [piece.n_notes for piece in pieces]
    new = run("generate", "--out", tmp_path / "new.mid", *wanted, "--only-new")
    assert (new["prime_seconds"], new["seconds"]) == (1.5, 2.5)
    assert 0 < new["n_notes"] < whole["n_notes"]
    for piece, number in zip(pieces, (1, 2)):
        written = read_midi(tmp_path / f"new-{number}.mid", fps=10)
        both = piece.onsets[15 : 15 + written.n_frames]
        np.testing.assert_array_equal(written.onsets[: len(both)], both)


def test_a_model_composes_at_its_own_frame_rate(run, folder, tiny, tmp_path):
    said = run("generate", "--prime", folder / "piece 7.mid", "--beats", 4, "--seconds", 3, "--out",
               tmp_path / "new.mid", "--checkpoint", tiny)  # fmt: skip
    prime = read_midi(folder / "piece 7.mid", fps=10)[:20]
    np.testing.assert_array_equal(read_midi(tmp_path / "new.mid", fps=10).active[:20], prime.active)
    assert (said["prime_seconds"], said["seconds"]) == (2.0, 3.0)
    tenths = read_midi(tmp_path / "new.mid", fps=100).notes["start_frame"] / 10
    assert (tenths == tenths.round()).all(), "every note begins with a frame of the model"


@pytest.mark.parametrize(
    ("sizes", "typed", "told"),
    [
        ({"output": "independent"}, "--pedal-temperature 2 --no-pedal --seed 3", ["pedal-temperature", "pedal"]),
        ({"composers": ("Liszt",)}, "--guidance-scale 3", ["guidance-scale"]),
        ({"composers": ("Liszt",)}, "--guidance-scale 3 --composer Liszt", []),
        ({}, "--candidates 2 --strength 2 --register 2 --no-home", ["candidates", "strength", "register", "home"]),
        ({"probe": True, "home": True}, "--candidates 2 --strength 2 --no-home", []),
        ({"home": True, "probe": True}, "--feedback 2 --register 2 --no-home", ["register", "feedback"]),
        ({}, "--beats-per-bar 3", ["beats-per-bar"]),
        ({}, "--beats-per-bar 3 --bpm 100 --beats 0 --only-new", ["only-new"]),
        ({"beats": False}, "--bpm 100", ["bpm"]),
        ({"beats": False}, "--bpm none", []),
    ],
)
def test_an_option_that_changes_nothing_is_told_before_composing(
    tiny_model, tmp_path, monkeypatch, capsys, sizes, typed, told
):
    def compose(*_):
        raise ValueError("now it composes")

    monkeypatch.setattr("musicgen.commands.compose", compose)
    save_checkpoint(tmp_path / "a.safetensors", tiny_model(n_pitches=88, **sizes), {}, {})
    command = ["generate", "--out", tmp_path / "a.mid", "--checkpoint", tmp_path / "a.safetensors"]
    assert main([*map(str, command), *typed.split()]) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert [line.partition(" has no effect: ")[0] for line in lines] == [f"--{option}" for option in told]
    assert "now it composes" in last


def test_an_option_that_changes_nothing_in_training_is_told_before_it(folder, tmp_path, monkeypatch, capsys):
    def run(*_):
        raise ValueError("now it trains")

    monkeypatch.setattr("musicgen.training.Trainer.run", run)
    told = {
        "--optimizer adamw --momentum 0.5 --beta1 0.8": ["momentum"],
        "--weight-decay 0.5 --final-rate 0.1": ["weight-decay", "final-rate"],
        "--no-beats --beat-dropout 0.7 --composer-dropout 0.1": ["beat-dropout", "composer-dropout"],
        "--output independent --pedal --pitch-reach 3 --pedal-weight 2": ["pitch-reach", "pedal", "pedal-weight"],
        "--attention none --attention-span 20": ["attention-span"],
        "--copy-heads 0 --copy-span 20 --home-dropout 0.5": ["copy-span", "home-dropout"],
        "--schedule cosine --final-rate 0.1 --composers Unknown --composer-dropout 0.1": [],
    }
    for typed, options in told.items():
        assert main(["train", str(folder), "--out", str(tmp_path / "run"), "--hidden-size", "8", *typed.split()]) == 2
        *lines, last = capsys.readouterr().err.splitlines()
        lines = [line for line in lines if "has no effect" in line]
        assert [line.partition(" has no effect: ")[0] for line in lines] == [f"--{option}" for option in options]
        assert "now it trains" in last


def test_a_prime_that_begins_after_seven_minutes_is_drawn(run, tiny, tmp_path):
    late = midi_bytes([note(480 * 960, 480 * 964, 60)])  # at 8 minutes
    (tmp_path / "late.mid").write_bytes(late)
    wanted = ["--prime", tmp_path / "late.mid", "--seconds", 6, "--checkpoint", tiny, "--png", tmp_path / "new.png"]
    assert run("generate", "--out", tmp_path / "new.mid", *wanted)["prime_seconds"] == 2
    assert (tmp_path / "new.png").stat().st_size > 1000


def test_what_fails_after_composing_says_what_was_written(tiny, tmp_path, monkeypatch, capsys):
    def fail(*_arguments):
        raise OSError(28, "No space left on device", "new.wav")

    monkeypatch.setattr("musicgen.lab.player.sound.render_wav", fail)
    files = ["--out", str(tmp_path / "new.mid"), "--wav", str(tmp_path / "new.wav")]
    assert main(["generate", *files, "--seconds", "6", "--checkpoint", str(tiny)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "No space left" in said and said.endswith(f"written before that: {tmp_path / 'new.mid'}\n")
    assert read_midi(tmp_path / "new.mid").n_notes


def test_a_long_error_does_not_hide_what_was_written(tiny, tmp_path, monkeypatch, capsys):
    def fail(*_arguments):
        raise ValueError("x" * 400)

    monkeypatch.setattr("musicgen.lab.player.sound.render_wav", fail)
    out = tmp_path / f"{'long' * 50}.mid"
    files = ["--out", str(out), "--wav", str(tmp_path / "new.wav")]
    assert main(["generate", *files, "--seconds", "6", "--checkpoint", str(tiny)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("musicgen: xxx") and said.endswith("longlong.mid\n") and "written before that: ..." in said


def test_a_composer_that_the_model_does_not_know_is_still_a_prime(run, tiny_model, tmp_path):
    save_checkpoint(tmp_path / "small.safetensors", tiny_model(n_pitches=88), {}, {})
    wanted = ["--composer", "Chopin", "--seconds", 5, "--checkpoint", tmp_path / "small.safetensors"]
    said = run("generate", "--out", tmp_path / "new.mid", *wanted)
    assert (said["composer"], said["prime"]) == (None, f"Chopin: {PRIMES['Chopin'].title}")
    prime = shipped_prime("Chopin")
    np.testing.assert_array_equal(read_midi(tmp_path / "new.mid").active[: prime.n_frames], prime.active)


def test_download_writes_the_chorales_without_a_network(run, monkeypatch, tmp_path):
    (tmp_path / "pieces.csv").write_text(
        "canonical_composer,canonical_title,split,midi_filename\nJ. S. Bach,A chorale,train,a.mid\n"
    )
    (tmp_path / "a.mid").write_bytes(b"")
    said = run("download", "--chorales", "--out", tmp_path)  # they exist already
    assert said == {"path": str(tmp_path), "n_files": 1}


BAD = {
    "sample missing.mid --out a.npz": "missing.mid",
    "sample text.mid --out a.npz": "text.mid",
    "sample silent.mid --out a.npz": "silent.mid",
    "sample good.mid --out a.npz --fps 0": "fps",
    "sample good.mid --out text.mid/a.npz": "text.mid",
    "prepare missing": "missing",
    "prepare empty": "empty",
    "prepare broken": "text.mid",
    "train empty --out run": "empty",
    "train lonely --out run": "validation",
    "train good --out run --learning-rate 2": "learning_rate",
    "train good --out run --n-layers two": "n-layers",
    "train {folder} --out run --composers unknown,Salieri": "Salieri",
    "train {folder} --out run --composers unknown,unknown": "must be different",
    "train good --out run --output poster": "output",
    "evaluate missing.safetensors good": "missing.safetensors",
    "evaluate text.mid good": "text.mid",
    "generate --out a.mid --temperature 0": "temperature",
    "generate --out a.mid --temperature -1": "temperature",
    "generate --out a.mid --top-p 2": "top_p",
    "generate --out a.mid --checkpoint text.mid": "text.mid",
    "generate --out a.mid --checkpoint small.safetensors": "5 pitches",
    "evaluate small.safetensors good": "5 pitches",
    "evaluate piano.safetensors {folder}": "baselines",
    "generate --out a.mid --prime text.mid": "text.mid",
    "generate --out a.mid --prime good.mid --beats -2 --checkpoint piano.safetensors": "n_beats",
    "generate --out a.mid --prime good.mid --beats 1e300 --checkpoint piano.safetensors": "n_beats",
    "generate --out a.mid --prime missing.mid --beats 0": "missing.mid",
    "generate --out a.mid --beats 0 --seconds 1e-9": "seconds",
    "generate --out a.mid --composer Salieri --checkpoint piano.safetensors": "there are Bach, Liszt",
    "generate --out a.mid --composer Salieri --checkpoint plain.safetensors": "Salieri",
    "generate --out a.mid --prime good.mid --composer Bach --checkpoint plain.safetensors": "--composer Bach",
    "generate --out a.wav --checkpoint plain.safetensors": "'a.wav' does not end in .mid",
    "generate --out a.mid --wav a.mp3 --checkpoint plain.safetensors": "'a.mp3' does not end in .wav",
    "generate --out a.mid --wav text.mid/a.wav": "text.mid",
    "generate --out folder.mid": "'folder.mid' is a folder",
    "export piano.safetensors --out graph.txt": "'graph.txt' does not end in .onnx",
    "export piano.safetensors --out text.mid/a.onnx": "text.mid",
    "beats missing": "missing",
    "beats good --out beats.mid": "'beats.mid' does not end in .npz",
    "beats good --checkpoint deaf.safetensors": "knows no beats",
    "beats garbled": "beats.npz': cannot be read as beats",
    "train missing --out text.mid": "text.mid",  # told before the corpus is looked at
    "train missing --out old": "holds a run already (log.csv)",
    "generate --out a.mid --n 0": "--n must lie in 1..100, not 0",
    "generate --out a.mid --device cuda": "use --device cpu",
    "train good --out run --start piano.safetensors --composers unknown": "leave --composers out, or give those of",
    "train good --out run --composers Mozart": "no composers that are known",
    "train pair --out run": "three or more",
    "generate --out a.mid --sedd 3": "sedd",
    "generate --out a.mid --prime ''": "argument --prime: the path is empty",
    "generate --out ''": "argument --out: the path is empty",
    "prepare ''": "the path is empty",
    "train good '' --out run": "the path is empty",
    "generate": "--out",
    "compose": "compose",
    "": "COMMAND",
}


@pytest.mark.parametrize(("line", "named"), BAD.items())
def test_bad_input_is_explained_in_one_line(line, named, folder, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("musicgen.commands.compose", None)  # told before anything is composed
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("empty", "broken", "lonely", "pair", "good", "folder.mid", "old"):
        (tmp_path / name).mkdir()
    (tmp_path / "old" / "log.csv").touch()
    for index in range(4):
        (tmp_path / "good" / f"{index}.mid").write_bytes((folder / "piece 1.mid").read_bytes())
    for name in ("good.mid", "lonely/a.mid", "pair/a.mid", "pair/b.mid"):
        (tmp_path / name).write_bytes((folder / "piece 1.mid").read_bytes())
    for name in ("text.mid", "broken/text.mid"):
        (tmp_path / name).write_text("hello")
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "beats.npz").write_text("hello")
    sizes = {"small": {}, "plain": {"n_pitches": 88}, "deaf": {"n_pitches": 88, "beats": False}}
    sizes |= {"piano": {"n_pitches": 88, "composers": ("Liszt", "Bach")}}
    for name, size in sizes.items():
        save_checkpoint(f"{name}.safetensors", tiny_model(pitch_reach=2, **size), {}, {})
    (tmp_path / "silent.mid").write_bytes(midi_bytes([[]]))
    try:
        code = main(shlex.split(line.format(folder=folder)))
    except SystemExit as stopped:
        code = stopped.code
    said = [text for text in capsys.readouterr().err.splitlines() if text and "sampling" not in text]
    assert (code, len(said)) == (2, 1)
    assert named in said[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert COMMANDS[command][0].__doc__.split() == capsys.readouterr().out.split("\n\n")[1].split()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_and_folder_of_a_command_must_have_a_name(command):
    parser = ArgumentParser()
    COMMANDS[command][1](parser)
    texts = [each for each in parser._actions if each.type in (None, str) and each.nargs != 0 and not each.choices]
    assert {each.dest for each in texts} <= {
        *("composer", "composer_names", "bpm"),  # no paths; settings have their own checks
        *(each.name for kind in training_config_classes() for each in fields(kind)),
    }


def test_commands_that_need_no_model_do_not_wait_for_torch():
    lines = "import sys, musicgen.__main__ as m; m.make_parser('prepare'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True).stdout == "False\n"


LATE = midi_bytes([note(480 * 10, 480 * 11, 60) + note(480 * 13, 480 * 15, 67)])  # 5 to 7.5 s


def test_sample_and_prepare_count_the_notes_beyond_their_limit(run, tmp_path):
    (tmp_path / "late.mid").write_bytes(LATE)
    sampled = run("sample", tmp_path / "late.mid", "--out", tmp_path / "a.npz", "--max-seconds", 6)
    assert (sampled["n_notes"], sampled["dropped"], sampled["reasons"]["truncated"]) == (1, 1, 1)
    prepared = run("prepare", tmp_path, "--max-seconds", 6)
    assert prepared["dropped"]["truncated"] == 1
    assert run("prepare", tmp_path)["dropped"]["truncated"] == 0


def test_sample_keeps_the_pedal_and_the_beats(run, tmp_path):
    events = [metre(0, 3, 2), tempo(0, 500_000), pedal(0, 127), *scale(24, 240), pedal(240, 0)]
    (tmp_path / "a.mid").write_bytes(midi_bytes([events]))
    run("sample", tmp_path / "a.mid", "--out", tmp_path / "a.npz")
    roll, kept = read_midi(tmp_path / "a.mid"), np.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(kept["pedal"], roll.pedal)
    np.testing.assert_array_equal(kept["beats"], roll.beats)


def test_prepare_counts_the_files_that_a_table_lists_and_the_folder_lacks(run, tmp_path, folder, capsys):
    lines = ["canonical_composer,canonical_title,split,midi_filename"]
    lines += [f"Bach,One,train,{name}.mid" for name in ("a", "b", "c")]
    (tmp_path / "pieces.csv").write_text("\n".join(lines))
    (tmp_path / "b.mid").write_bytes((folder / "piece 1.mid").read_bytes())
    said = run("prepare", tmp_path)
    assert (said["n_files"], said["missing"]) == (1, ["a.mid", "c.mid"])
    assert main(["prepare", str(tmp_path)]) == 0
    assert "2 files of the table are missing: a.mid, c.mid" in capsys.readouterr().err


@pytest.mark.parametrize(("n_beats", "said"), [(4, False), (9, True)])
def test_a_prime_is_counted_from_its_first_note_and_a_shorter_one_is_reported(
    tmp_path, checkpoint, capsys, n_beats, said
):
    (tmp_path / "late.mid").write_bytes(LATE)
    wanted = [
        "--prime",
        tmp_path / "late.mid",
        "--beats",
        n_beats,
        "--seconds",
        4,
        "--checkpoint",
        checkpoint,
        "--json",
    ]
    assert main(["generate", "--out", str(tmp_path / "new.mid"), *map(str, wanted)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["prime_seconds"] == (2.5 if said else 2.0)
    assert (f"shorter than {n_beats} beats; the prime is 2.5 s long" in err) == said
    assert read_midi(tmp_path / "new.mid").active[0, 60 - 21]


def test_a_generated_piece_keeps_the_tempo_and_metre_of_its_prime(run, tmp_path, checkpoint):
    events = [metre(0, 3, 2), tempo(0, 666_667), *scale(24, 240)]
    (tmp_path / "waltz.mid").write_bytes(midi_bytes([events]))
    wanted = ["--prime", tmp_path / "waltz.mid", "--seconds", 12, "--checkpoint", checkpoint]
    run("generate", "--out", tmp_path / "new.mid", *wanted)
    told = [event for event in mido.MidiFile(tmp_path / "new.mid") if event.type in ("set_tempo", "time_signature")]
    assert {event.tempo for event in told if event.type == "set_tempo"} == {666_667}
    assert {(event.numerator, event.denominator) for event in told if event.type == "time_signature"} == {(3, 4)}


def test_the_bars_of_a_generated_piece_follow_its_beats_where_the_prime_slows_down(run, tmp_path, checkpoint):
    slower = [tempo(480 * beat, 500_000 + 40_000 * beat) for beat in range(9)]
    (tmp_path / "slower.mid").write_bytes(midi_bytes([[metre(0, 3, 2), *slower, *scale(24, 240)]]))
    out = tmp_path / "new.mid"
    run("generate", "--out", out, "--prime", tmp_path / "slower.mid", "--seconds", 12, "--checkpoint", checkpoint)
    beats = read_performance(out).to_roll().beats
    tempos = [event.tempo for event in mido.MidiFile(out) if event.type == "set_tempo"]
    assert len(set(tempos)) > 9 and np.diff(beats[9:, 0]).std() > 0.005


def test_train_accepts_several_folders(run, folder, tmp_path):
    (tmp_path / "more").mkdir()
    for index in range(4):
        name = tmp_path / "more" / f"other {index}.mid"
        name.write_bytes(midi_bytes([note(0, 480 * (3 + index), 60 + index) + note(0, 900, 50)]))
    said = run("train", folder, tmp_path / "more", "--out", tmp_path / "run", *TINY, 1)
    one = run("train", folder, "--out", tmp_path / "one", *TINY, 1)
    n_pieces = [load_checkpoint(each["checkpoint"]).record["data"]["n_pieces"] for each in (said, one)]
    assert n_pieces[0] > n_pieces[1] > 0


def test_a_finished_run_is_trained_for_more_epochs_and_the_message_says_how(folder, tmp_path, capsys):
    command = ["train", str(folder), "--out", str(tmp_path / "run"), *TINY]
    assert main([*command, "1"]) == 0
    assert "train more with --resume --n-epochs 2" in capsys.readouterr().err
    assert main([*command, "2", "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2


@pytest.mark.parametrize("name", ["best.safetensors", "latest.safetensors", "previous.safetensors", "log.csv"])
def test_a_folder_with_any_file_of_a_run_is_not_overwritten(folder, tmp_path, name, capsys):
    (tmp_path / name).write_text("precious")
    assert main(["train", str(folder), "--out", str(tmp_path), *TINY, "1"]) == 2
    assert f"holds a run already ({name})" in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_an_output_never_overwrites_an_input(folder, tmp_path, capsys, link):
    content = (folder / "piece 1.mid").read_bytes()
    (tmp_path / "x.mid").write_bytes(content)
    out = tmp_path / ("y.mid" if link else "x.mid")
    if link:
        getattr(out, link)(tmp_path / "x.mid")
    for command in (["sample", tmp_path / "x.mid"], ["generate", "--prime", tmp_path / "x.mid", "--seconds", 5]):
        assert main([*map(str, command), "--out", str(out)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert out.read_bytes() == (tmp_path / "x.mid").read_bytes() == content
    (tmp_path / "roll.npz").write_bytes(content)
    assert main(["sample", str(tmp_path / "roll.npz"), "--out", str(tmp_path / "roll.npz")]) == 2
    assert (tmp_path / "roll.npz").read_bytes() == content


def test_progress_bars_are_quiet_where_there_is_no_terminal(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *TINY, "1"]) == 0
    err = capsys.readouterr().err
    assert "\r" not in err and "%|" not in err
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    assert main(["train", str(folder), "--out", str(tmp_path / "2"), *TINY, "2"]) == 0
    lines = [line for line in capsys.readouterr().err.split("\n") if "%|" in line]
    assert len(lines) > 2 and not any("\r" in line for line in lines)


@pytest.mark.parametrize("terminal", [False, True])
def test_long_work_shows_its_progress_in_a_terminal(folder, checkpoint, tiny, tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    assert main(["evaluate", str(checkpoint), str(folder), "--split", "validation"]) == 0
    assert main(["generate", "--out", str(tmp_path / "a.mid"), "--checkpoint", str(tiny), "--seconds", "6"]) == 0
    said = capsys.readouterr().err
    assert [word in said for word in ("scoring:", "composing:", "%|")] == 3 * [terminal]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_file_names_that_are_not_utf_8(run, folder, checkpoint, tmp_path, monkeypatch, capsys):
    name = os.fsdecode(b"caf\xe9 \xff.mid")
    for index in range(4):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{index} {name}").write_bytes((folder / f"piece {index + 4}.mid").read_bytes())
    (tmp_path / "data" / f"broken {name}").write_text("hello")
    said = run("prepare", tmp_path / "data")
    assert (said["n_sampled"], said["skipped"][0]["file"]) == (4, f"broken {name}")
    prime = tmp_path / "data" / f"0 {name}"
    assert run("sample", prime, "--out", tmp_path / f"{name}.npz")["n_notes"]
    files = ["--out", tmp_path / f"new {name}", "--png", tmp_path / f"{name}.png"]
    assert run("generate", "--prime", prime, "--seconds", 5, "--checkpoint", checkpoint, *files)["n_notes"]
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
    run("train", tmp_path / "data", "--out", tmp_path / f"run {name}", *TINY, 1)
    beats = np.array([[0.5, 0], [1.25, 1]])
    monkeypatch.setattr("musicgen.evaluation.beat_tracking.track_beats", lambda *rolls: beats)
    assert run("beats", tmp_path / "data", "--checkpoint", checkpoint)["n_found"] == 4
    np.testing.assert_array_equal(load_corpus(tmp_path / "data")[0].beats, beats)
    assert main(["sample", str(tmp_path / "data" / f"broken {name}"), "--out", str(tmp_path / "a.npz")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].isprintable()


def test_without_standard_streams_a_command_runs_as_usual(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["sample", str(folder / "piece 1.mid"), "--out", str(tmp_path / "a.npz"), "--json"]) == 0
    assert main(["sample", "missing.mid", "--out", str(tmp_path / "a.npz")]) == 2
    assert (tmp_path / "a.npz").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no such device")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_stream_that_cannot_be_written_to_ends_in_no_traceback(folder, tmp_path, stream):
    command = [
        sys.executable,
        "-m",
        "musicgen",
        "sample",
        folder / "piece 1.mid",
        "--out",
        tmp_path / "a.npz",
        "--json",
    ]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full})
    assert (tmp_path / "a.npz").exists()
    if stream == "stdout":
        assert ended.returncode == 2
        assert ended.stderr.splitlines()[-1] == b"musicgen: standard output: [Errno 28] No space left on device"
    else:
        assert ended.returncode == 0 and json.loads(ended.stdout)["n_frames"]


@pytest.mark.parametrize("error", [ImportError("libtorch_cpu.so: cannot open"), MemoryError()])
def test_a_library_that_cannot_be_loaded_gets_one_line(monkeypatch, capsys, error):
    def fail(_command):
        raise error

    monkeypatch.setattr("musicgen.__main__.make_parser", fail)
    assert main(["generate", "--out", "a.mid"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and (str(error) or "not enough memory") in said
