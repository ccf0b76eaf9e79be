// A piano to be played by mouse, finger or computer keys, which records what is played. Loads nothing from anywhere.

const FIRST = 48, LAST = 84; // C3 to C6
const NAMES = ["C", "C♯", "D", "D♯", "E", "F", "F♯", "G", "G♯", "A", "A♯", "B"];
// Where C4 begins on a computer keyboard, by the places of its keys, so that the layout does not matter.
const PLACES = ["KeyA", "KeyW", "KeyS", "KeyE", "KeyD", "KeyF", "KeyT", "KeyG", "KeyY", "KeyH", "KeyU", "KeyJ", "KeyK",
  "KeyO", "KeyL", "KeyP", "Semicolon"];
const LETTERS = "AWSEDFTGYHUJKOLP;";
const TYPED_VELOCITY = 80;

const nameOf = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
const isBlack = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);

/** A plain tone of two partials that fades; the real sound comes from Python. */
function makeVoice() {
  let audio = null;
  return (pitch, velocity) => {
    audio ??= new AudioContext();
    const volume = audio.createGain(), now = audio.currentTime, hertz = 440 * 2 ** ((pitch - 69) / 12);
    volume.connect(audio.destination);
    volume.gain.setValueAtTime(0, now);
    volume.gain.linearRampToValueAtTime(0.25 * (velocity / 127) ** 1.5, now + 0.005);
    volume.gain.setTargetAtTime(0, now + 0.005, 0.5);
    const tones = [["triangle", 1], ["sine", 2]].map(([type, factor]) => {
      const tone = audio.createOscillator();
      tone.type = type;
      tone.frequency.value = hertz * factor;
      tone.connect(volume);
      tone.start(now);
      return tone;
    });
    return () => {
      volume.gain.setTargetAtTime(0, audio.currentTime, 0.06);
      tones.forEach((tone) => tone.stop(audio.currentTime + 0.5));
    };
  };
}

function button(text, className, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.className = className;
  made.addEventListener("click", act);
  return made;
}

