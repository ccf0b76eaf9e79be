// From the model's logits to a frame, as in musicgen.generation.sampling. Arrays have one entry per pitch.
const TINY = 1e-9;

export const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** Return a function that gives uniform random numbers from 0 to 1, the same ones for a seed (mulberry32). */
export function randomNumbers(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Return the factor for onset probabilities that a temperature sharpened, so that there are as many onsets as before. */
export function onsetGain(logits, active, temperature) {
  let expected = 0;
  let sharpened = 0;
  logits.forEach((logit, column) => {
    if (active[column]) return;
    expected += sigmoid(logit);
    sharpened += sigmoid(logit) ** (1 / temperature);
  });
  return (expected + TINY) / Math.max(sharpened, TINY);
}

/** Decide on all pitches at once: 1 where a pitch sounds in the next frame. */
export function decide(logits, active, uniform, temperature, gain) {
  return Float32Array.from(logits, (logit, column) => {
    const p = active[column] ? sigmoid(logit) : sigmoid(logit) ** (1 / temperature) * gain;
    return uniform[column] < p ? 1 : 0;
  });
}

/** Draw a velocity, 1 to 127, from the logits of equally wide bins with two uniform random numbers. */
export function drawVelocity(logits, uniformBin, uniformWithin) {
  const largest = Math.max(...logits);
  const weights = Array.from(logits, (logit) => Math.exp(logit - largest));
  let left = uniformBin * weights.reduce((sum, weight) => sum + weight, 0);
  const bin = Math.max(0, weights.findIndex((weight) => (left -= weight) < 0));
  const width = 128 / logits.length;
  const lowest = Math.max(1, bin * width); // velocity 0 is no note
  return lowest + Math.floor(uniformWithin * ((bin + 1) * width - lowest));
}

/** Continue beats [[seconds, is a downbeat]] from `start` to `end`, at `bpm` or else at their median tempo. */
export function continueBeats(beats, start, end, bpm) {
  const known = (beats ?? []).filter(([time]) => time < start);
  if (!bpm && known.length < 3) return null;
  const periods = known.slice(1).map(([time], index) => time - known[index][0]).sort((a, b) => a - b);
  const period = bpm ? 60 / bpm : periods[periods.length >> 1];
  const downbeats = known.flatMap(([, isDownbeat], index) => (isDownbeat ? [index] : []));
  const inBar = downbeats.length > 1 ? downbeats.at(-1) - downbeats.at(-2) : 4;
  const all = known.length ? known : [[start, 1]];
  const first = downbeats.at(-1) ?? 0;
  const isComplete = ([time, isDownbeat]) => time > end && isDownbeat; // the last bar is whole
  while (!isComplete(all.at(-1))) all.push([all.at(-1)[0] + period, (all.length - first) % inBar ? 0 : 1]);
  return all;
}

/** Return the position of a frame within beat and bar as sines and cosines, as musicgen.beats.beat_features does. */
export function beatFeatures(beats, seconds) {
  const features = new Float32Array(15);
  const beat = (beats ?? []).findLastIndex(([time]) => time <= seconds);
  if (beat < 0 || beat >= beats.length - 1) return features;
  const phase = (seconds - beats[beat][0]) / (beats[beat + 1][0] - beats[beat][0]);
  const write = (place, harmonics, turns) => harmonics.forEach((harmonic, index) => {
    features[place + index] = Math.sin(2 * Math.PI * harmonic * turns);
    features[place + harmonics.length + index] = Math.cos(2 * Math.PI * harmonic * turns);
  });
  write(0, [1, 2, 3, 4, 6], phase);
  const bar = beats.findLastIndex(([, isDownbeat], index) => isDownbeat && index <= beat);
  const next = beats.findIndex(([, isDownbeat], index) => isDownbeat && index > beat);
  if (bar >= 0 && next >= 0) write(10, [1, 2], (beat - bar + phase) / (next - bar));
  features[14] = 1;
  return features;
}
