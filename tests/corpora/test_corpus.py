"""Which pieces a folder holds, and in which split."""

import csv
import io
import json
import os
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest

from musicgen.corpora import chorales as corpus
from musicgen.corpora import folder as folder_module
from musicgen.corpora.chorales import make_chorales
from musicgen.corpora.folder import (
    CorpusError,
    Piece,
    load_corpus,
    match_composer,
    stays_inside,
)
from musicgen.midi import read_performance, write_midi
from musicgen.piano_roll import PianoRoll
from musicgen.utils.files import atomic_folder

HEADER = "canonical_composer,canonical_title,split,year,midi_filename,audio_filename,duration\n"
CHOPIN = 'Frédéric Chopin,"Nocturne, Op. 9 No. 2",validation,2008,2008/nocturne.midi,,271.5\n'
LISZT = "Franz Liszt,La Campanella,test,2004,2004/liszt.midi,2004/liszt.wav,290.0\n"


def make_files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"MThd" + os.fsencode(name))


def splits_of(folder):
    return {piece.name: piece.split for piece in load_corpus(folder)}


@pytest.mark.parametrize("table", ["maestro-v2.0.0.csv", "maestro-v3.0.0.csv", "pieces.csv"])
def test_a_table_gives_composers_titles_and_splits(tmp_path, table):
    (tmp_path / table).write_text(HEADER + CHOPIN + LISZT, encoding="utf-8")
    make_files(tmp_path, "2008/nocturne.midi", "2004/liszt.midi", "not-listed.mid")
    nocturne = tmp_path / "2008" / "nocturne.midi"
    assert load_corpus(str(tmp_path)) == [
        Piece(tmp_path / "2004" / "liszt.midi", "2004/liszt.midi", "Franz Liszt", "La Campanella", "test"),
        Piece(nocturne, "2008/nocturne.midi", "Frédéric Chopin", "Nocturne, Op. 9 No. 2", "validation"),
    ]


def test_the_byte_order_mark_of_a_spreadsheet_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "pieces.csv").write_text(HEADER + CHOPIN, encoding="utf-8-sig")
    make_files(tmp_path, "2008/nocturne.midi")
    assert [piece.composer for piece in load_corpus(tmp_path)] == ["Frédéric Chopin"]


def test_a_part_of_maestro_is_a_corpus(tmp_path):
    (tmp_path / "maestro-v2.0.0.csv").write_text(HEADER + CHOPIN + LISZT, encoding="utf-8")
    make_files(tmp_path, "2004/liszt.midi")
    assert splits_of(tmp_path) == {"2004/liszt.midi": "test"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (b"", r"pieces\.csv.*lacks the column canonical_composer, canonical_title, midi_filename, split"),
        (b"split,canonical_composer,midi_filename\n", "lacks the column canonical_title"),
        ((HEADER + LISZT).encode(), "lists 1 MIDI files, and none"),
        ((HEADER + LISZT + LISZT.replace("test", "dev")).encode(), "line 3: split 'dev' .* train, validation, test"),
        ((HEADER + LISZT.replace("2004/l", "../l")).encode(), r"line 2: midi_filename '\.\./liszt\.midi'"),
        ((HEADER + "Franz Liszt,La Campanella,test\n").encode(), "line 2: midi_filename ''"),
        ((HEADER + CHOPIN).encode("latin-1"), "cannot be read as a table"),
    ],
)
def test_a_wrong_table_is_refused_with_the_place_and_the_value(tmp_path, table, message):
    (tmp_path / "pieces.csv").write_bytes(table)
    with pytest.raises(CorpusError, match=message):
        load_corpus(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "/a.mid", "a/../../b.mid", "C:a.mid", r"\a.mid", r"a\..\b", "//h/a"])
def test_a_path_that_leaves_its_folder_on_any_system(name):
    assert not stays_inside(name)


@pytest.mark.parametrize("name", ["a.mid", "2004/a b.midi", "..a/b...mid", "./a.mid"])
def test_a_path_that_stays_in_its_folder(name):
    assert stays_inside(name)


