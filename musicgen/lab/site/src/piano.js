// The sound of a piano, and playing a piece that may still be growing.
import { WorkletSynthesizer } from "spessasynth_lib";

const LOOK_AHEAD = 0.25; // seconds that are handed to the synthesiser in advance
const TICK = 50; // milliseconds between two looks at the piece
const SUSTAIN = 64;

/** Start the synthesiser with a sound font. */
export async function makePiano(context, soundFont) {
  await context.audioWorklet.addModule("spessasynth_processor.min.js");
  const synth = new WorkletSynthesizer(context);
  await synth.soundBankManager.addSoundBank(soundFont, "piano");
  await synth.isReady;
  const meter = new AnalyserNode(context, { fftSize: 2048 });
  synth.connect(meter);
  meter.connect(context.destination);
  const samples = new Float32Array(meter.fftSize);
  /** The loudness now: the root mean square of the last samples, 0 to 1. */
  const level = () => {
    meter.getFloatTimeDomainData(samples);
    return Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
  };
  return { context, synth, level };
}

/** Plays a piece from its beginning or from where it was paused; waits where the piece has not been composed yet. */
export class Playback {
  constructor(piano, piece) {
    Object.assign(this, { piano, piece, frame: 0, timer: 0, began: 0 });
  }

  get isPlaying() {
    return this.timer !== 0;
  }

  /** The position in seconds. */
  get seconds() {
    const heard = this.isPlaying ? this.piano.context.currentTime - this.began : this.frame / this.piece.fps;
    return Math.max(0, Math.min(heard, this.piece.frames / this.piece.fps));
  }

  play() {
    if (this.frame >= this.piece.frames) this.frame = 0;
    this.began = this.piano.context.currentTime + 0.05 - this.frame / this.piece.fps;
    this.timer = setInterval(() => this.schedule(), TICK);
    this.schedule();
  }

  pause() {
    this.frame = Math.floor(this.seconds * this.piece.fps);
    clearInterval(this.timer);
    this.timer = 0;
    this.piano.synth.controllerChange(0, SUSTAIN, 0);
    this.piano.synth.stopAll(true);
  }

  schedule() {
    const now = this.piano.context.currentTime;
    while (this.frame < this.piece.frames) {
      const time = this.began + this.frame / this.piece.fps;
      if (time > now + LOOK_AHEAD) return;
      if (time < now) this.began += now - time; // it was not composed in time: everything later moves
      this.send(this.piece.actions(this.frame), Math.max(time, now));
      this.frame++;
    }
    if (this.piece.isComplete && this.seconds >= this.piece.frames / this.piece.fps) this.pause();
  }

  send({ notes, pedal }, time) {
    if (pedal !== undefined) this.piano.synth.controllerChange(0, SUSTAIN, pedal ? 127 : 0, { time });
    for (const [pitch, velocity] of notes) {
      if (velocity) this.piano.synth.noteOn(0, pitch, velocity, { time });
      else this.piano.synth.noteOff(0, pitch, { time });
    }
  }
}
