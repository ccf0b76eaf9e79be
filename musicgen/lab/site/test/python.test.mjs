// What is here once more as in Python gives the same numbers: ../python.json has those of Python.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { beatFeatures } from "../src/beats.js";

const python = JSON.parse(readFileSync(new URL("../python.json", import.meta.url)));

test("the features of beats", () => {
  python.beatFeatures.forEach((expected, frame) => {
    const found = beatFeatures(python.beats, frame / 20);
    assert.equal(found.length, expected.length);
    expected.forEach((value, index) => assert.ok(Math.abs(found[index] - value) < 1e-4, `frame ${frame}, ${index}`));
  });
});