def test_a_folder_without_a_table_gives_its_midi_files_by_name(tmp_path):
    make_files(tmp_path, "b.MID", "deep/er/a.Midi", "notes.txt", "mid", "folder.mid/c.mid")
    pieces = load_corpus(tmp_path)
    assert [piece.name for piece in pieces] == ["b.MID", "deep/er/a.Midi", "folder.mid/c.mid"]
    assert [piece.title for piece in pieces] == ["b", "a", "c"]
    assert {piece.composer for piece in pieces} == {"unknown"}
    assert all(piece.path == tmp_path / piece.name for piece in pieces)


def test_a_link_back_to_the_folder_is_not_followed(tmp_path):
    make_files(tmp_path, "a.mid")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "loop.mid").symlink_to("loop.mid")
    assert splits_of(tmp_path) == {"a.mid": "train", "loop.mid": "train"}  # the sampler will name what is no file


@pytest.mark.parametrize("n_files", [1, 2, 3, 4, 7, 30])
def test_no_split_stays_empty_where_there_are_three_files(tmp_path, n_files):
    make_files(tmp_path, *(f"{number}.mid" for number in range(n_files)))
    assert len(set(splits_of(tmp_path).values())) == (3 if n_files >= 3 else 1)
    assert "train" in splits_of(tmp_path).values()


def test_a_name_keeps_its_split_when_other_files_come(tmp_path):
    make_files(tmp_path, *(f"{number}.mid" for number in range(200)))
    before = splits_of(tmp_path)
    make_files(tmp_path, *(f"more/{number}.mid" for number in range(200)))
    assert before.items() <= splits_of(tmp_path).items()
    shares = Counter(before.values())
    assert 140 <= shares["train"] <= 180 and shares["validation"] >= 10 and shares["test"] >= 10


def test_splits_are_the_same_on_every_machine(tmp_path):
    make_files(tmp_path, "a.mid", "b.mid", "c.mid", "d.mid")
    assert splits_of(tmp_path) == {"a.mid": "validation", "b.mid": "test", "c.mid": "train", "d.mid": "train"}


@pytest.mark.parametrize("name", ["Frédéric Chopin", "chopin", " CHOPIN "])
def test_a_composer_is_found_by_name_or_surname(name):
    assert match_composer(name, {"Franz Liszt", "Frédéric Chopin", "Chopin / Liszt", "unknown"}) == "Frédéric Chopin"


def test_no_composer_or_more_than_one_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="'Salieri' matches no composer here; there are A B, C D$"):
        match_composer("Salieri", ["C D", "A B"])
    with pytest.raises(ValueError, match="more than one composer here; there are Clara Schumann, Robert Schumann$"):
        match_composer("Schumann", ["Robert Schumann", "Franz Liszt", "Clara Schumann"])
    with pytest.raises(ValueError, match="no composer"):
        match_composer(" ", ["Chopin / Liszt"])


def test_what_is_no_corpus_is_refused(tmp_path):
    make_files(tmp_path, "piece.mid", "empty/readme.txt")
    for folder, message in [("gone", "not a folder"), ("piece.mid", "not a folder"), ("empty", "holds no MIDI file")]:
        with pytest.raises(CorpusError, match=f"{folder}': {message}"):
            load_corpus(tmp_path / folder)


def test_a_folder_of_corpora_is_refused_since_their_splits_would_be_lost(tmp_path):
    make_files(tmp_path, "maestro-v2.0.0/maestro-v2.0.0.csv", "chorales/pieces.csv", "piece.mid")
    with pytest.raises(CorpusError, match="name that one: chorales, maestro-v2.0.0"):
        load_corpus(tmp_path)


