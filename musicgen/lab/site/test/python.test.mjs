// What is here once more as in Python gives the same numbers: ../python.json has those of Python.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { correctHome, homeFeatures } from "../src/home.js";
import { N_PITCHES, Piece } from "../src/music.js";
import { RepetitionPenalty } from "../src/repetition.js";
import { beatFeatures } from "../src/sampling.js";

const python = JSON.parse(readFileSync(new URL("../python.json", import.meta.url)));

function assertClose(found, expected, what) {
  assert.equal(found.length, expected.length);
  found.forEach((value, index) => assert.ok(Math.abs(value - expected[index]) < 1e-4, `${what} ${index}: ${value}, not ${expected[index]}`));
}

test("the profile of an opening", () => {
  const piece = new Piece();
  python.velocity.forEach((frame, index) => piece.add(frame, python.pedal[index]));
  assertClose([...homeFeatures(piece)], python.home, "home");
  assertClose([...homeFeatures(piece, 1.7)], python.smootherHome, "smoother home");
});

test("music that drifts is pulled back", () => {
  assert.deepEqual(correctHome([1, 2, 1], [4, 0, 1]), [-5, 6, 1]);
  assert.deepEqual(correctHome([1, 2, 1], [0, 0, 0]), [1, 2, 1]); // silence is not known
});

test("the features of beats", () => {
  python.beatFeatures.forEach((expected, frame) => assertClose([...beatFeatures(python.beats, frame / 20)], expected, `frame ${frame}, feature`));
});

test("the penalty of a figure that repeats, and then does not", () => {
  const repetition = new RepetitionPenalty();
  python.figure.forEach((struck, frame) => {
    const found = repetition.penalty();
    const expected = new Float32Array(N_PITCHES);
    python.penalties[frame].forEach(([column, value]) => { expected[column] = value; });
    assertClose([...found], [...expected], `frame ${frame}, column`);
    repetition.append(struck);
  });
});
