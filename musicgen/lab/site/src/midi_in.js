// Notes from connected MIDI keyboards (Web MIDI).

/** Call `play(pitch, velocity)` for each note, with velocity 0 for a release; return the names of the keyboards. */
export async function listenToMidi(play) {
  if (!navigator.requestMIDIAccess) throw new Error("This browser has no access to MIDI keyboards.");
  const refuse = () => { throw new Error("Access to MIDI keyboards was refused."); };
  const access = await navigator.requestMIDIAccess().catch(refuse);
  const inputs = [...access.inputs.values()];
  if (!inputs.length) throw new Error("No MIDI keyboard is connected.");
  for (const input of inputs) {
    input.onmidimessage = ({ data: [status, pitch, velocity] }) => {
      const kind = status & 0xf0; // without the channel
      if (kind === 0x90 || kind === 0x80) play(pitch, kind === 0x90 ? velocity : 0);
    };
  }
  return inputs.map((input) => input.name).join(" and ");
}
