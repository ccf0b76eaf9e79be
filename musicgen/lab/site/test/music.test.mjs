// The pure parts of the page: node --test
import assert from "node:assert/strict";
import { test } from "node:test";
import midi from "@tonejs/midi";
import { LOWEST_PITCH, N_PITCHES, frameOf, framesOf, midiBytes, pieceOf, readOpening } from "../src/music.js";

const columnOf = (pitch) => pitch - LOWEST_PITCH;
const at = (frames, frame, pitch) => frames[frame][0][columnOf(pitch)];

function fileOf({ notes, pedal = [], bpm = 120, channel = 0 }) {
  const file = new midi.Midi();
  file.header.setTempo(bpm);
  const track = file.addTrack();
  track.channel = channel;
  notes.forEach(([pitch, velocity, time, duration]) =>
    track.addNote({ midi: pitch, velocity: velocity / 127, time, duration }));
  pedal.forEach(([time, value]) => track.addCC({ number: 64, value: value / 127, time }));
  return file.toArray();
}

test("times are rounded half up to frames", () => {
  assert.deepEqual([0.0249, 0.025, 0.0749, 1].map(frameOf), [0, 1, 1, 20]);
});

test("a note that is struck again ends one frame before, and a pitch sounds as long as any of its notes", () => {
  const sampled = (...notes) => framesOf({ frames: 7, notes, pedal: [] }).map(([velocity]) => velocity[columnOf(60)]);
  assert.deepEqual(sampled([60, 50, 0, 6], [60, 70, 3, 5]), [50, 50, 0, 70, 70, 70, 0]);
  assert.deepEqual(sampled([60, 70, 3, 5], [60, 50, 0, 3], [61, 90, 2, 7]), [50, 50, 0, 70, 70, 0, 0]); // it touches
  const short = sampled([60, 50, 2, 2], [60, 70, 3, 3], [60, 90, 5, 99]);
  assert.deepEqual(short, [0, 0, 50, 70, 0, 90, 90]); // a frame at least
});

test("an opening is counted from the first note, in the tempo of the file", () => {
  const bytes = fileOf({ bpm: 60, notes: [[64, 90, 3, 1.5], [40, 20, 13.5, 0.1]], pedal: [[3, 64], [4.5, 63]] });
  const opening = readOpening(bytes, 2);
  assert.equal(opening.frames, 40); // two beats of a second
  const frames = framesOf(opening);
  assert.deepEqual([29, 30].map((frame) => at(frames, frame, 64)), [90, 0]);
  assert.equal(frames.flatMap(([velocity]) => [...velocity]).filter(Boolean).length, 30);
  assert.deepEqual(frames.slice(28, 32).map(([, pedal]) => pedal), [1, 1, 0, 0]);
});

test("bad input gets one sentence", () => {
  for (const [bytes, reason] of [
    [new TextEncoder().encode("<html>"), /not a MIDI file/],
    [new Uint8Array(20_000_000), /more than 4 MB/],
    [fileOf({ notes: [[40, 90, 0, 1]], channel: 9 }), /no piano notes/],
  ]) assert.throws(() => readOpening(bytes), reason);
});

test("a piece that grew frame by frame comes back from its MIDI file", () => {
  const frames = [[60, 50], [60, 50], [60, 0], [60, 90], [64, 30], [64, 30]];
  const pedal = [0, 1, 1, 0, 0, 1];
  const piece = pieceOf(frames.map(([pitch, velocity], frame) =>
    [Array.from({ length: N_PITCHES }, (_, column) => (column === columnOf(pitch) ? velocity : 0)), pedal[frame]]));
  assert.deepEqual(piece.notes, [[60, 50, 0, 2], [60, 90, 3, 4], [64, 30, 4, 6]]);
  assert.deepEqual(piece.pedal, [[1, 3], [5, 6]]);
  assert.deepEqual(piece.actions(3), { notes: [[60, 90]], pedal: false });
  const back = framesOf(readOpening(midiBytes(piece), 0.6)); // 6 frames at 120 quarter notes per minute
  assert.deepEqual(frames.map(([pitch], frame) => at(back, frame, pitch)), [50, 50, 0, 90, 30, 30]);
  assert.deepEqual(back.map(([, down]) => down), pedal);
});
