// The page: choose an opening, set how it goes on, compose, listen and save.
import { fit, paintKeyboard, paintRoll, paintSounding, pitchRange, scales, soundingAt } from "../player/canvas.js";
import keyboard from "../player/keyboard.js";
import { fetchFiles } from "./files.js";
import { listenToMidi } from "./midi_in.js";
import { frameOf, framesOf, midiBytes, onPiano, pieceOf, readOpening, sampleNotes } from "./music.js";
import { Playback, makePiano } from "./piano.js";

const VISIBLE = 20; // seconds of the roll that are shown at once
const byId = (id) => document.getElementById(id);
const site = await (await fetch("site.json")).json();
const page = { opening: null, piece: null, playback: null, piano: null, worker: null, isComposing: false };

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
  page.opening = opening;
  for (const button of byId("openings").children) button.setAttribute("aria-pressed", button.textContent === title);
  show(begin(opening));
  tell(`Opening: ${title}, ${(opening.frames / page.piece.fps).toFixed(1)} seconds.`);
}

/** Return the opening as a piece, to be shown and continued. */
function begin(opening) {
  return Object.assign(pieceOf(framesOf(opening), opening.beats), { prime: opening.frames });
}

const decode = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

function listOpenings() {
  for (const { title, composer, frames, velocity, pedal, beats } of site.openings) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title;
    button.dataset.testid = "opening";
    button.onclick = () => {
      stop();
      byId("composer").value = composer;
      choose({ frames, beats, velocity: decode(velocity), pedal: decode(pedal) }, title);
    };
    byId("openings").append(button);
  }
}

const readFile = safely(async (file) => {
  if (!file) return;
  stop();
  choose(readOpening(new Uint8Array(await file.arrayBuffer())), file.name);
});

/** Use notes as [pitch, velocity, start, end] in seconds, as the keyboards record them. */
function usePlayed(recorded) {
  const notes = recorded.filter(([pitch]) => onPiano(pitch));
  if (!notes.length) throw new Error("Nothing has been played yet.");
  const first = Math.min(...notes.map((note) => note[2]));
  const played = notes.map(([pitch, velocity, start, end]) =>
    ({ pitch, velocity, start: frameOf(start - first), end: frameOf(end - first) }));
  const frames = Math.max(...played.map((note) => Math.max(note.end, note.start + 1)));
  choose({ frames, velocity: sampleNotes(played, frames), pedal: new Uint8Array(frames) }, "what you played");
}

function showKeyboard() {
  const values = { notes: [], seconds: 12 };
  const model = { get: (name) => values[name], set: (name, value) => { values[name] = value; }, save_changes() {}, on() {} };
  keyboard.render({ model, el: byId("keyboard-input") });
  byId("use-played").onclick = safely(() => { stop(); usePlayed(values.notes); });
}

// --- composing ------------------------------------------------------------------------------------------------------
/** Load what is needed to compose and to play, once. */
async function load() {
  if (page.worker) return;
  byId("progress").hidden = false;
  const files = await fetchFiles(site.files, site.version, (share, text) => {
    byId("progress").value = share;
    tell(text);
  });
  byId("progress").hidden = true;
  const { "piano.sf2": soundFont, ...engine } = files;
  page.piano ??= await makePiano(soundFont);
  const worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data }) => receive(data);
  worker.onerror = () => tell("The model stopped unexpectedly. Reload the page to try again.", true);
  worker.postMessage({ type: "load", files: engine, site }, Object.values(engine));
  page.worker = worker;
}

const compose = safely(async () => {
  if (page.isComposing) return stop();
  if (!page.opening) throw new Error("Choose an opening first.");
  const settings = readSettings();
  await load();
  await page.piano.context.resume();
  show(begin(page.opening));
  page.isComposing = true;
  byId("compose").textContent = "Stop";
  page.started = null;
  page.worker.postMessage({ type: "compose", opening: page.opening, settings });
  play();
});

/** Read the settings; throws an Error that names the first one that is out of range. */
function readSettings() {
  const settings = { composer: byId("composer").value, temperature: Number(byId("temperature").value) };
  for (const name of ["bpm", "seconds", "seed"]) {
    const input = byId(name);
    if (!input.checkValidity()) throw new Error(`${input.labels[0].textContent.trim()} must lie in ${input.min} to ${input.max}.`);
    settings[name] = Number(input.value);
  }
  settings.frames = frameOf(settings.seconds) - page.opening.frames;
  if (settings.frames < 1) throw new Error("The piece must be longer than its opening: raise the seconds.");
  return settings;
}

