// Music as data: MIDI files, notes and frames. A frame is 1/20 s; column 0 of a frame is pitch 21.
// A piece has `frames`, their number, `notes` as [pitch, velocity, start frame, end frame], and for each press of the
// `pedal` [start frame, end frame]. The opening of a file is such a piece, too.
import midi from "@tonejs/midi";

export const FPS = 20;
export const N_PITCHES = 88;
export const LOWEST_PITCH = 21;
const MAX_BYTES = 4_000_000;
const DRUMS = 9; // the channel of percussion, counted from 0
const SUSTAIN = 64; // the controller of the sustain pedal; from 0.5 of its range the pedal is down

export const frameOf = (seconds) => Math.floor(seconds * FPS + 0.5); // rounded half up

export const onPiano = (pitch) => pitch >= LOWEST_PITCH && pitch < LOWEST_PITCH + N_PITCHES;

/** Read the opening of a MIDI file: the first `nBeats` quarter notes, counted from its first note.
 *
 * Throws an Error with one sentence for the visitor.
 */
export function readOpening(bytes, nBeats = 8) {
  if (bytes.length > MAX_BYTES) throw new Error("This file has more than 4 MB; a piece for piano has less.");
  const file = parse(bytes);
  const tracks = file.tracks.filter((track) => track.channel !== DRUMS);
  const played = tracks.flatMap((track) => track.notes).filter((note) => onPiano(note.midi));
  if (!played.length) throw new Error("This file has no piano notes.");
  const firstTick = Math.min(...played.map((note) => note.ticks));
  const first = frameOf(file.header.ticksToSeconds(firstTick));
  const frameAt = (seconds) => frameOf(seconds) - first;
  const frames = frameAt(file.header.ticksToSeconds(firstTick + nBeats * file.header.ppq));
  if (frames < 1) throw new Error("The opening of this file is shorter than a frame of 1/20 s.");
  const notes = played.map((note) =>
    [note.midi, Math.round(note.velocity * 127), frameAt(note.time), frameAt(note.time + note.duration)]);
  const moves = tracks.flatMap((track) => track.controlChanges[SUSTAIN] ?? []).sort((a, b) => a.time - b.time);
  const pedal = moves.flatMap(({ time, value }, index) =>
    (value < 0.5 ? [] : [[frameAt(time), index + 1 < moves.length ? frameAt(moves[index + 1].time) : frames]]));
  return { frames, notes, pedal };
}

function parse(bytes) {
  try {
    return new midi.Midi(bytes);
  } catch {
    throw new Error("This is not a MIDI file, or it is damaged.");
  }
}

/** Return the frames of a piece as [velocities (88), 1 if the pedal is down]. Notes may overlap.
 *
 * Each note lasts at least one frame, and a pitch sounds as long as any of its notes. Where a pitch is struck again
 * while it sounds, the earlier note ends one frame before, so that both remain.
 */
export function framesOf({ frames, notes, pedal }) {
  const velocity = Array.from({ length: frames }, () => new Uint8Array(N_PITCHES));
  const down = new Uint8Array(frames);
  const struck = {}; // the frame in which each pitch was struck last
  for (const [pitch, loudness, start, end] of [...notes].sort((one, other) => one[2] - other[2])) {
    const column = pitch - LOWEST_PITCH;
    if (struck[pitch] < start - 1 && start <= frames) velocity[start - 1][column] = 0;
    struck[pitch] = start;
    for (let frame = start; frame < frames; frame++) {
      if (frame > start && frame >= end && !velocity[frame][column]) break;
      velocity[frame][column] = loudness;
    }
  }
  for (const [start, end] of pedal) down.fill(1, Math.max(start, 0), Math.max(end, 0));
  return velocity.map((each, frame) => [each, down[frame]]);
}

/** A piece that grows frame by frame, and has what a picture and a player need. */
export class Piece {
  constructor(beats = null) {
    Object.assign(this, { fps: FPS, frames: 0, prime: 0, notes: [], pedal: [], beats });
    this.sounding = new Map(); // from the pitches that sound to their notes
  }

  /** Add a frame: velocities (88), 0 where a pitch is silent, and whether the pedal is down. */
  add([velocity, pedalDown]) {
    for (let column = 0; column < N_PITCHES; column++) {
      const pitch = column + LOWEST_PITCH;
      const note = this.sounding.get(pitch);
      if (!velocity[column]) this.sounding.delete(pitch);
      else if (note) note[3]++;
      else this.start([pitch, velocity[column], this.frames, this.frames + 1]);
    }
    const press = this.pedal.at(-1);
    if (pedalDown && press?.[1] === this.frames) press[1]++;
    else if (pedalDown) this.pedal.push([this.frames, this.frames + 1]);
    this.frames++;
  }

  start(note) {
    this.sounding.set(note[0], note);
    this.notes.push(note);
  }

  /** What a piano does in a frame: {notes: [[pitch, velocity or 0 for a release]], pedal: true, false or undefined}. */
  actions(frame) {
    const releases = this.notes.filter((note) => note[3] === frame).map((note) => [note[0], 0]);
    const strikes = this.notes.filter((note) => note[2] === frame).map((note) => [note[0], note[1]]);
    const pressed = this.pedal.some(([start]) => start === frame);
    const lifted = this.pedal.some(([, end]) => end === frame);
    return { notes: [...releases, ...strikes], pedal: pressed ? true : lifted ? false : undefined };
  }
}

/** Return a piece of some frames. */
export function pieceOf(frames, beats = null) {
  const piece = new Piece(beats);
  for (const frame of frames) piece.add(frame);
  return piece;
}

/** Return a piece as the bytes of a MIDI file. */
export function midiBytes(piece) {
  const file = new midi.Midi();
  const track = file.addTrack();
  for (const [pitch, velocity, start, end] of piece.notes) {
    track.addNote({ midi: pitch, velocity: velocity / 127, time: start / FPS, duration: (end - start) / FPS });
  }
  for (const [start, end] of piece.pedal) {
    track.addCC({ number: SUSTAIN, value: 1, time: start / FPS });
    track.addCC({ number: SUSTAIN, value: 0, time: end / FPS });
  }
  return file.toArray();
}
