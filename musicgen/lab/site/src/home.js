// What the opening was like, which the model is told throughout, as in musicgen.home.
import { LOWEST_PITCH, N_PITCHES } from "./music.js";

const NEIGHBOURHOOD = 3; // standard deviation in semitones of "near a pitch"
const SMALLEST_SPREAD = 3; // semitones
const SMOOTHING = 0.5; // notes added to each pitch class
const FEEDBACK = 2; // how firmly music that drifts away from home is pulled back

const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const deviation = (values) => Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)));

/** Return the profile of an opening, 15 numbers for each of 88 pitches; all 0 if it has no notes. */
export function homeFeatures({ notes, pedal, frames, fps }, smoothing = SMOOTHING) {
  if (!notes.length) return new Float32Array(N_PITCHES * 15);
  const pitches = notes.map(([pitch]) => pitch);
  const velocities = notes.map(([, velocity]) => velocity / 127);
  const lengths = notes.map(([, , start, end]) => (end - start) / fps);
  const chords = new Set(notes.map(([, , start]) => start)).size;
  const spread = Math.max(SMALLEST_SPREAD, deviation(pitches));
  const centre = mean(pitches);
  const overall = [
    Math.log(notes.length / Math.max(1, frames / fps) / 8),
    2 * mean(velocities) - 1,
    5 * deviation(velocities) - 0.5,
    Math.log1p(sum(lengths) * fps / frames) - 1.3,
    mean(lengths.map(Math.log)) + 1.5,
    2 * Math.log(notes.length / chords) - 1,
    spread / 12 - 1,
    sum(pedal.map(([start, end]) => end - start)) / frames - 0.5,
    1,
  ];
  const counts = Array.from({ length: 12 }, (_, pitchClass) => smoothing + pitches.filter((pitch) => pitch % 12 === pitchClass).length);
  const flat = NEIGHBOURHOOD * Math.sqrt(2 * Math.PI) / N_PITCHES; // what `near` is on average
  const ofPitch = (pitch) => {
    const share = 12 * counts[pitch % 12] / sum(counts);
    const octaves = (pitch - centre) / 12;
    const near = mean(pitches.map((other) => Math.exp(-(((pitch - other) / NEIGHBOURHOOD) ** 2) / 2))) / flat;
    return [Math.log(share), share - 1, octaves, octaves ** 2, (pitch - centre) / spread, Math.log1p(near), ...overall];
  };
  return Float32Array.from(Array.from({ length: N_PITCHES }, (_, column) => ofPitch(LOWEST_PITCH + column)).flat());
}

/** Return the profile of recent music, smoothed as much as that of the opening, which may have fewer notes. */
export function profileLike(opening, recent) {
  return homeFeatures(recent, (SMOOTHING * Math.max(1, recent.notes.length)) / Math.max(1, opening.notes.length));
}

/** Return a home that lies as far on the other side as recent music has drifted away: negative feedback. */
export function correctHome(home, recent) {
  const areKnown = home.at(-1) && recent.at(-1);
  return areKnown ? home.map((value, index) => value + FEEDBACK * (value - recent[index])) : home;
}
