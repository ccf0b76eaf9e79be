"""The command line: from a folder of MIDI files to a new piece, and what it says to bad input."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import soundfile
from raw_midi import midi_bytes

from musicgen.__main__ import COMMANDS, main
from musicgen.checkpoint import load_checkpoint, save_checkpoint
from musicgen.corpora.primes import shipped_prime
from musicgen.midi import read_midi, write_midi
from musicgen.piano_roll import PianoRoll

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


def test_a_finished_run_is_resumed_without_a_change(run, folder, checkpoint):
    before = checkpoint.read_bytes()
    said = run("train", folder, "--out", checkpoint.parent, "--resume", "--composers", "unknown", *TINY, 2)
    assert (said["checkpoint"], said["epochs"]) == (str(checkpoint), 2)
    assert 0 < said["validation_nll"] < 88 * np.log(2)
    assert checkpoint.read_bytes() == before


def test_training_keeps_the_composers_it_tells_apart(checkpoint):
    assert load_checkpoint(checkpoint).model.config.composers == ("unknown",)  # that of a folder without a table


def test_training_can_start_from_a_checkpoint_and_tells_so(run, folder, checkpoint, tmp_path):
    slowly = ["--start", checkpoint, "--hidden-size", 99, "--learning-rate", 1e-9, "--n-epochs", 1]
    said = run("train", folder, "--out", tmp_path / "run", *slowly)
    before = load_checkpoint(checkpoint)
    best = min(row["validation_nll"] for row in before.record["progress"]["history"])
    assert said["validation_nll"] == pytest.approx(best, rel=1e-5)
    assert load_checkpoint(said["checkpoint"]).record["start"] == before.record


def test_evaluate_scores_the_checkpoint_beside_its_baselines(run, folder, checkpoint):
    said = run("evaluate", checkpoint, folder, "--split", "train")
    assert said["n_frames"] > said["n_pieces"] > 0
    assert 0 < said["markov_nll"] < said["marginal_nll"]
    assert {"nll", "frame_f1", "onset_f1", "changed_nll", "accuracy", "velocity_nll", "n_struck"} <= said.keys()


@pytest.fixture
def mat(tmp_path):
    """Write a small set of the published kind."""
    random, variables = np.random.default_rng(7), {}
    for split, n_pieces in [("traindata", 3), ("validdata", 1), ("testdata", 2)]:
        variables[split] = np.empty((1, n_pieces), object)
        variables[split][0, :] = [(random.random((9 + piece, 88)) < 0.1).astype(np.uint8) for piece in range(n_pieces)]
    scipy.io.savemat(tmp_path / "Small.mat", variables)
    return tmp_path / "Small.mat"


def test_benchmark_scores_a_checkpoint_or_a_model_trained_for_it(run, mat, checkpoint):
    said = run("benchmark", mat, "--checkpoint", checkpoint)
    assert (said["dataset"], said["split"], said["n_pieces"], said["n_steps"]) == ("Small", "test", 2, 8 + 9)
    small = ["--hidden-size", 8, "--attention-size", 4, "--precision", "float32", "--n-epochs", 2]
    trained = run("benchmark", mat, "--train", "--out", mat.parent / "run", "--split", "validation", *small)
    assert (trained["n_pieces"], trained["epochs"]) == (1, 2)
    assert trained["nll"] == pytest.approx(trained["validation_nll"], rel=1e-5)
    assert 0 < trained["accuracy"] < 1 and not any("velocity" in name for name in trained)


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


def test_generate_works_without_a_prime(run, checkpoint, tmp_path):
    wanted = ["--beats", 0, "--seconds", 2, "--seed", 4, "--checkpoint", checkpoint]
    said = run("generate", "--out", tmp_path / "new.mid", *wanted)
    assert (said["seconds"], said["realtime_factor"] > 0) == (2.0, True)
    assert (said["composer"], said["prime"], said["prime_seconds"]) == (None, None, 0)


def test_generate_takes_a_composer_of_the_model_and_every_control(run, checkpoint, tmp_path):
    wanted = ["--beats", 8, "--seconds", 2, "--checkpoint", checkpoint, "--composer", "UNKNOWN", "--style", 2]
    controls = "--temperature 0.9 --release-temperature 0.8 --top-p 0.95 --max-polyphony 9 --seed 4".split()
    said = run("generate", "--out", tmp_path / "new.mid", *wanted, *controls)
    assert (said["seconds"], said["composer"]) == (2.0, "unknown")  # no opening is known of him: out of silence
    assert read_midi(tmp_path / "new.mid").active.sum(axis=1).max() <= 9


def test_a_composer_that_the_model_was_not_told_is_still_a_prime(run, tiny_model, tmp_path):
    save_checkpoint(tmp_path / "small.safetensors", tiny_model(n_pitches=88), {}, {})
    wanted = ["--composer", "Chopin", "--seconds", 5, "--checkpoint", tmp_path / "small.safetensors"]
    said = run("generate", "--out", tmp_path / "new.mid", *wanted)
    assert (said["composer"], said["prime"]) == (None, "Chopin: Étude in A flat major, op. 25 no. 1")
    prime = shipped_prime("Chopin")
    np.testing.assert_array_equal(read_midi(tmp_path / "new.mid").active[: prime.n_frames], prime.active)


def test_download_writes_the_chorales_without_a_network(run, monkeypatch, tmp_path):
    (tmp_path / "pieces.csv").write_text(
        "canonical_composer,canonical_title,split,midi_filename\nJ. S. Bach,A chorale,train,a.mid\n"
    )
    (tmp_path / "a.mid").write_bytes(b"")
    said = run("download", "--chorales", "--out", tmp_path)  # they are there already
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
    "train {folder} --out run --composers unknown,unknown": "twice",
    "train good --out run --output poster": "output",
    "evaluate missing.safetensors good": "missing.safetensors",
    "evaluate text.mid good": "text.mid",
    "generate --out a.mid --temperature 0": "temperature",
    "generate --out a.mid --temperature -1": "temperature",
    "generate --out a.mid --top-p 2": "top_p",
    "generate --out a.mid --checkpoint text.mid": "text.mid",
    "generate --out a.mid --checkpoint small.safetensors": "5 keys",
    "evaluate small.safetensors good": "5 keys",
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
    "train good --out run --start piano.safetensors --composers unknown": "composers of its own",
    "train good --out run --composers Mozart": "no composers that are known",
    "train pair --out run": "three or more",
    "generate --out a.mid --sedd 3": "sedd",
    "generate": "--out",
    "compose": "compose",
    "": "COMMAND",
}


@pytest.mark.parametrize(("line", "named"), BAD.items())
def test_bad_input_is_explained_in_one_line(line, named, folder, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "broken", "lonely", "pair", "good"):
        (tmp_path / name).mkdir()
    for index in range(4):
        (tmp_path / "good" / f"{index}.mid").write_bytes((folder / "piece 1.mid").read_bytes())
    for name in ("good.mid", "lonely/a.mid", "pair/a.mid", "pair/b.mid"):
        (tmp_path / name).write_bytes((folder / "piece 1.mid").read_bytes())
    for name in ("text.mid", "broken/text.mid"):
        (tmp_path / name).write_text("hello")
    sizes = {"small": {}, "plain": {"n_pitches": 88}, "piano": {"n_pitches": 88, "composers": ("Liszt", "Bach")}}
    for name, size in sizes.items():
        save_checkpoint(f"{name}.safetensors", tiny_model(pitch_reach=2, **size), {}, {})
    (tmp_path / "silent.mid").write_bytes(midi_bytes([[]]))
    try:
        code = main(line.format(folder=folder).split())
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
    assert COMMANDS[command][0].__doc__ in capsys.readouterr().out


def test_commands_that_need_no_model_do_not_wait_for_torch():
    lines = "import sys, musicgen.__main__ as m; m.make_parser('prepare'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True).stdout == "False\n"
