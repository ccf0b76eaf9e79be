// What is here once more as in Python gives the same numbers: ../python.json has those of Python.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { beatFeatures } from "../src/beats.js";

const python = JSON.parse(readFileSync(new URL("../python.json", import.meta.url)));

function assertClose(found, expected, what) {
  assert.equal(found.length, expected.length);
  found.forEach((value, index) => assert.ok(Math.abs(value - expected[index]) < 1e-4, `${what} ${index}: ${value}, not ${expected[index]}`));
}

test("the features of beats", () => {
  python.beatFeatures.forEach((expected, frame) => assertClose([...beatFeatures(python.beats, frame / 20)], expected, `frame ${frame}, feature`));
});
