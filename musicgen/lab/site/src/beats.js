// Beats as [seconds, 1 for a downbeat], as in musicgen.beats.

/** Continue beats from `start` to `end`, at `bpm` or else at their median tempo; null if the tempo is unknown. */
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

/** Return the position of a moment within beat and bar as sines and cosines; all 0 where there are no beats. */
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