def test_two_tables_are_refused(tmp_path):
    make_files(tmp_path, "pieces.csv", "maestro-v2.0.0.csv")
    with pytest.raises(CorpusError, match=r"more than one table: maestro-v2\.0\.0\.csv, pieces\.csv"):
        load_corpus(tmp_path)


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_folder_appears_whole_or_not_at_all(tmp_path, error):
    with pytest.raises(error), atomic_folder(tmp_path / "new" / "folder") as temporary:
        make_files(temporary, "half")
        raise error
    assert os.listdir(tmp_path / "new") == []
    with atomic_folder(tmp_path / "new" / "folder") as temporary:
        make_files(temporary, "a", "b/c")
        assert not (tmp_path / "new" / "folder").exists()
    assert os.listdir(tmp_path / "new") == ["folder"]
    assert sorted(os.listdir(tmp_path / "new" / "folder")) == ["a", "b"]


WORKS = ["bwv1.6", "bwv188.6", "bwv269", "bwv299", "bwv36.4-2", "bwv36.8-2"]


@pytest.fixture(scope="module")
def chorales(tmp_path_factory):
    """Make the chorales from these works and one file that is no score; the folder, and what was said."""
    folder = tmp_path_factory.mktemp("corpus")
    broken = folder / "bwv999.xml"
    broken.write_text("<html>not a score</html>")
    scores = [path for path in corpus._find_scores() if path.stem in WORKS]
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as said:
        patch.setattr(corpus, "_find_scores", lambda: [broken, *scores])
        return make_chorales(folder / "chorales", progress=False), said.getvalue()


def notes_in_quarters(path):
    performance = read_performance(path)
    per_quarter = performance.tempo_map.ticks_per_beat
    return [(int(n["pitch"]), n["start_tick"] / per_quarter, n["end_tick"] / per_quarter) for n in performance.notes]


def test_the_works_in_four_parts_become_chorales_with_titles(chorales):
    pieces = load_corpus(chorales[0])
    assert [piece.title for piece in pieces] == [
        "Chorale, BWV 188.6",
        "Aus meines Herzens Grunde, BWV 269",
        "Dir, dir, Jehova, will ich singen, BWV 299",
        "Wie schön leuchtet der Morgenstern, BWV 36.4-2",
        "Nun komm, der Heiden Heiland, BWV 36.8-2",
    ]
    assert {piece.composer for piece in pieces} == {"Johann Sebastian Bach"}


def test_a_score_that_cannot_be_read_is_named_and_left_out(chorales):
    assert chorales[1].startswith("bwv999 is left out: ")
    assert chorales[1].count("\n") == 1


def test_chorales_of_one_cantata_share_its_split(chorales):
    assert splits_of(chorales[0]) == {
        "bwv188.6.mid": "train",
        "bwv269.mid": "validation",
        "bwv299.mid": "train",
        "bwv36.4-2.mid": "test",
        "bwv36.8-2.mid": "test",  # its own name would put it in train
    }


def test_a_chorale_has_the_notes_of_its_four_voices_as_notated(chorales):
    opening = [note for note in notes_in_quarters(chorales[0] / "bwv269.mid") if note[1] < 3]
    soprano = [(67, 0, 1), (67, 1, 3)]
    alto = [(62, 0, 1), (62, 1, 2), (64, 2, 3)]
    tenor = [(59, 0, 1), (59, 1, 2), (60, 2, 2.5), (59, 2.5, 3)]
    bass = [(43, 0, 1), (55, 1, 2), (52, 2, 3)]
    assert sorted(opening) == sorted(soprano + alto + tenor + bass)


def test_the_rests_of_a_chorale_stay(chorales):
    rest = [(start, end) for _, start, end in notes_in_quarters(chorales[0] / "bwv188.6.mid") if start < 8 and end > 7]
    assert rest == []


def test_grace_notes_and_repeats_are_left_out(chorales):
    notes = notes_in_quarters(chorales[0] / "bwv299.mid")  # 48 quarters with two repeats and two grace notes
    assert max(end for _, _, end in notes) == 48
    assert min(end - start for _, start, end in notes) == 0.5
    assert sum(read_performance(chorales[0] / "bwv299.mid").dropped.values()) == 0


