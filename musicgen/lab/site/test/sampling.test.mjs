import assert from "node:assert/strict";
import { test } from "node:test";
import { continueBeats, decide, drawVelocity, onsetGain, randomNumbers, sigmoid } from "../src/sampling.js";

test("a seed gives the same uniform numbers, another one others", () => {
  const draw = (seed) => Array.from({ length: 2000 }, randomNumbers(seed));
  assert.deepEqual(draw(3), draw(3));
  assert.notDeepEqual(draw(3), draw(4));
  const mean = draw(5).reduce((sum, x) => sum + x, 0) / 2000;
  assert.ok(Math.abs(mean - 0.5) < 0.03 && draw(5).every((x) => x >= 0 && x < 1));
});

test("a temperature changes which pitches start, and not how many", () => {
  const [logits, active] = [[-2, -4, 3, -1], [0, 0, 1, 0]];
  const gain = onsetGain(logits, active, 0.5);
  const onsets = [0, 1, 3].map((column) => sigmoid(logits[column]));
  const sharpened = onsets.map((p) => p ** 2 * gain);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  assert.ok(Math.abs(sum(sharpened) - sum(onsets)) < 1e-6);
  assert.ok(sharpened[2] > onsets[2] && sharpened[1] < onsets[1]);
  assert.deepEqual([...decide(logits, active, [0.99, 0, 0.9, 0.2], 1, 1)], [0, 1, 1, 1]);
});

test("velocities are drawn from their bins, and are never 0", () => {
  const certain = (bin) => Array.from({ length: 32 }, (_, index) => (index === bin ? 50 : 0));
  assert.deepEqual([0, 0.5, 0.99].map((u) => drawVelocity(certain(0), 0.5, u)), [1, 2, 3]);
  assert.deepEqual([0, 0.5, 0.99].map((u) => drawVelocity(certain(31), 0.5, u)), [124, 126, 127]);
});

test("beats go on at their median tempo with their bars", () => {
  const beats = continueBeats([[0.1, 0], [0.7, 1], [1.3, 0], [1.9, 0], [2.5, 1]], 3, 5, 0);
  assert.deepEqual(beats.slice(5).map(([time, isDownbeat]) => [Number(time.toFixed(3)), isDownbeat]),
    [[3.1, 0], [3.7, 0], [4.3, 1], [4.9, 0], [5.5, 0], [6.1, 1]]);
  assert.equal(continueBeats(null, 3, 5, 0), null);
  assert.deepEqual(continueBeats(null, 3, 4, 120).slice(0, 3), [[3, 1], [3.5, 0], [4, 0]]);
});