function receive(message) {
  if (!page.isComposing) return;
  if (message.type === "beats") page.piece.beats = message.beats;
  if (message.type === "frame") {
    page.started ??= performance.now();
    page.piece.add(message.velocity, message.pedal);
    const seconds = (page.piece.frames - page.piece.prime) / page.piece.fps;
    const speed = seconds / ((performance.now() - page.started) / 1000);
    if (Number.isInteger(seconds)) tell(`Composed ${seconds} s, ${speed.toFixed(1)} times as fast as you listen.`);
  }
  if (message.type === "error") tell(message.text, true);
  if (message.type === "done") tell(`Composed ${(page.piece.frames / page.piece.fps).toFixed(0)} s. Press Compose for another piece with the same settings, or change the seed first.`);
  if (message.type === "done" || message.type === "error") stop();
}

function stop() {
  page.worker?.postMessage({ type: "stop" });
  page.isComposing = false;
  if (page.piece) page.piece.isComplete = true;
  byId("compose").textContent = "Compose";
}

// --- listening ------------------------------------------------------------------------------------------------------
function show(piece) {
  if (page.playback?.isPlaying) page.playback.pause();
  page.piece = piece;
  page.playback = page.piano && new Playback(page.piano, piece);
  byId("save").disabled = false;
  requestAnimationFrame(draw);
}

function play() {
  page.playback ??= new Playback(page.piano, page.piece);
  if (page.playback.isPlaying) page.playback.pause();
  else page.playback.play();
  requestAnimationFrame(draw);
}

function draw() {
  const { piece, playback } = page;
  const seconds = playback?.seconds ?? 0;
  const start = Math.max(0, seconds - VISIBLE / 2);
  const view = { start, span: VISIBLE, ...pitchRange([piece]) };
  const [pen, width, height] = fit(byId("roll"));
  const scale = scales(view, width, height, true);
  const sounding = playback?.isPlaying ? soundingAt(piece, seconds) : [];
  paintRoll(pen, width, height, scale, piece, view, colours());
  paintSounding(pen, scale, piece, view, sounding, colours());
  pen.fillStyle = colours().now;
  pen.fillRect(scale.x(seconds) - 1, 0, 2, scale.bottom);
  paintKeyboard(...fit(byId("keys")), new Set(sounding.map((note) => note[0])), colours());
  byId("roll").setAttribute("aria-label", `piano roll: ${piece.notes.length} notes in ${(piece.frames / piece.fps).toFixed(0)} seconds`);
  byId("play").disabled = !playback;
  byId("play").textContent = playback?.isPlaying ? "Pause" : "Play";
  byId("level").value = playback?.isPlaying ? page.piano.level() : 0;
  if (playback?.isPlaying || page.isComposing) requestAnimationFrame(draw);
}

/** The colours of the theme, and those that the figures of the course use. */
function colours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "ink", "faint", "line", "row", "white-key", "black-key"];
  return { ...site.colours, ...Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) };
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([midiBytes(page.piece)], { type: "audio/midi" }));
  link.download = "musicgen.mid";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// --- start ----------------------------------------------------------------------------------------------------------
for (const name of ["", ...site.composers]) byId("composer").add(new Option(name || "any", name));
byId("temperature").value = site.temperature;
byId("temperature").oninput = () => { byId("temperature-value").textContent = byId("temperature").value; };
byId("temperature").oninput();
const megabytes = Object.values(site.files).reduce((sum, size) => sum + size, 0) / 1e6;
byId("sizes").textContent = `The first piece loads ${megabytes.toFixed(0)} MB, once.`;
listOpenings();
showKeyboard();
byId("file").onchange = ({ target }) => readFile(target.files[0]);
byId("drop").ondragover = (event) => { event.preventDefault(); byId("drop").classList.add("over"); };
byId("drop").ondragleave = () => byId("drop").classList.remove("over");
byId("drop").ondrop = (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  readFile(event.dataTransfer.files[0]);
};
byId("midi-in").onclick = safely(async () => {
  const names = await listenToMidi((...note) => byId("keyboard-input").dispatchEvent(new CustomEvent("note", { detail: note })));
  tell(`${names} plays this keyboard now. Press Record, then play.`);
});
byId("compose").onclick = compose;
byId("play").onclick = safely(play);
byId("save").onclick = save;
addEventListener("resize", () => page.piece && draw());
byId("openings").firstElementChild.click();
