// Composes away from the page, which calls these functions through Comlink.
import { expose } from "comlink";
import { uniformFloat32 } from "pure-rand/distribution/uniformFloat32";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { beatFeatures, continueBeats } from "./beats.js";
import { Candidates, choose, openGraphs } from "./candidates.js";
import { FPS, framesOf, pieceOf } from "./music.js";

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
  const { segment, recent, fewest, register } = site.lengths; // frames

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
    candidates.select(Array(site.candidates).fill(0));
  }
  while (frames.length < total && run === number) {
    const end = Math.min(frames.length + segment, total);
    const drawn = await composeSegment(candidates, frames.length, end, beatsOf, settings.temperature);
    // What is heard cannot be taken back. So one candidate is chosen after each segment, and all go on from it, where
    // musicgen.generation.steering lets several go on until few of them carry most of the weight.
    const registers = drawn.map((each) => registerOf([...frames, ...each], opening.frames, register));
    const chosen = areJudged ? choose(await candidates.weights(registers), random()) : 0;
    candidates.select(Array(candidates.n).fill(chosen));
    frames.push(...drawn[chosen]);
    await send(drawn[chosen], beats);
    // Compared with the opening is what followed it: the last half minute at most, four seconds at least.
    const start = Math.max(Math.min(opening.frames, frames.length - fewest), frames.length - recent, 0);
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

/** Return the mean pitch of the last frames after the opening, that of the opening, and the seconds since it. */
function registerOf(frames, nOpening, nRecent) {
  const { notes } = pieceOf(frames);
  const first = Math.max(nOpening, frames.length - nRecent);
  const recent = meanPitch(notes.filter(([, , start]) => start >= first));
  const opening = meanPitch(notes.filter(([, , start]) => start < nOpening));
  const known = recent && opening; // nothing is known of silence
  return known ? [recent, opening, (frames.length - nOpening) / FPS] : [0, 0, 0];
}

const meanPitch = (notes) => notes.length && notes.reduce((sum, [pitch]) => sum + pitch, 0) / notes.length;

expose({ load, compose, stop });
