// A penalty that ends figures which a model would repeat for ever, as in musicgen.generation.repetition.
import { FPS, N_PITCHES } from "./music.js";

const [SHORTEST, LONGEST] = [3, 80]; // frames of a figure
const SHORT = 0.6; // seconds: shorter figures may repeat for a proportionally shorter time
const RADIUS = 2; // frames: so much earlier or later, a note still counts as repeated
const NEW = 9; // nine in ten onsets must be repeated
const WINDOW = 600; // frames that are searched for the start of a repetition
const PENALTY = 2; // logits per second
const SECONDS = 8; // for this long a figure is repeated freely

export class RepetitionPenalty {
  constructor() {
    this.onsets = []; // the struck columns of each frame
    this.figures = Array.from({ length: LONGEST - SHORTEST + 1 }, (_, index) =>
      ({ period: SHORTEST + index, sum: 0, sumBefore: [] }));
  }

  /** Add the columns that are struck in the next frame. */
  append(struck) {
    this.onsets.push(struck);
    const frame = this.onsets.length - 1 - RADIUS; // all that is near this one is known now
    if (frame < 0) return;
    const near = this.near(frame);
    for (const figure of this.figures) this.score(figure, frame, near);
  }

  /** Compare a frame with the frame one period before. A stretch whose scores sum to 0 or more is a repetition. */
  score(figure, frame, near) {
    const now = this.onsets[frame];
    const before = this.onsets[frame - figure.period] ?? [];
    const nearBefore = this.near(frame - figure.period);
    const repeated = now.filter((column) => nearBefore.has(column)).length + before.filter((column) => near.has(column)).length;
    const score = (1 + NEW) * repeated - NEW * (now.length + before.length);
    figure.sumBefore.push(score > 0 ? figure.sum : Infinity);
    figure.sum += score;
  }

  /** The columns that are struck up to RADIUS frames before and after a frame. */
  near(frame) {
    return new Set(this.onsets.slice(Math.max(0, frame - RADIUS), Math.max(0, frame + RADIUS + 1)).flat());
  }

  /** What to subtract from the onset logits of the next frame. */
  penalty() {
    const known = this.onsets.length;
    const penalty = new Float32Array(N_PITCHES);
    for (const { period, sum, sumBefore } of this.figures) {
      const first = Math.max(0, known - WINDOW);
      const start = sumBefore.slice(first).findIndex((before) => before <= sum);
      const repeated = start < 0 ? 0 : known - RADIUS - (first + start);
      const excess = (repeated + period) / FPS - SECONDS * Math.min(1, period / FPS / SHORT);
      if (repeated < period || excess <= 0) continue;
      for (const column of this.near(known - period)) penalty[column] = Math.max(penalty[column], PENALTY * excess);
    }
    return penalty;
  }
}
