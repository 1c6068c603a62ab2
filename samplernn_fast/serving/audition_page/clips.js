// Clips: fetched once, read, drawn as small spectrograms, and played.
import { Spectrum, palette } from "./spectrum.js";

const KEPT = 60; // clips in memory; others are fetched again
const FADE = 0.005; // seconds in which a clip begins and ends, so that no click is heard

// {samples, rate} of a WAV file of 16-bit samples and one channel.
function readWav(buffer) {
  const view = new DataView(buffer);
  let rate = 0;
  for (let at = 12; at + 8 <= view.byteLength; ) {
    const [name, size] = [view.getUint32(at), view.getUint32(at + 4, true)];
    if (name === 0x666d7420) rate = view.getUint32(at + 12, true); // "fmt "
    if (name === 0x64617461) { // "data"
      const count = Math.floor(Math.min(size, view.byteLength - at - 8) / 2);
      const samples = Float32Array.from({ length: count }, (_, i) => view.getInt16(at + 8 + 2 * i, true) / 32768);
      return { samples, rate };
    }
    at += 8 + size + (size % 2);
  }
  throw new Error("The clip is no WAV file.");
}

// Fetches clips, each once, and keeps the newest.
export class Clips {
  constructor(fetchClip) {
    this.fetchClip = fetchClip; // of a grid's name and a number in it: a promise of the file's bytes
    this.known = new Map(); // by the names of clips, which are the same in every grid
  }

  // The clip of a cell; told: what the server tells of its grid.
  get(told, number) {
    const name = told.clips[number];
    const found = this.known.get(name) ?? this.fetchClip(told.grid, number).then(readWav);
    this.known.delete(name);
    this.known.set(name, found);
    found.catch(() => this.known.delete(name));
    if (this.known.size > KEPT) this.known.delete(this.known.keys().next().value);
    return found;
  }
}

// Draws the spectrogram of a whole clip over a canvas.
export function draw(canvas, { samples, rate }) {
  const { width, height } = canvas;
  const style = getComputedStyle(document.documentElement);
  const colours = palette(["--card", "--tint", "--accent", "--ink"].map((name) => style.getPropertyValue(name).trim()));
  const spectrum = new Spectrum(2 ** Math.max(5, Math.round(Math.log2(rate / 32))), height);
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const strengths = new Uint8Array(height);
  for (let x = 0; x < width; x++) {
    const begin = Math.round(((x + 0.5) / width) * samples.length - spectrum.size / 2);
    spectrum.measure((i) => samples[begin + i] ?? 0, strengths);
    for (let y = 0; y < height; y++) pixels[(height - 1 - y) * width + x] = colours[strengths[y]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Plays one clip at a time.
export class Sound {
  constructor() {
    this.context = null;
    this.playing = null;
    this.volume = 1;
  }

  // A browser begins sound only while something is pressed, so this is called then.
  wake() {
    this.context ??= new AudioContext();
    if (this.context.state === "suspended") this.context.resume();
  }

  // ended: called when the clip has come to its end.
  play({ samples, rate }, gain, ended) {
    this.wake();
    this.stop();
    const { context } = this;
    const buffer = context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const [source, level] = [context.createBufferSource(), context.createGain()];
    source.buffer = buffer;
    source.connect(level).connect(context.destination);
    const now = context.currentTime;
    level.gain.setValueAtTime(0, now);
    level.gain.linearRampToValueAtTime(gain * this.volume, now + FADE);
    source.onended = () => {
      if (this.playing?.source !== source) return;
      this.playing = null;
      ended();
    };
    source.start();
    this.playing = { source, level, gain, begin: now, seconds: buffer.duration };
  }

  stop() {
    if (!this.playing) return;
    const { source, level } = this.playing;
    this.playing = null;
    const now = this.context.currentTime;
    level.gain.cancelScheduledValues(now);
    level.gain.setTargetAtTime(0, now, FADE / 3);
    source.stop(now + 2 * FADE);
  }

  // Changes of the gain of what plays, and of the volume of all, from 0 to 1.
  setGain(gain) {
    if (!this.playing) return;
    this.playing.gain = gain;
    this.level();
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.playing) this.level();
  }

  level() {
    const { level, gain } = this.playing;
    level.gain.setTargetAtTime(gain * this.volume, this.context.currentTime, 0.01);
  }

  // How much of the clip was played, from 0 to 1.
  get place() {
    if (!this.playing) return 0;
    return Math.min(1, (this.context.currentTime - this.playing.begin) / this.playing.seconds);
  }
}
