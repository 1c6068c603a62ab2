// How strong each frequency is in a piece of sound: a fast Fourier transform, and its picture's rows.

const LOWEST = -85; // decibels of a sine's amplitude that are shown as nothing
const HIGHEST = -20; // and as the most

export class Spectrum {
  // size: samples of a piece, a power of two. rows: into which its frequencies are gathered, the lowest first.
  constructor(size, rows) {
    this.size = size;
    this.rows = rows;
    this.real = new Float64Array(size);
    this.imaginary = new Float64Array(size);
    this.window = Float64Array.from({ length: size }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / size));
    this.cosines = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.sines = Float64Array.from({ length: size / 2 }, (_, i) => -Math.sin((2 * Math.PI * i) / size));
    const bits = Math.log2(size);
    this.reversed = Uint32Array.from({ length: size }, (_, i) => {
      let to = 0;
      for (let bit = 0; bit < bits; bit++) to |= ((i >> bit) & 1) << (bits - 1 - bit);
      return to;
    });
  }

  // Writes how strong each row is, from 0 to 255, into a Uint8Array. at(i): the i-th of the `size` samples.
  measure(at, into) {
    const { size, rows, real, imaginary } = this;
    for (let i = 0; i < size; i++) {
      real[this.reversed[i]] = at(i) * this.window[i];
      imaginary[i] = 0;
    }
    this.transform();
    for (let row = 0; row < rows; row++) {
      let power = 0;
      const [first, behind] = [Math.floor((row * size) / 2 / rows), Math.ceil(((row + 1) * size) / 2 / rows)];
      for (let bin = first; bin < behind; bin++) power = Math.max(power, real[bin] ** 2 + imaginary[bin] ** 2);
      const decibels = 10 * Math.log10(power + 1e-20) - 20 * Math.log10(size / 4);
      into[row] = 255 * Math.max(0, Math.min(1, (decibels - LOWEST) / (HIGHEST - LOWEST)));
    }
  }

  // In place, from samples in the order of reversed bits.
  transform() {
    const { size, real, imaginary } = this;
    for (let half = 1; half < size; half *= 2) {
      const step = size / 2 / half;
      for (let begin = 0; begin < size; begin += 2 * half) {
        for (let k = 0; k < half; k++) {
          const [one, other] = [begin + k, begin + k + half];
          const [c, s] = [this.cosines[k * step], this.sines[k * step]];
          const re = real[other] * c - imaginary[other] * s;
          const im = real[other] * s + imaginary[other] * c;
          real[other] = real[one] - re;
          imaginary[other] = imaginary[one] - im;
          real[one] += re;
          imaginary[one] += im;
        }
      }
    }
  }
}

// 256 colours from nothing to the most, as pixels of an ImageData, through the given colours "#rrggbb". Where their
// brightness runs one way, the picture can be read without telling hues apart.
export function palette(colours) {
  const points = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (points.length - 1);
    const from = Math.min(points.length - 2, Math.floor(place));
    const mixed = points[from].map((value, part) => value + (place - from) * (points[from + 1][part] - value));
    return (255 << 24) | (mixed[2] << 16) | (mixed[1] << 8) | mixed[0];
  });
}