def test_the_table_tells_the_length_at_75_quarters_a_minute(chorales):
    with (chorales[0] / "pieces.csv").open(encoding="utf-8", newline="") as stream:
        durations = {row["midi_filename"]: float(row["duration"]) for row in csv.DictReader(stream)}
    for name, duration in durations.items():
        assert duration == pytest.approx(read_performance(chorales[0] / name).to_roll(1000).duration_seconds)
    assert durations["bwv299.mid"] == 48 / 75 * 60


def test_chorales_are_made_once(chorales, monkeypatch):
    monkeypatch.setattr("musicgen.corpora.chorales.atomic_folder", None)
    assert make_chorales(str(chorales[0])) == chorales[0]


def test_chorales_do_not_mix_with_other_files(tmp_path):
    make_files(tmp_path, "mine.mid")
    with pytest.raises(CorpusError, match="name a folder that does not exist yet"):
        make_chorales(tmp_path)
    assert os.listdir(tmp_path) == ["mine.mid"]


def test_missing_files_are_counted_and_named(tmp_path):
    (tmp_path / "pieces.csv").write_text(
        "canonical_composer,canonical_title,split,midi_filename\n"
        + "".join(f"Bach,Piece,train,{name}.mid\n" for name in "abcdef"),
        "utf-8",
    )
    make_files(tmp_path, "b.mid")
    corpus = load_corpus(tmp_path)
    assert [piece.name for piece in corpus] == ["b.mid"]
    assert corpus.missing == ["a.mid", "c.mid", "d.mid", "e.mid", "f.mid"]
    assert corpus.describe_missing() == "5 files of the table are missing: a.mid, c.mid, d.mid, ..."


def table_of(folder, rows):
    rows = "".join(f"Bach,Piece,{split},{name}\n" for name, split in rows)
    (folder / "pieces.csv").write_text(f"canonical_composer,canonical_title,split,midi_filename\n{rows}", "utf-8")


def test_names_match_in_any_normalisation_and_with_any_slash(tmp_path):
    make_files(tmp_path, "a/E\u0301tude.mid")
    table_of(tmp_path, [("a\\\u00c9tude.mid", "train")])
    assert [piece.path.name for piece in load_corpus(tmp_path)] == ["E\u0301tude.mid"]


@pytest.mark.parametrize("spelling", ["a/b.mid", "./a/b.mid", r"a\b.mid"])
def test_a_file_in_two_splits_is_an_error(tmp_path, spelling):
    make_files(tmp_path, "a/b.mid")
    table_of(tmp_path, [("a/b.mid", "train"), (spelling, "test")])
    with pytest.raises(CorpusError, match="b.mid' is in two splits"):
        load_corpus(tmp_path)


def test_maestros_json_is_used_where_there_is_no_csv(tmp_path):
    make_files(tmp_path, "a.mid", "b.mid")
    columns = {"canonical_composer": ["Bach", "Liszt"], "canonical_title": ["X", "Y"], "split": ["train", "test"]}
    columns |= {"midi_filename": ["a.mid", "b.mid"], "duration": [1.5, 2.5]}
    content = {name: {str(i): value for i, value in enumerate(values)} for name, values in columns.items()}
    (tmp_path / "maestro-v2.0.0.json").write_text(json.dumps(content), "utf-8")
    assert [(p.composer, p.title, p.split) for p in load_corpus(tmp_path)] == [
        ("Bach", "X", "train"),
        ("Liszt", "Y", "test"),
    ]


def test_linked_folders_are_followed_once_and_junk_is_left_out(tmp_path):
    make_files(tmp_path / "corpus", "a.mid", "._a.mid", "__MACOSX/b.mid", "sub/c.kar", "sub/d.mid.gz", "e.smf", "f.rmi")
    make_files(tmp_path / "elsewhere", "g.mid")
    (tmp_path / "corpus" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "corpus", target_is_directory=True)
    names = [piece.name for piece in load_corpus(tmp_path / "corpus")]
    assert names == ["a.mid", "e.smf", "f.rmi", "link/g.mid", "sub/c.kar", "sub/d.mid.gz"]


