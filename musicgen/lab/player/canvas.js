"use strict";
// Drawing a piano roll and a keyboard on a canvas. The player in the notebooks and the page that composes share it.
// A track has `notes` as [pitch, velocity, start frame, end frame], `fps`, and optionally `prime` (frames), `beats` as
// [seconds, is a downbeat] and `pedal` as [start frame, end frame]. A view has `start` and `span` in seconds, and the
// pitches `low` and `high`. `colours` names colours; `colours.velocity[i]` is that of velocity i + 1.
const MARGIN = { left: 38, right: 6, axis: 20, pedal: 12 };  // pixels
const STRIP = 8;  // height of the pedal strip
const CLOSEST = 5;  // pixels between two beats that are drawn
const [LOWEST, HIGHEST] = [21, 108];  // the pitches of a piano
const BLACK = new Set([1, 3, 6, 8, 10]);
const FONT = "system-ui, 'DejaVu Sans', sans-serif";
const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300];  // between two labels of the time axis

/** Fit a canvas to its size on the screen; return its pen, and width and height in CSS pixels. */
function fit(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return [pen, width, height];
}

/** The colours that the theme of the page sets, by name. */
function themeColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ground", "ink", "faint", "line", "row", "white-key", "black-key"];
  return Object.fromEntries(names.map(name => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** The visible pitches of some tracks: two more than are played on each side, and at least an octave. */
function pitchRange(tracks) {
  const pitches = tracks.flatMap(track => track.notes.map(note => note[0]));
  return { low: Math.max(LOWEST, Math.min(55, ...pitches) - 2), high: Math.min(HIGHEST, Math.max(67, ...pitches) + 2) };
}

/** Functions between seconds and pitches, and pixels. */
function scales(view, width, height, hasPedal) {
  const bottom = height - MARGIN.axis - (hasPedal ? MARGIN.pedal : 0);
  const wide = width - MARGIN.left - MARGIN.right;
  const row = bottom / (view.high - view.low + 1);
  return {
    row,
    bottom,
    x: time => MARGIN.left + (time - view.start) / view.span * wide,
    y: pitch => (view.high - pitch) * row,
    time: x => view.start + (x - MARGIN.left) / wide * view.span,
  };
}

/** Paint everything that does not move. */
function paintRoll(pen, width, height, scale, track, view, colours) {
  pen.font = `11px ${FONT}`;
  pen.fillStyle = colours.ground;
  pen.fillRect(0, 0, width, height);
  pen.save();
  pen.beginPath();
  pen.rect(MARGIN.left, 0, width - MARGIN.left, height);
  pen.clip();
  for (let pitch = view.low; pitch <= view.high; pitch++) {
    pen.fillStyle = colours.row;
    if (BLACK.has(pitch % 12)) pen.fillRect(MARGIN.left, scale.y(pitch), width, scale.row);
  }
  paintTimes(pen, width, height, scale, track, view, colours);
  if (track.prime) paintPrime(pen, scale, track.prime / track.fps, colours);
  paintBeats(pen, scale, track.beats ?? [], colours);
  for (const note of track.notes) {
    if (note[3] / track.fps < view.start) continue;
    pen.fillStyle = colours.velocity[note[1] - 1];
    paintNote(pen, scale, track.fps, note);
  }
  pen.fillStyle = colours.pedal;
  for (const [start, end] of track.pedal ?? []) {
    const left = scale.x(start / track.fps);
    pen.fillRect(left, scale.bottom + 4, scale.x(end / track.fps) - left, STRIP);
  }
  pen.restore();
  paintPitches(pen, width, scale, track, view, colours);
}

function paintTimes(pen, width, height, scale, track, view, colours) {
  const step = SECONDS.find(s => s / view.span * (width - MARGIN.left) > 64) ?? SECONDS.at(-1);
  pen.textAlign = "center";
  for (let i = Math.ceil(view.start / step); i * step <= view.start + view.span + 1e-6; i++) {
    const x = scale.x(i * step);
    pen.fillStyle = colours.line;
    if (!track.beats) pen.fillRect(x - 0.5, 0, 1, scale.bottom);
    pen.fillStyle = colours.faint;
    const text = step < 1 ? (i * step).toFixed(1) : String(i * step);
    const inside = Math.min(Math.max(x, MARGIN.left + 12), width - MARGIN.right - 14);
    pen.fillText(`${text} s`, inside, height - 6);
  }
}

function paintPitches(pen, width, scale, track, view, colours) {
  pen.textAlign = "right";
  pen.fillStyle = colours.faint;
  if (track.pedal) pen.fillText("pedal", MARGIN.left - 4, scale.bottom + 11);
  for (let pitch = Math.ceil(view.low / 12) * 12; pitch <= view.high; pitch += 12) {
    pen.fillStyle = colours.line;
    pen.fillRect(MARGIN.left - 4, scale.y(pitch) + scale.row - 0.5, width - MARGIN.left - MARGIN.right + 4, 1);
    pen.fillStyle = colours.faint;
    pen.fillText(`C${pitch / 12 - 1}`, MARGIN.left - 8, Math.max(scale.y(pitch) + scale.row / 2 + 4, 10));
  }
}

function paintNote(pen, scale, fps, [pitch, , start, end]) {
  const left = Math.max(scale.x(start / fps), MARGIN.left);
  const wide = Math.max(scale.x(end / fps) - left - 0.6, 1.6);
  const tall = Math.max(scale.row - 0.6, 1.6);
  pen.beginPath();
  pen.roundRect(left, scale.y(pitch), wide, tall, Math.min(2, tall / 2));
  pen.fill();
}

function paintBeats(pen, scale, beats, colours) {
  for (const strong of [0, 1]) {
    const times = beats.filter(([, downbeat]) => !strong || downbeat).map(([time]) => time);
    const apart = (times.at(-1) - times[0]) / (times.length - 1) * (scale.x(1) - scale.x(0));
    if (!(apart >= CLOSEST)) continue;
    pen.fillStyle = colours.beat;
    pen.globalAlpha = strong ? 0.6 : 0.3;
    for (const time of times) pen.fillRect(scale.x(time) - 0.5, 0, 1, scale.bottom);
  }
  pen.globalAlpha = 1;
}

function paintPrime(pen, scale, end, colours) {
  pen.fillStyle = colours.prime;
  pen.globalAlpha = 0.15;
  pen.fillRect(scale.x(0), 0, scale.x(end) - scale.x(0), scale.bottom);
  pen.globalAlpha = 1;
  pen.fillRect(scale.x(end) - 1, 0, 2, scale.bottom);
  pen.textAlign = "left";
  pen.fillStyle = colours.ink;
  if (scale.x(end) > MARGIN.left) pen.fillText("prime", Math.max(scale.x(0), MARGIN.left) + 6, 13);
}

function soundingAt(track, time) {
  return track.notes.filter(([, , start, end]) => start / track.fps <= time && time < end / track.fps);
}

/** Light up the notes that sound. */
function paintSounding(pen, scale, track, view, notes, colours) {
  pen.fillStyle = pen.shadowColor = colours.now;
  pen.shadowBlur = 8;
  for (const note of notes) if (note[3] / track.fps > view.start) paintNote(pen, scale, track.fps, note);
  pen.shadowBlur = 0;
}

/** Paint a piano keyboard of 88 keys; those of the pitches in the set `lit` are coloured. */
function paintKeyboard(pen, width, height, lit, colours) {
  const wide = width / 52;
  let nWhite = 0;
  const keys = [];
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
    const isBlack = BLACK.has(pitch % 12);
    keys.push({ pitch, isBlack, x: (isBlack ? nWhite - 0.3 : nWhite) * wide });
    if (!isBlack) nWhite++;
  }
  const ordered = [...keys.filter(key => !key.isBlack), ...keys.filter(key => key.isBlack)];
  for (const { pitch, isBlack, x } of ordered) {
    const own = isBlack ? colours["black-key"] : colours["white-key"];
    pen.fillStyle = lit.has(pitch) ? colours.now : own;
    pen.strokeStyle = isBlack ? colours["black-key"] : colours.line;
    pen.beginPath();
    pen.roundRect(x + 0.5, 0.5, (isBlack ? 0.6 : 1) * wide - 0.5, (isBlack ? 0.62 : 1) * height - 1, [0, 0, 3, 3]);
    pen.fill();
    pen.stroke();
    if (pitch % 12 || wide < 12) continue;
    pen.fillStyle = lit.has(pitch) ? "#ffffff" : "#5c6670";
    pen.font = `9px ${FONT}`;
    pen.textAlign = "center";
    pen.fillText(`C${pitch / 12 - 1}`, x + wide / 2, height - 6);
  }
}

export { LOWEST, HIGHEST, MARGIN, fit, paintKeyboard, paintRoll, paintSounding, pitchRange, scales, soundingAt, themeColours };
