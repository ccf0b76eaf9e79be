// The page: choose an opening, set how it goes on, compose, listen and save.
import { proxy, transfer, wrap } from "comlink";
import {
  fit, paintKeyboard, paintRoll, paintSounding, pitchRange, scales, soundingAt, themeColours,
} from "../player/canvas.js";
import keyboard from "../player/keyboard.js";
import { fetchFiles } from "./files.js";
import { listenToMidi } from "./midi_in.js";
import { frameOf, framesOf, midiBytes, onPiano, pieceOf, readOpening } from "./music.js";
import { Playback, makePiano } from "./piano.js";

const VISIBLE = 20; // seconds of the roll that are shown at once
const byId = (id) => document.getElementById(id);
const site = await (await fetch("site.json")).json();
const page = { opening: null, piece: null, playback: null, audio: null, piano: null, composer: null, timer: 0 };

// --- messages -------------------------------------------------------------------------------------------------------
function tell(text, isError = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", isError);
}

/** Run an action of the visitor; an error becomes one sentence. */
const safely = (action) => async (...args) => {
  try {
    await action(...args);
  } catch (error) {
    tell(error.message, true);
  }
};

// --- the opening ----------------------------------------------------------------------------------------------------
function choose(opening, title) {
  stop();
  page.opening = opening;
  for (const button of byId("openings").children) button.setAttribute("aria-pressed", button.textContent === title);
  show(begin(opening));
  tell(`Opening: ${title}, ${(opening.frames / page.piece.fps).toFixed(1)} seconds.`);
}

/** Return the opening as a piece, to be shown and continued. */
function begin(opening) {
  return Object.assign(pieceOf(framesOf(opening), opening.beats), { prime: opening.frames });
}

function listOpenings() {
  for (const opening of site.openings) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = opening.title;
    button.dataset.testid = "opening";
    button.onclick = () => {
      byId("file").value = "";
      byId("composer").value = opening.composer;
      choose(opening, opening.title);
    };
    byId("openings").append(button);
  }
}

const readFile = safely(async ({ target: { files: [file] } }) => {
  if (file) choose(readOpening(new Uint8Array(await file.arrayBuffer())), file.name);
});

/** Use notes as [pitch, velocity, start, end] in seconds, as the keyboards record them. */
function usePlayed(recorded) {
  const played = recorded.filter(([pitch]) => onPiano(pitch));
  if (!played.length) throw new Error("Nothing has been played yet.");
  const first = Math.min(...played.map((note) => note[2]));
  const frameAt = (seconds) => frameOf(seconds - first);
  const notes = played.map(([pitch, velocity, start, end]) => [pitch, velocity, frameAt(start), frameAt(end)]);
  const frames = Math.max(...notes.map(([, , start, end]) => Math.max(end, start + 1)));
  byId("file").value = "";
  choose({ frames, notes, pedal: [] }, "what you played");
}

function showKeyboard() {
  const values = { notes: [], seconds: 12 };
  const set = (name, value) => { values[name] = value; };
  const model = { get: (name) => values[name], set, save_changes() {}, on() {} };
  keyboard.render({ model, el: byId("keyboard-input") });
  byId("use-played").onclick = safely(() => usePlayed(values.notes));
}

// --- composing ------------------------------------------------------------------------------------------------------
/** Load what is needed to compose and to play, once. */
async function load() {
  if (page.composer) return;
  byId("progress").hidden = false;
  try {
    const files = await fetchFiles(site.files, site.version, (share, text) => {
      byId("progress").value = share;
      tell(text);
    });
    tell("Loaded. The model and the piano are starting.");
    const { "piano.sf2": soundFont, ...engine } = files;
    page.piano ??= await makePiano(page.audio, soundFont);
    const worker = new Worker("worker.js", { type: "module" });
    worker.onerror = () => tell("The model stopped unexpectedly. Reload the page to try again.", true);
    const composer = wrap(worker);
    await composer.load(transfer(engine, Object.values(engine)), site);
    page.composer = composer;
  } finally {
    byId("progress").hidden = true;
  }
}

const compose = safely(async (event) => {
  event.preventDefault(); // the form is not sent anywhere
  if (!byId("progress").hidden) return; // it is being loaded
  if (page.isComposing) return stop();
  const settings = readSettings();
  page.audio ??= new AudioContext(); // at once: browsers keep pages silent that start their sound long after a click
  await load();
  await page.audio.resume();
  const piece = begin(page.opening);
  show(piece);
  setComposing(true);
  byId("keys").scrollIntoView({ block: "nearest" }); // on a phone the piece lies below
  play();
  const started = performance.now();
  const send = (frames, beats) => extend(piece, frames, beats, started);
  try {
    await page.composer.compose(page.opening, settings, proxy(send));
    const seconds = (piece.frames / piece.fps).toFixed(0);
    if (!piece.isComplete) tell(`The piece of ${seconds} s is complete. For another one, change the seed.`);
  } finally {
    if (page.piece === piece) stop();
  }
});