def test_splits_are_assigned_to_midi_files_only(tmp_path):
    make_files(tmp_path, "a.mid", "b.mid", "c.mid")
    for number in range(30):
        (tmp_path / f"junk{number}.mid").write_text(f"<html>{number}")
    splits = splits_of(tmp_path)
    assert {splits[f"{name}.mid"] for name in "abc"} == {"train", "validation", "test"}


def test_copies_and_versions_of_one_piece_share_a_split(tmp_path):
    make_files(
        tmp_path, *(f"{n:03}/{n:03}.mid" for n in range(40)), *(f"{n:03}/versions/{n:03}-v1.mid" for n in range(40))
    )
    for n in range(0, 40, 4):
        (tmp_path / f"copy of {n}.mid").write_bytes((tmp_path / f"{n:03}" / f"{n:03}.mid").read_bytes())
    splits = splits_of(tmp_path)
    assert set(splits.values()) == {"train", "validation", "test"}
    for n in range(40):
        assert splits[f"{n:03}/{n:03}.mid"] == splits[f"{n:03}/versions/{n:03}-v1.mid"]
        assert splits.get(f"copy of {n}.mid", splits[f"{n:03}/{n:03}.mid"]) == splits[f"{n:03}/{n:03}.mid"]


def test_several_folders_are_one_corpus(tmp_path):
    make_files(tmp_path / "one", "a.mid")
    make_files(tmp_path / "two", "a.mid", "b.mid")
    assert [piece.name for piece in load_corpus(tmp_path / "one", tmp_path / "two")] == [
        "one/a.mid",
        "two/a.mid",
        "two/b.mid",
    ]


def test_beats_are_read_and_a_broken_file_of_beats_is_named(tmp_path):
    make_files(tmp_path, "a.mid", "b.mid")
    np.savez(tmp_path / "beats.npz", **{"a.mid": np.array([[0.5, 1], [0.5, 0], [0.4, 0], [1.25, 0]], np.float32)})
    first, second = load_corpus(tmp_path)
    assert first.beats.tolist() == [[0.5, 1], [1.25, 0]] and second.beats is None
    (tmp_path / "beats.npz").write_bytes(b"PK\3\4 broken")
    with pytest.raises(CorpusError, match="beats.npz': cannot be read as beats"):
        load_corpus(tmp_path)


def make_pieces(folder, *names, pitch=60):
    """Write files of one note each, all different."""
    for number, name in enumerate(names):
        velocity = np.zeros((7, 88), np.uint8)
        velocity[2:5, pitch - 21 + number % 40] = 64
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_midi(PianoRoll(velocity), folder / name)


@pytest.mark.parametrize("n_broken", [1, 3, 30])
def test_no_split_stays_empty_because_its_files_are_broken(tmp_path, n_broken):
    make_pieces(tmp_path, "a.mid", "b.mid", "c.mid")
    make_files(tmp_path, *(f"broken{number}.mid" for number in range(n_broken)))  # they begin like MIDI files
    splits = splits_of(tmp_path)
    assert {splits[f"{name}.mid"] for name in "abc"} == {"train", "validation", "test"}


def test_few_files_are_read_where_no_split_is_broken(tmp_path, monkeypatch):
    make_pieces(tmp_path, *(f"{number}.mid" for number in range(60)))
    read = []
    monkeypatch.setattr(folder_module, "read_performance", lambda path: read.append(path))
    load_corpus(tmp_path)
    assert 1 <= len(read) <= 3


def test_folders_of_one_name_stay_apart_and_a_folder_counts_once(tmp_path):
    make_pieces(tmp_path / "one" / "midi", "a.mid", pitch=30)
    make_pieces(tmp_path / "two" / "midi", "a.mid", "b.mid", pitch=50)
    corpus = load_corpus(tmp_path / "one" / "midi", tmp_path / "two" / "midi", tmp_path / "one" / ".." / "one" / "midi")
    assert [piece.name for piece in corpus] == ["midi-1/a.mid", "midi-2/a.mid", "midi-2/b.mid"]