function render({ model, el }) {
  const voice = makeVoice(), down = new Map(), keys = new Map(), held = new Set();
  let state = "idle", began = 0, notes = [], timer = 0;

  const root = document.createElement("div");
  root.className = "musicgen-keyboard";
  root.tabIndex = 0;
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "piano keyboard");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // else JupyterLab would take A, D and L as commands
  const told = document.createElement("span");
  told.className = "told";
  const status = document.createElement("span"); // for screen readers: it changes less often than what is seen
  status.className = "status";
  status.setAttribute("role", "status");
  const record = button("● Record", "record", () => (state === "idle" ? arm() : finish()));
  const bar = document.createElement("div");
  bar.className = "bar";
  bar.append(record, button("Clear", "clear", () => { notes = []; finish(); }), told, status);
  const piano = document.createElement("div");
  piano.className = "piano";
  root.append(bar, piano);
  el.append(root);

  const seconds = () => (performance.now() - began) / 1000;
  const tell = (text) => { told.textContent = text; };
  const announce = (text) => { status.textContent = text; };
  const tellNotes = () => {
    const played = model.get("notes");
    const end = Math.max(0, ...played.map((note) => note[3]));
    tell(played.length ? `${played.length} notes in ${end.toFixed(1)} s` : "Press Record, then play with the mouse, or click the piano and use the letters on its keys.");
  };

  function arm() {
    [state, notes] = ["armed", []];
    record.textContent = "■ Stop";
    root.classList.add("recording");
    root.focus();
    tell("Recording begins with the first note ...");
    announce(told.textContent);
  }

  function finish() {
    clearInterval(timer);
    if (state === "recording") [...down.keys()].forEach(release);
    state = "idle";
    record.textContent = "● Record";
    root.classList.remove("recording");
    model.set("notes", notes);
    model.save_changes();
    tellNotes();
    announce(told.textContent);
  }

  function strike(pitch, velocity) {
    if (down.has(pitch)) return;
    if (state === "armed") {
      [state, began] = ["recording", performance.now()];
      announce("Recording");
      timer = setInterval(() => {
        const left = model.get("seconds") - seconds();
        left > 0 ? tell(`recording, ${left.toFixed(1)} s left`) : finish();
      }, 100);
    }
    down.set(pitch, { velocity, start: seconds(), silence: voice(pitch, velocity) });
    keys.get(pitch)?.classList.add("down"); // a MIDI keyboard has more keys
  }

  function release(pitch) {
    const note = down.get(pitch);
    if (!note) return;
    down.delete(pitch);
    note.silence();
    keys.get(pitch)?.classList.remove("down");
    if (state === "recording") notes.push([pitch, note.velocity, note.start, Math.min(seconds(), model.get("seconds"))]);
  }

  /** Play a key that was pressed by the enter key or by a screen reader. */
  function tap(pitch) {
    strike(pitch, TYPED_VELOCITY);
    setTimeout(() => release(pitch), 300);
  }

  // The keys: white ones side by side, black ones over the gaps between them.
  const whites = [];
  for (let pitch = FIRST; pitch <= LAST; pitch++) if (!isBlack(pitch)) whites.push(pitch);
  for (let pitch = FIRST; pitch <= LAST; pitch++) {
    const key = button("", isBlack(pitch) ? "key black" : "key white", (event) => event.detail || tap(pitch)), place = pitch - 60;
    key.tabIndex = pitch === 60 ? 0 : -1; // one stop of the tab key; the arrows move on from there
    key.dataset.pitch = pitch;
    key.title = nameOf(pitch);
    key.setAttribute("aria-label", nameOf(pitch));
    const before = whites.filter((white) => white < pitch).length;
    key.style.left = `${(100 / whites.length) * (isBlack(pitch) ? before - 0.3 : before)}%`;
    key.style.width = `${(100 / whites.length) * (isBlack(pitch) ? 0.6 : 1)}%`;
    key.innerHTML = `<b>${LETTERS[place] ?? ""}</b>${pitch % 12 ? "" : `<i>C${pitch / 12 - 1}</i>`}`;
    keys.set(pitch, key);
    piano.append(key);
  }

  // One finger or mouse button holds one key; moved to another key, it plays that one. Lower on a key is louder.
  let touched = null;
  const touch = (event) => {
    const key = document.elementFromPoint(event.clientX, event.clientY)?.closest(".musicgen-keyboard .key");
    const pitch = key && piano.contains(key) ? Number(key.dataset.pitch) : null;
    if (pitch === touched) return;
    if (touched !== null) release(touched);
    touched = pitch;
    if (pitch === null) return;
    const box = key.getBoundingClientRect();
    strike(pitch, Math.round(40 + 70 * Math.min(1, Math.max(0, (event.clientY - box.top) / box.height))));
  };
  piano.addEventListener("pointerdown", (event) => {
    piano.setPointerCapture(event.pointerId);
    root.focus();
    touch(event);
  });
  piano.addEventListener("pointermove", (event) => event.buttons && touch(event));
  const lift = () => { if (touched !== null) release(touched); touched = null; };
  piano.addEventListener("pointerup", lift);
  piano.addEventListener("pointercancel", lift);

  root.addEventListener("keydown", (event) => {
    const from = Number(event.target.dataset.pitch), step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (from && step && keys.has(from + step)) {
      keys.get(from).tabIndex = -1;
      keys.get(from + step).tabIndex = 0;
      keys.get(from + step).focus();
      event.preventDefault();
    }
    const place = PLACES.indexOf(event.code);
    if (place < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    if (held.has(event.code)) return;
    held.add(event.code);
    strike(60 + place, TYPED_VELOCITY);
  });
  root.addEventListener("keyup", (event) => {
    if (held.delete(event.code)) release(60 + PLACES.indexOf(event.code));
  });
  root.addEventListener("focusout", (event) => {
    if (root.contains(event.relatedTarget)) return;
    held.clear();
    [...down.keys()].forEach(release);
  });

  // Notes from elsewhere, such as a MIDI keyboard: {detail: [pitch, velocity]}, velocity 0 for a release.
  el.addEventListener("note", ({ detail: [pitch, velocity] }) => (velocity ? strike(pitch, velocity) : release(pitch)));

  model.on("change:notes", tellNotes);
  tellNotes();
  return () => clearInterval(timer);
}

export default { render };
