import assert from "node:assert/strict";
import { test } from "node:test";
import { continueBeats } from "../src/beats.js";

test("beats go on at their median tempo with their bars", () => {
  const beats = continueBeats([[0.1, 0], [0.7, 1], [1.3, 0], [1.9, 0], [2.5, 1]], 3, 5, 0);
  assert.deepEqual(beats.slice(5).map(([time, isDownbeat]) => [Number(time.toFixed(3)), isDownbeat]),
    [[3.1, 0], [3.7, 0], [4.3, 1], [4.9, 0], [5.5, 0], [6.1, 1]]);
  assert.equal(continueBeats(null, 3, 5, 0), null);
  assert.deepEqual(continueBeats(null, 3, 4, 120).slice(0, 3), [[3, 1], [3.5, 0], [4, 0]]);
});