def test_a_copy_in_another_folder_gets_the_split_of_the_first(tmp_path):
    make_pieces(tmp_path / "listed", "a.mid", "b.mid")
    table_of(tmp_path / "listed", [("a.mid", "test"), ("b.mid", "validation")])
    make_pieces(tmp_path / "mine", "x.mid", "y.mid")  # the same contents, all for training
    corpus = load_corpus(tmp_path / "listed", tmp_path / "mine")
    assert {piece.name: piece.split for piece in corpus} == {
        "listed/a.mid": "test",
        "listed/b.mid": "validation",
        "mine/x.mid": "test",
        "mine/y.mid": "validation",
    }


def test_copies_in_a_table_share_the_split_of_the_first(tmp_path):
    make_pieces(tmp_path, "a.mid", "b.mid", "c.mid")
    (tmp_path / "d.mid").write_bytes((tmp_path / "a.mid").read_bytes())
    table_of(tmp_path, [("a.mid", "test"), ("b.mid", "train"), ("c.mid", "train"), ("d.mid", "train")])
    assert splits_of(tmp_path) == {"a.mid": "test", "b.mid": "train", "c.mid": "train", "d.mid": "test"}


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    make_files(tmp_path, "a.mid", "closed/b.mid")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    corpus = load_corpus(tmp_path)
    assert [piece.name for piece in corpus] == ["a.mid"]
    assert corpus.describe_missing() == "1 folder cannot be opened: closed"


@pytest.mark.parametrize("content", ['[{"midi_filename": "a.mid"}]', "3", "[" * 100_000])
def test_a_json_of_another_kind_is_refused_in_plain_words(tmp_path, content):
    (tmp_path / "maestro-v2.0.0.json").write_text(content)
    with pytest.raises(CorpusError, match="not a dict of columns") as error:
        load_corpus(tmp_path)
    assert "indices" not in str(error.value) and "object" not in str(error.value)


def test_beats_of_a_folder_ascend_and_are_found_under_any_spelling(tmp_path):
    make_pieces(tmp_path, "E\u0301tude.mid", "b.mid")
    times = [[0.5, 1], [1.25, 0], [1.25, 1], [np.nan, 0], [1.0, 0], [np.inf, 0], [2.0, 0.9]]
    np.savez(tmp_path / "beats.npz", **{"\u00c9tude.mid": np.float32(times), "gone.mid": np.zeros((0, 2))})
    etude, b = sorted(load_corpus(tmp_path), key=lambda piece: piece.name != "E\u0301tude.mid")
    np.testing.assert_array_equal(etude.beats, [[0.5, 1], [1.25, 0], [2.0, 1]])
    assert b.beats is None
    PianoRoll(np.zeros((3, 88), np.uint8), beats=etude.beats)  # a roll accepts them


@pytest.mark.parametrize("beats", [np.zeros(6), np.zeros((2, 3)), np.array([["a", "b"]])])
def test_wrong_beats_are_an_error_that_names_the_file(tmp_path, beats):
    make_pieces(tmp_path, "a.mid")
    np.savez(tmp_path / "beats.npz", **{"a.mid": beats})
    with pytest.raises(CorpusError, match=r"beats\.npz': cannot be read as beats"):
        load_corpus(tmp_path)


def test_broken_beats_are_an_error_that_names_the_file(tmp_path):
    make_pieces(tmp_path, "a.mid")
    (tmp_path / "beats.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(CorpusError, match=r"beats\.npz': cannot be read as beats"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("work", "first_bars"),
    [("bwv269", [0, 1, 4]), ("bwv188.6", [0, 1, 5])],  # 3/4 and 4/4, each after an upbeat of one quarter
)
def test_a_chorale_has_the_bars_of_its_score(chorales, work, first_bars):
    beats = read_performance(chorales[0] / f"{work}.mid").to_roll().beats
    assert np.flatnonzero(beats[:, 1])[:3].tolist() == first_bars
    assert np.allclose(np.diff(beats[:, 0]), 0.8)
