"use strict";
// `music` holds the colours that the figures use as well. They are the same in the light and the dark theme.
const { tracks, seconds, height, roll_height: rollHeight, music } = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const [player, keyboard] = [byId("player"), byId("keyboard")];
const hasPedal = tracks.some(track => track.pedal);
const view = { start: 0, span: seconds, ...pitchRange(tracks) };  // what is visible: seconds and pitches
let heard = tracks[0], colours = { ...music };

// --- sound ----------------------------------------------------------------------------------------------------------
const bytesOf = base64 => Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
const now = () => heard.audio.currentTime;
const isPlaying = () => !heard.audio.paused;

function play() {
  if (now() >= heard.seconds - 0.05) seek(0);
  heard.audio.play().catch(error => { byId("hint").textContent = announce(`Cannot play the sound: ${error.message}`); });
}

// For a screen reader; it is not seen.
function announce(text) {
  return byId("status").textContent = text;
}

function seek(time) {
  heard.audio.currentTime = Math.min(Math.max(time, 0), heard.seconds);
  if (time < view.start || time > view.start + view.span) lookAt(time - view.span / 10);
  draw();
}

function listenTo(track) {
  if (track === heard) return;
  const [time, wasPlaying] = [now(), isPlaying()];
  heard.audio.pause();
  heard = track;
  seek(time);
  if (wasPlaying) play();
  markHeard();
  announce(`Chosen: ${heard.title}`);
}

function markHeard() {
  for (const each of tracks) {
    each.element.classList.toggle("heard", each === heard);
    if (tracks.length > 1) each.element.querySelector(".name").setAttribute("aria-pressed", each === heard);
  }
  byId("skip").hidden = !heard.prime;
}

// --- pictures -------------------------------------------------------------------------------------------------------
function setTheme() {
  // A sandboxed frame cannot see the page around it. That page passes on its theme by the height of the frame.
  const extra = innerHeight - height;
  const dark = extra > 12 ? true : extra > 4 ? false : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  Object.assign(colours, themeColours());
}

function scalesOf(track) {
  return scales(view, track.canvas.clientWidth, track.canvas.clientHeight, hasPedal);
}

function paint(track) {  // everything that does not move, cached as a picture
  const [pen, width, height] = fit(track.canvas);
  paintRoll(pen, width, height, scalesOf(track), track, view, colours);
  track.picture = document.createElement("canvas");
  [track.picture.width, track.picture.height] = [track.canvas.width, track.canvas.height];
  track.picture.getContext("2d").drawImage(track.canvas, 0, 0);
}