/** Add frames that were composed to a piece; after a stop they are not wanted any more. */
function extend(piece, frames, beats, started) {
  if (piece.isComplete) return;
  piece.beats = beats;
  for (const frame of frames) piece.add(frame);
  const seconds = (piece.frames - piece.prime) / piece.fps;
  const speed = seconds / ((performance.now() - started) / 1000);
  tell(`Composed ${seconds.toFixed(0)} s, ${speed.toFixed(1)} times as fast as you listen.`);
}

/** Read the settings, which the browser has checked against the limits in the form. */
function readSettings() {
  const { composer, ...numbers } = Object.fromEntries(new FormData(byId("settings")));
  const settings = { composer };
  for (const name in numbers) settings[name] = Number(numbers[name]);
  settings.frames = frameOf(settings.seconds) - page.opening.frames;
  if (settings.frames < 1) throw new Error("The piece must be longer than its opening: raise the seconds.");
  return settings;
}

function stop() {
  page.composer?.stop();
  if (page.piece) page.piece.isComplete = true;
  setComposing(false);
}

function setComposing(isComposing) {
  page.isComposing = isComposing;
  Object.assign(byId("compose"), { textContent: isComposing ? "Stop" : "Compose", formNoValidate: isComposing });
}

// --- listening ------------------------------------------------------------------------------------------------------
function show(piece) {
  if (page.playback?.isPlaying) page.playback.pause();
  page.piece = piece;
  page.playback = page.piano && new Playback(page.piano, piece);
  drawSoon();
}

function play() {
  page.playback ??= new Playback(page.piano, page.piece);
  if (page.playback.isPlaying) page.playback.pause();
  else page.playback.play();
  drawSoon();
}

/** Draw after a pause in milliseconds, once for all calls until then: each call of `draw` may ask for the next one. */
function drawSoon(pause = 0) {
  clearTimeout(page.timer);
  page.timer = setTimeout(() => requestAnimationFrame(draw), pause);
}

function draw() {
  const { piece, playback } = page;
  const seconds = playback?.seconds ?? 0;
  const start = Math.max(0, seconds - VISIBLE / 2);
  const view = { start, span: VISIBLE, ...pitchRange([piece]) };
  const [pen, width, height] = fit(byId("roll"));
  const scale = scales(view, width, height, true);
  const colours = { ...site.colours, ...themeColours() };
  const sounding = playback?.isPlaying ? soundingAt(piece, seconds) : [];
  paintRoll(pen, width, height, scale, piece, view, colours);
  paintSounding(pen, scale, piece, view, sounding, colours);
  pen.fillStyle = colours.now;
  pen.fillRect(scale.x(seconds) - 1, 0, 2, scale.bottom);
  paintKeyboard(...fit(byId("keys")), new Set(sounding.map((note) => note[0])), colours);
  const length = (piece.frames / piece.fps).toFixed(0);
  byId("roll").setAttribute("aria-label", `piano roll: ${piece.notes.length} notes in ${length} seconds`);
  byId("play").disabled = !playback;
  byId("play").textContent = playback?.isPlaying ? "Pause" : "Play";
  byId("level").value = playback?.isPlaying ? page.piano.level() : 0;
  if (playback?.isPlaying || page.isComposing) drawSoon(page.isComposing ? 60 : 0); // composing comes first
}

/** Let a link point at the piece, just before the browser follows it. */
function save({ target: link }) {
  URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(new Blob([midiBytes(page.piece)], { type: "audio/midi" }));
}

// --- start ----------------------------------------------------------------------------------------------------------
for (const name of ["", ...site.composers]) byId("composer").add(new Option(name || "any", name));
const { temperature } = byId("settings").elements;
temperature.value = site.temperature;
temperature.oninput();
const megabytes = Object.values(site.files).reduce((sum, size) => sum + size, 0) / 1e6;
byId("sizes").textContent = `The first piece loads ${megabytes.toFixed(0)} MB, once.`;
listOpenings();
showKeyboard();
byId("file").onchange = readFile;
byId("midi-in").onclick = safely(async () => {
  const played = (...note) => byId("keyboard-input").dispatchEvent(new CustomEvent("note", { detail: note }));
  const names = await listenToMidi(played);
  tell(`${names} plays this keyboard now. Press Record, then play.`);
});
byId("settings").onsubmit = compose;
byId("play").onclick = safely(play);
byId("save").onclick = save;
addEventListener("resize", () => drawSoon());
byId("openings").firstElementChild.click();
