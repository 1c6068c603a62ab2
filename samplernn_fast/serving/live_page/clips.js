// The sound that was played last, and files made of it.

const SECONDS = 30;

// The samples that were played last, as the model made them: gaps, fades and the volume are not in them.
export class History {
  constructor() {
    this.clear(0);
  }

  clear(rate) {
    this.rate = rate;
    this.ring = new Float32Array(SECONDS * rate);
    this.end = 0; // the position behind the last sample
    this.begin = 0;
  }

  // samples: at most as many as are kept.
  append(position, samples) {
    const size = this.ring.length;
    const at = position % size;
    const first = Math.min(samples.length, size - at);
    this.ring.set(samples.subarray(0, first), at);
    this.ring.set(samples.subarray(first), 0);
    this.end = position + samples.length;
    this.begin = Math.max(this.begin, this.end - size);
  }

  // {position, samples}: where the first of the samples stands in its stream, and all that are kept.
  take() {
    const samples = new Float32Array(this.end - this.begin);
    const at = this.begin % this.ring.length || 0;
    const first = Math.min(samples.length, this.ring.length - at);
    samples.set(this.ring.subarray(at, at + first));
    samples.set(this.ring.subarray(0, samples.length - first), first);
    return { position: this.begin, samples };
  }
}

// A WAV file of 32-bit floats, which keeps every sample as it is, or of 16-bit integers, which takes half.
export function wav(samples, rate, { bits = 32 } = {}) {
  const [header, width] = [44, bits / 8];
  const view = new DataView(new ArrayBuffer(header + samples.length * width));
  const words = (at, text) => [...text].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  words(0, "RIFF");
  view.setUint32(4, view.byteLength - 8, true);
  words(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, bits === 32 ? 3 : 1, true); // 3 are floats, 1 are integers
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, rate, true);
  view.setUint32(28, rate * width, true);
  view.setUint16(32, width, true);
  view.setUint16(34, bits, true);
  words(36, "data");
  view.setUint32(40, samples.length * width, true);
  samples.forEach((sample, i) => {
    if (bits === 32) view.setFloat32(header + 4 * i, sample, true);
    else view.setInt16(header + 2 * i, Math.round(32767 * Math.max(-1, Math.min(1, sample))), true);
  });
  return new Blob([view], { type: "audio/wav" });
}

// What the server says of a request that it refuses, in one line.
export async function refusal(response) {
  try {
    return (await response.json()).detail;
  } catch {
    return `The server answered ${response.status} ${response.statusText}.`;
  }
}

// Asks the server, at an address below the page's own with its query, for instance a token.
export async function post(path, body, query = {}) {
  const search = new URLSearchParams([...new URLSearchParams(location.search), ...Object.entries(query)]);
  let response;
  try {
    response = await fetch(`${path}?${search}`, { method: "POST", body });
  } catch {
    throw new Error("The server cannot be reached.");
  }
  if (!response.ok) throw new Error(await refusal(response));
  return response;
}

// A FLAC file, which the server makes.
export async function flac(samples, rate) {
  return (await post("api/flac", samples, { rate })).blob();
}

export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers begin late
}
