import assert from "node:assert/strict";
import { test } from "node:test";
import { Tensor } from "onnxruntime-web/wasm";
import { choose, selectRows } from "../src/candidates.js";

test("candidates are chosen in proportion to their weights", () => {
  const weights = [0.1, 0, 0.6, 0.3];
  assert.deepEqual([0, 0.09, 0.11, 0.69, 0.71, 0.999].map((uniform) => choose(weights, uniform)), [0, 0, 2, 2, 3, 3]);
  assert.equal(choose(weights.map((weight) => 1e20 * weight), 0.5), 2);
});

test("rows of a tensor are copied, and numbers have none", () => {
  const tensor = new Tensor("float32", Float32Array.from([1, 2, 3, 4, 5, 6]), [3, 1, 2]);
  const { data, dims } = selectRows(tensor, [2, 0, 2, 2]);
  assert.deepEqual([...data], [5, 6, 1, 2, 5, 6, 5, 6]);
  assert.deepEqual([...dims], [4, 1, 2]);
  const number = new Tensor("float32", Float32Array.of(7), []);
  assert.equal(selectRows(number, [0, 0]), number);
});
