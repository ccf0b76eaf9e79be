// Continuations that are composed at once by the exported graphs. Each candidate is a row of all tensors.
import * as ort from "onnxruntime-web/wasm";
import { N_PITCHES } from "./music.js";

const product = (shape) => shape.reduce((size, length) => size * length, 1);
const tensor = (values, ...shape) => new ort.Tensor("float32", Float32Array.from(values), shape);
const filled = (value, ...shape) => tensor(new Float32Array(product(shape)).fill(value), ...shape);
const ARRAYS = { float32: Float32Array, int8: Int8Array };

/** Open the graphs {name: file name} among the loaded files. */
export async function openGraphs(files, names) {
  ort.env.wasm.numThreads = 1; // more would need cross-origin headers
  ort.env.wasm.wasmBinary = files["ort-wasm-simd-threaded.wasm"];
  const graphs = {};
  for (const [name, file] of Object.entries(names)) graphs[name] = await ort.InferenceSession.create(files[file]);
  return graphs;
}

export class Candidates {
  /** Start with one candidate that has heard nothing. `states` is what the graphs remember, `label` the composer. */
  constructor(graphs, states, label, random) {
    Object.assign(this, { graphs, label, random, n: 1, hidden: [[]], prime: null });
    // What the graphs get and give, by name. They are wired together by these names.
    this.tensors = { velocity: filled(0, 1, N_PITCHES), pedal: filled(0, 1) };
    const inputs = Object.values(graphs).flatMap((graph) => graph.inputMetadata);
    for (const { name, shape, value } of states) {
      const { type } = inputs.find((input) => input.name === name);
      this.tensors[name] = new ort.Tensor(type, new ARRAYS[type](product(shape)).fill(value), shape);
    }
    this.remembered = ["velocity", "pedal", "penalty", ...states.map(({ name }) => name)];
  }

  /** Run a graph. Its outputs are kept; those that begin with "next_" replace the inputs. */
  async run(name, inputs) {
    const graph = this.graphs[name];
    const all = { ...this.tensors, ...inputs };
    const found = await graph.run(Object.fromEntries(graph.inputNames.map((input) => [input, all[input]])));
    for (const [output, value] of Object.entries(found)) this.tensors[output.replace(/^next_/, "")] = value;
    return found;
  }

  /** Run a graph with what it drew as the next guess, until that does not change. Each pass settles one more pitch. */
  async settle(name, inputs, guess) {
    this.tensors.gain = filled(0, this.n, N_PITCHES); // the first pass replaces it
    for (let pass = 1; ; pass++) {
      const { drawn } = await this.run(name, { ...inputs, guess });
      if (pass > N_PITCHES || drawn.data.every((value, cell) => value === guess.data[cell])) return drawn;
      guess = drawn;
    }
  }

  /** Go on with copies of the given rows, with all that they remember. */
  select(rows) {
    for (const name of this.remembered) this.tensors[name] = selectRows(this.tensors[name], rows);
    this.hidden = rows.map((row) => [...this.hidden[row]]);
    this.n = rows.length;
  }

  /** Tell the model what the opening was like, and how recent music differs; both are pieces. */
  tellHome(opening, recent) {
    const about = (name, { notes, frames, pedal }) => ({
      [`${name}.notes`]: tensor(notes.flat(), notes.length, 4),
      [`${name}.n_frames`]: tensor([frames]).reshape([]),
      [`${name}.n_pedal`]: tensor([pedal.reduce((sum, [start, end]) => sum + end - start, 0)]).reshape([]),
    });
    const known = recent.notes.length ? recent : opening; // nothing is known of silence
    return this.run("home", { ...about("opening", opening), ...about("recent", known) });
  }

  /** Let the first candidate play a frame [velocities (88), 1 if the pedal is down]. */
  play([velocity, pedal]) {
    return this.sound(tensor(velocity, 1, N_PITCHES), tensor([pedal], 1));
  }

  /** Sound the next frame: velocities (n, 88) and the pedal (n). */
  async sound(velocity, pedal) {
    await this.run("repetition", { velocity, before: this.tensors.velocity });
    Object.assign(this.tensors, { velocity, pedal });
  }

