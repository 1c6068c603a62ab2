// The pictures of the sound: its waveform and its spectrogram, the newest at the right, drawn only while they are seen.
import { Spectrum, palette } from "./spectrum.js";

const SECONDS = 6; // of sound across a picture
const COLUMNS = 480;
const ROWS = 128; // of the spectrogram
const PAUSE = 30; // milliseconds between two pictures at least, which leaves a slow machine time for the sound
const CALM = 2000; // and for those who want less motion

export class Pictures {
  constructor(waveform, spectrogram) {
    this.waveform = waveform;
    this.spectrogram = spectrogram;
    Object.assign(spectrogram, { width: COLUMNS, height: ROWS });
    this.image = new ImageData(COLUMNS, ROWS);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.low = new Float32Array(COLUMNS); // of each column: its lowest sample,
    this.high = new Float32Array(COLUMNS); // its highest,
    this.strengths = Array.from({ length: COLUMNS }, () => new Uint8Array(ROWS)); // and how strong its frequencies are
    this.calm = matchMedia("(prefers-reduced-motion: reduce)");
    this.seen = true;
    new IntersectionObserver(([entry]) => {
      this.seen = entry.isIntersecting;
      this.refresh();
    }).observe(spectrogram);
    new ResizeObserver(() => this.refresh()).observe(waveform);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.refresh(true));
    this.clear(8000);
  }

  clear(rate) {
    this.hop = Math.round((rate * SECONDS) / COLUMNS);
    this.spectrum = new Spectrum(2 ** Math.max(5, Math.round(Math.log2(rate / 32))), ROWS);
    this.recent = new Float32Array(this.spectrum.size);
    this.count = this.columns = 0;
    this.lowest = this.highest = 0; // of the column that is not full yet
    this.low.fill(0);
    this.high.fill(0);
    for (const strengths of this.strengths) strengths.fill(0);
    this.refresh(true);
  }

  append(samples) {
    const { recent, hop } = this;
    for (const sample of samples) {
      recent[this.count % recent.length] = sample;
      this.lowest = Math.min(sample, this.lowest);
      this.highest = Math.max(sample, this.highest);
      this.count += 1;
      if (this.count % hop === 0) this.finish(sample);
    }
    this.refresh();
  }

  // last: the column's last sample, from which the next one goes on.
  finish(last) {
    const { recent, count } = this;
    const column = this.columns % COLUMNS;
    this.spectrum.measure((i) => recent[(count + i) % recent.length], this.strengths[column]);
    this.low[column] = this.lowest;
    this.high[column] = this.highest;
    this.lowest = this.highest = last;
    this.columns += 1;
  }

  // Draws at the next occasion, once, where there is something to see.
  refresh(recolour = false) {
    if (recolour) this.colours = null;
    if (this.due || !this.seen || document.hidden) return;
    this.due = true;
    const pause = Math.max(0, (this.drawnAt ?? 0) + (this.calm.matches ? CALM : PAUSE) - performance.now());
    setTimeout(() => requestAnimationFrame(() => {
      this.due = false;
      this.drawnAt = performance.now();
      this.draw();
    }), pause);
  }

  draw() {
    if (!this.colours) {
      const style = getComputedStyle(document.documentElement);
      this.colours = ["--card", "--tint", "--accent", "--ink"].map((name) => style.getPropertyValue(name).trim());
      this.palette = palette(this.colours);
    }
    this.drawSpectrogram();
    this.drawWaveform();
  }

  drawSpectrogram() {
    for (let x = 0; x < COLUMNS; x++) {
      const strengths = this.strengths[(this.columns + x) % COLUMNS];
      for (let y = 0; y < ROWS; y++) this.pixels[(ROWS - 1 - y) * COLUMNS + x] = this.palette[strengths[y]];
    }
    this.spectrogram.getContext("2d").putImageData(this.image, 0, 0);
  }

  drawWaveform() {
    const { waveform } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(waveform.clientWidth * scale), Math.round(waveform.clientHeight * scale)];
    if (waveform.width !== width || waveform.height !== height) Object.assign(waveform, { width, height });
    const context = waveform.getContext("2d");
    const thick = width / COLUMNS;
    context.clearRect(0, 0, width, height);
    context.fillStyle = this.colours[2];
    for (let x = 0; x < COLUMNS; x++) {
      const column = (this.columns + x) % COLUMNS;
      const top = (height * (1 - this.high[column])) / 2;
      const bottom = (height * (1 - this.low[column])) / 2;
      const left = Math.floor(x * thick); // whole pixels, or edges of neighbours would show as stripes
      context.fillRect(left, top - scale / 2, Math.floor((x + 1) * thick) - left, Math.max(scale, bottom - top));
    }
  }
}
