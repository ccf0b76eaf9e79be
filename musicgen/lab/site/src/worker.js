// Runs the model frame by frame, away from the page. The page sends {type: "load" | "compose" | "stop"}.
import * as ort from "onnxruntime-web/wasm";
import { correctHome, homeFeatures, profileLike } from "./home.js";
import { FPS, N_PITCHES, framesOf, pieceOf } from "./music.js";
import { RepetitionPenalty } from "./repetition.js";
import { beatFeatures, continueBeats, decide, drawVelocity, onsetGain, randomNumbers, sigmoid } from "./sampling.js";

const PEDAL_TEMPERATURE = 1.1;
const SEGMENT = 40; // frames between two looks at how far the music has drifted
const RECENT = 600; // frames that are looked at, at most, of those after the opening
const FEWEST = 80; // frames that are looked at, at least
let model = null; // its graphs, and what the page knows of them
let run = 0; // the number of the present piece; another number stops it

onmessage = ({ data }) => {
  run++;
  if (data.type === "load") model = load(data);
  if (data.type === "compose") {
    compose(data, run).then(() => postMessage({ type: "done" }), (error) => postMessage({ type: "error", text: error.message }));
  }
};

async function load({ files, site }) {
  ort.env.wasm.numThreads = 1; // more would need cross-origin headers
  ort.env.wasm.wasmBinary = files["ort-wasm-simd-threaded.wasm"];
  const graphs = {};
  for (const [part, name] of Object.entries(site.graphs)) graphs[part] = await ort.InferenceSession.create(files[name]);
  return { ...graphs, composers: site.composers, states: site.states };
}

const ARRAYS = { float32: Float32Array, int8: Int8Array };
const filled = (type, value, shape) => new ort.Tensor(type, new ARRAYS[type](shape.reduce((n, size) => n * size, 1)).fill(value), shape);
const silence = new Uint8Array(N_PITCHES);
const float = (values, ...shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

/** Hear the opening, then draw and send frame after frame, until all are composed or another message arrives. */
async function compose({ opening, settings }, number) {
  const { step, composers, states } = await model;
  const random = randomNumbers(settings.seed);
  const total = opening.frames + settings.frames;
  const beats = continueBeats(opening.beats, opening.frames / FPS, total / FPS, settings.bpm);
  if (beats) postMessage({ type: "beats", beats });
  const composer = new ort.Tensor("int64", [BigInt(composers.indexOf(settings.composer) + 1)], [1]);
  const frames = framesOf(opening);
  const openingPiece = pieceOf(frames);
  const profile = homeFeatures(openingPiece);
  let home = await embed(profile);
  const types = Object.fromEntries(step.inputMetadata.map(({ name, type }) => [name, type]));
  let state = Object.fromEntries(states.map(({ name, shape, value }) => [name, filled(types[name], value, shape)]));
  const repetition = new RepetitionPenalty();
  for (let frame = 0; frame < total - 1 && run === number; frame++) {
    const [velocity, pedal] = frames[frame];
    repetition.append(struckColumns(velocity, frames[frame - 1]?.[0] ?? silence));
    const heard = await step.run({
      velocity: float(velocity, 1, 1, N_PITCHES),
      pedal: float([pedal], 1, 1),
      beats: float(beatFeatures(beats, (frame + 1) / FPS), 1, 1, 15), // of the frame to be predicted
      home,
      composer,
      ...state,
    });
    state = Object.fromEntries(states.map(({ name }) => [name, heard[`next_${name}`]]));
    if (frame + 1 < opening.frames) continue;
    const down = random() < sigmoid(heard.pedal_logit.data[0] / PEDAL_TEMPERATURE) ? 1 : 0;
    const next = await drawFrame(heard, velocity, down, settings.temperature, repetition.penalty(), random);
    frames.push([next, down]);
    postMessage({ type: "frame", velocity: next, pedal: down });
    if ((frames.length - opening.frames) % SEGMENT === 0) {
      const start = Math.max(Math.min(opening.frames, frames.length - FEWEST), frames.length - RECENT, 0);
      home = await embed(correctHome(profile, profileLike(openingPiece, pieceOf(frames.slice(start)))));
    }
    await new Promise((resolve) => setTimeout(resolve)); // let a message arrive
  }
}

const struckColumns = (now, before) => [...now.keys()].filter((column) => now[column] && !before[column]);

async function embed(profile) {
  const { home } = await model;
  return (await home.run({ profile: float(profile, 1, N_PITCHES, 15) })).home;
}

/** Draw all pitches of the next frame, each given the lower ones, by fixed-point iteration; then the velocities. */
async function drawFrame(heard, velocity, pedal, temperature, penalty, random) {
  const { pitches } = await model;
  const active = Float32Array.from(velocity, (value) => (value > 0 ? 1 : 0));
  const uniform = Float32Array.from({ length: N_PITCHES }, random);
  const { encoded, skip, active: sounding, pedal_history } = heard;
  const known = { encoded, skip, active: sounding, pedal_history, next_pedal: float([pedal], 1) };
  let on = active; // the first guess is that nothing changes
  let gain = null;
  for (let pass = 0; ; pass++) {
    const found = await pitches.run({ ...known, next_frame: float(on, 1, N_PITCHES) });
    const logits = found.logits.data.map((logit, column) => (active[column] ? logit : logit - penalty[column]));
    gain ??= onsetGain(logits, active, temperature);
    const decided = decide(logits, active, uniform, temperature, gain);
    const isFinal = decided.every((value, column) => value === on[column]) || pass === N_PITCHES;
    on = decided;
    if (isFinal) return drawVelocities(found.conditioned, heard.recent, on, active, velocity, random);
  }
}

/** Return the velocities of the next frame: those of held notes stay, those of struck ones are drawn. */
async function drawVelocities(conditioned, recent, on, active, before, random) {
  const { velocities } = await model;
  const next = Uint8Array.from(before, (value, column) => (on[column] ? value : 0));
  const struck = struckColumns(on, active);
  const uniform = struck.map(() => [random(), random()]);
  const drawn = new Float32Array(N_PITCHES);
  const mask = new ort.Tensor("bool", Uint8Array.from(on, (value, column) => value && !active[column]), [1, N_PITCHES]);
  for (let pass = 0; pass < struck.length; pass++) { // each pass settles one more struck pitch, from below
    const result = await velocities.run({ conditioned, recent, velocity: float(drawn, 1, N_PITCHES), struck: mask });
    const logits = result.velocity_logits; // one row for each struck column
    const nBins = logits.dims.at(-1);
    const values = struck.map((column, index) =>
      drawVelocity(logits.data.subarray(index * nBins, (index + 1) * nBins), ...uniform[index]));
    const isFinal = struck.every((column, index) => drawn[column] === values[index]);
    struck.forEach((column, index) => { drawn[column] = values[index]; });
    if (isFinal) break;
  }
  for (const column of struck) next[column] = drawn[column];
  return next;
}