  /** Hear the last frame; `beats` are the features of the next one. */
  async hear(beats) {
    const { n, tensors } = this;
    const { hidden } = await this.run("step", {
      velocity: tensors.velocity.reshape([n, 1, N_PITCHES]),
      pedal: tensors.pedal.reshape([n, 1]),
      beats: selectRows(tensor(beats, 1, 1, beats.length), Array(n).fill(0)),
      composer: new ort.Tensor("int64", new BigInt64Array(n).fill(BigInt(this.label)), [n]),
      home: selectRows(tensors.home, Array(n).fill(0)),
    });
    this.hidden.forEach((frames, row) => frames.push(rowOf(hidden, row)));
  }

  /** Draw the next frame of each candidate, and sound it. */
  async draw(temperature) {
    const { n, tensors: { velocity: before } } = this;
    const uniform = (...shape) => tensor(Array.from({ length: product(shape) }, this.random), ...shape);
    const cells = (values) => tensor(values, n, N_PITCHES);
    const on = await this.settle("draw_pitches", {
      before,
      temperature: tensor([temperature]).reshape([]),
      uniform_pedal: uniform(n),
      uniform: uniform(n, N_PITCHES),
    }, cells(before.data.map((value) => (value ? 1 : 0))));
    const { pedal } = this.tensors;
    const held = cells(before.data.map((value, cell) => value * on.data[cell]));
    const isStruck = on.data.some((value, cell) => value && !before.data[cell]);
    const velocity = isStruck ? await this.settle("draw_velocities", {
      before,
      on,
      uniform: uniform(n, N_PITCHES),
      uniform_in_bin: uniform(n, N_PITCHES),
    }, held) : held;
    await this.sound(velocity, pedal);
  }

  /** The last frame of a candidate as [velocities (88), 1 if the pedal is down]. */
  frameOf(row) {
    return [Uint8Array.from(rowOf(this.tensors.velocity, row)), this.tensors.pedal.data[row]];
  }

  /** Remember the hidden states so far as those of the opening. */
  async judgeOpening() {
    const size = 2 * this.hidden[0][0].length;
    this.prime = (await this.judge(0, filled(0, 1, size), [0, 0, 0])).statistics;
  }

  /** Return the weight of each candidate: how much it sounds like a pianist since the last judgement, and keeps the register.
   *
   * `registers` has for each [the mean pitch of recent music, of the opening, and the seconds since the opening].
   */
  async weights(registers) {
    const weights = [];
    for (let row = 0; row < this.n; row++) {
      const { log_weight: logWeight } = await this.judge(row, this.prime, registers[row]);
      weights.push(Math.exp(logWeight.data[0]));
    }
    return weights;
  }

  judge(row, prime, register) {
    const frames = this.hidden[row].splice(0);
    const hidden = filled(0, frames.length, frames[0].length);
    frames.forEach((values, frame) => hidden.data.set(values, frame * values.length));
    const [recent, opening, seconds] = register.map((value) => tensor([value], 1));
    return this.run("probe", { hidden, prime, recent_pitch: recent, prime_pitch: opening, seconds });
  }
}

/** Draw an index in proportion to its weight, with a uniform random number. */
export function choose(weights, uniform) {
  let left = uniform * weights.reduce((sum, weight) => sum + weight, 0);
  return Math.max(0, weights.findIndex((weight) => (left -= weight) < 0));
}

function rowOf({ data, dims }, row) {
  const size = data.length / dims[0];
  return data.slice(row * size, (row + 1) * size);
}

/** Return a tensor with copies of some rows; a number has none. */
export function selectRows(values, rows) {
  if (!values.dims.length) return values;
  const size = values.data.length / values.dims[0];
  const selected = new values.data.constructor(rows.length * size);
  rows.forEach((row, place) => selected.set(rowOf(values, row), place * size));
  return new ort.Tensor(values.type, selected, [rows.length, ...values.dims.slice(1)]);
}
