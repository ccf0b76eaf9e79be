// Composes away from the page, which calls these functions through Comlink.
import { expose } from "comlink";
import { uniformFloat32 } from "pure-rand/distribution/uniformFloat32";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { beatFeatures, continueBeats } from "./beats.js";
import { Candidates, choose, openGraphs } from "./candidates.js";
import { FPS, framesOf, pieceOf } from "./music.js";

const N_CANDIDATES = 4;
const SEGMENT = 2 * FPS; // frames until the candidates are judged
const RECENT = 30 * FPS; // frames that are compared with the opening, at most, of those after it
const FEWEST = 4 * FPS; // and at least
const REGISTER = 4 * FPS; // frames of which the mean pitch counts
let graphs = null;
let site = null; // what the page knows of the model
let run = 0; // the number of the present piece; another number stops it

async function load(files, about) {
  site = about;
  graphs = await openGraphs(files, site.graphs);
}

function stop() {
  run++;
}

/** Continue an opening; call `send(frames, beats)` for each segment, until all are composed or the page stops it. */
async function compose(opening, settings, send) {
  const number = ++run;
  const generator = xoroshiro128plus(settings.seed);
  const random = () => uniformFloat32(generator);
  const frames = framesOf(opening); // grows
  const total = frames.length + settings.frames;
  const beats = continueBeats(opening.beats, frames.length / FPS, total / FPS, settings.bpm);
  const beatsOf = (frame) => beatFeatures(beats, frame / FPS);
  const openingPiece = pieceOf(frames);

  const candidates = new Candidates(graphs, site.states, site.composers.indexOf(settings.composer) + 1, random);
  await candidates.tellHome(openingPiece, openingPiece);
  await candidates.play(frames[0]);
  for (let frame = 1; frame < opening.frames; frame++) {
    await candidates.hear(beatsOf(frame));
    await candidates.play(frames[frame]);
  }
  const areJudged = opening.frames > 1;
  if (areJudged) {
    await candidates.judgeOpening();
    candidates.select(Array(N_CANDIDATES).fill(0));
  }
  while (frames.length < total && run === number) {
    const end = Math.min(frames.length + SEGMENT, total);
    const drawn = await composeSegment(candidates, frames.length, end, beatsOf, settings.temperature);
    // What is heard cannot be taken back. So one candidate is chosen after each segment, and all go on from it, where
    // musicgen.generation.steering lets several go on until few of them carry most of the weight.
    const registers = drawn.map((each) => registerOf([...frames, ...each], opening.frames));
    const chosen = areJudged ? choose(await candidates.weights(registers), random()) : 0;
    candidates.select(Array(candidates.n).fill(chosen));
    frames.push(...drawn[chosen]);
    await send(drawn[chosen], beats);
    const start = Math.max(Math.min(opening.frames, frames.length - FEWEST), frames.length - RECENT, 0);
    await candidates.tellHome(openingPiece, pieceOf(frames.slice(start)));
  }
}

/** Return the frames that each candidate plays next. */
async function composeSegment(candidates, start, end, beatsOf, temperature) {
  const drawn = Array.from({ length: candidates.n }, () => []);
  for (let frame = start; frame < end; frame++) {
    await candidates.hear(beatsOf(frame));
    await candidates.draw(temperature);
    drawn.forEach((frames, row) => frames.push(candidates.frameOf(row)));
  }
  return drawn;
}

/** Return the mean pitch of the last four seconds after the opening, that of the opening, and the time since it. */
function registerOf(frames, nOpening) {
  const { notes } = pieceOf(frames);
  const first = Math.max(nOpening, frames.length - REGISTER);
  const recent = meanPitch(notes.filter(([, , start]) => start >= first));
  const opening = meanPitch(notes.filter(([, , start]) => start < nOpening));
  const known = recent && opening; // nothing is known of silence
  return known ? [recent, opening, (frames.length - nOpening) / FPS] : [0, 0, 0];
}

const meanPitch = (notes) => notes.length && notes.reduce((sum, [pitch]) => sum + pitch, 0) / notes.length;

expose({ load, compose, stop });