function draw() {
  if (!tracks[0].picture) return;
  const time = now(), ratio = devicePixelRatio || 1;
  for (const track of tracks) {
    const pen = track.canvas.getContext("2d"), scale = scalesOf(track), sounding = soundingAt(track, time);
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(track.picture, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    paintSounding(pen, scale, track, view, sounding, colours);
    const inView = view.start - 0.01 <= time && time <= view.start + view.span + 0.01;
    track.playhead.style.transform = `translateX(${scale.x(time)}px)`;
    track.playhead.style.visibility = inView ? "visible" : "hidden";
    track.playhead.dataset.seconds = time.toFixed(3);
    track.canvas.setAttribute("aria-valuenow", time.toFixed(1));
    track.canvas.setAttribute("aria-valuetext", `${time.toFixed(1)} seconds`);
    if (track === heard) drawKeyboard(new Set(sounding.map(note => note[0])));
  }
  player.dataset.seconds = time.toFixed(3);
  byId("time").textContent = `${clock(time)} / ${clock(seconds)}`;
}

function drawKeyboard(lit) {
  const [pen, width, height] = fit(keyboard);
  paintKeyboard(pen, width, height, lit, colours);
  keyboard.dataset.sounding = [...lit].join(" ");
}

const clock = time => `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;

function repaint() {
  if (!tracks[0].canvas.clientWidth) return;  // hidden, or not laid out yet
  setTheme();
  tracks.forEach(paint);
  draw();
  player.dataset.ready = "yes";
}

function lookAt(start) {
  view.start = Math.min(Math.max(start, 0), seconds - view.span);
  tracks.forEach(paint);
}

function zoom(factor) {
  view.span = Math.min(Math.max(view.span * factor, Math.min(2, seconds)), seconds);
  byId("out").disabled = view.span >= seconds;
  lookAt(now() - view.span / 4);
  draw();
}

function follow() {
  if (now() > view.start + 0.9 * view.span && view.start + view.span < seconds) lookAt(now() - view.span / 10);
  draw();
  if (isPlaying()) requestAnimationFrame(follow);
}

// --- files ----------------------------------------------------------------------------------------------------------
function download(bytes, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function wavOf(track) {
  const sound = await new OfflineAudioContext(1, 1, track.rate).decodeAudioData(bytesOf(track.mp3).buffer);
  const samples = Int16Array.from(sound.getChannelData(0), value => Math.max(-1, Math.min(1, value)) * 32767);
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, word) => [...word].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF"), text(8, "WAVEfmt "), text(36, "data");
  for (const [at, value] of [[4, 36 + samples.byteLength], [16, 16], [24, track.rate], [28, 2 * track.rate],
    [40, samples.byteLength]]) header.setUint32(at, value, true);
  for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) header.setUint16(at, value, true);
  return new Blob([header, samples]);
}

// --- input ----------------------------------------------------------------------------------------------------------
function build(track) {
  track.element = byId("track").content.cloneNode(true).firstElementChild;
  const find = id => track.element.querySelector(`[data-testid="${id}"]`);
  track.audio = new Audio(URL.createObjectURL(new Blob([bytesOf(track.mp3)], { type: "audio/mpeg" })));
  [track.canvas, track.playhead] = [find("roll"), find("playhead")];
  find("title").textContent = track.title || "untitled";
  track.element.querySelector(".facts").textContent = `${track.notes.length} notes, ${clock(track.frames / track.fps)}`;
  track.canvas.setAttribute("aria-label", `position in ${track.title || "the piece"}`);
  find("midi").setAttribute("aria-label", `save ${track.title || "the piece"} as MIDI`);
  find("wav").setAttribute("aria-label", `save ${track.title || "the piece"} as WAV`);
  track.canvas.setAttribute("aria-valuemin", 0);
  track.canvas.setAttribute("aria-valuemax", seconds);
  const name = track.title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 80) || "piano-roll";
  find("midi").onclick = () => download(bytesOf(track.midi), "audio/midi", `${name}.mid`);
  find("wav").onclick = async () => download(await wavOf(track), "audio/wav", `${name}.wav`);
  find("listen").onclick = () => listenTo(track);
  if (tracks.length === 1) find("listen").disabled = true;
  for (const event of ["pointerdown", "pointermove"]) track.canvas.addEventListener(event, ({ offsetX, buttons, pointerId }) => {
    if (!(buttons & 1)) return;
    if (event === "pointerdown") track.canvas.setPointerCapture(pointerId);
    listenTo(track);
    seek(scalesOf(track).time(offsetX));
  });
  track.canvas.addEventListener("wheel", event => {
    if (view.span >= seconds || !event.deltaX) return;
    event.preventDefault();
    lookAt(view.start + event.deltaX / track.canvas.clientWidth * view.span);
    draw();
  });
  for (const event of ["play", "pause", "ended"]) track.audio.addEventListener(event, () => {
    if (track !== heard) return;
    player.dataset.state = isPlaying() ? "playing" : "paused";
    byId("play").setAttribute("aria-label", isPlaying() ? "pause" : "play");
    announce(isPlaying() ? `Playing ${heard.title}` : `Paused at ${clock(now())}`);
    follow();
  });
  track.audio.addEventListener("seeked", draw);
  player.insertBefore(track.element, keyboard);
}

for (const name of ["now", "prime"]) document.documentElement.style.setProperty(`--${name}`, music[name]);
byId("velocity").style.setProperty("--colours", [0, 31, 63, 95, 126].map(each => music.velocity[each]));
document.documentElement.style.setProperty("--roll-height", `${rollHeight}px`);
tracks.forEach(build);
player.classList.toggle("several", tracks.length > 1);
markHeard();
byId("hint").textContent = "space: play or pause, arrows: 5 s back or forward, click: jump"
  + (tracks.length > 1 ? `, 1 to ${tracks.length}: choose a piece` : "");
byId("skip").onclick = () => seek(heard.prime / heard.fps);
const volume = byId("volume").querySelector("input");
volume.oninput = () => tracks.forEach(track => { track.audio.volume = volume.value; });
byId("play").onclick = () => isPlaying() ? heard.audio.pause() : play();
byId("in").onclick = () => zoom(1 / 2);
byId("out").onclick = () => zoom(2);
byId("out").disabled = true;
document.addEventListener("click", event => { if (event.detail) event.target.closest("button")?.blur(); });  // after a mouse click only
document.addEventListener("keydown", event => {
  if (event.target === volume && event.key !== " ") return;  // the arrows set the volume
  const moves = { ArrowLeft: now() - 5, ArrowRight: now() + 5, Home: 0, End: heard.seconds };
  if (event.key === " " && event.target.closest("button")) return;  // the focused button reacts to it
  if (event.key === " ") byId("play").click();
  else if (event.key in moves) seek(moves[event.key]);
  else if (tracks.length > 1 && tracks[event.key - 1]) listenTo(tracks[event.key - 1]);
  else return;
  event.preventDefault();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
new ResizeObserver(repaint).observe(document.documentElement);
