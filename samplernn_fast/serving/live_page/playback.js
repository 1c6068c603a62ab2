// What is heard, sample by sample: a ring buffer between the samples that arrive and the blocks that a device asks for.
// It knows nothing of the page, so a worklet runs it, and the page itself where a browser gives it no worklet.

const SECONDS = 4; // which the ring buffer holds; the server is never asked for more than a fraction of it
const FADE = 0.004; // seconds in which sound comes back after a gap, and a last sample dies away before one
const LEFT = Math.exp(-5); // of a last sample after that time: nothing that is heard
const REPORT = 1 / 60; // seconds of sound that are told to the page at once: one picture of most screens

export class Playback {
  // tell: called with what the page should know: samples that were played, gaps, and which change is heard now.
  // ask: called where more sound is wanted, with {played, underruns}.
  constructor(rate, tell, ask) {
    this.rate = rate;
    this.tell = tell;
    this.ask = ask;
    this.ring = new Float32Array(SECONDS * rate);
    this.chunk = new Float32Array(Math.ceil(REPORT * rate));
    this.decay = LEFT ** (1 / (FADE * rate));
    this.tail = 0; // of the last sample before a gap, which dies away
    this.last = this.gain = this.kept = 0;
    this.halt();
  }

  // Forgets all sound; what was heard last dies away instead of breaking off.
  halt() {
    if (this.kept) this.flush();
    this.fade();
    this.active = false;
    this.running = false; // whether samples are taken: at first, and after a gap, not before `lead` are there
    this.played = this.filled = this.readAt = this.writeAt = 0;
    this.underruns = 0;
    this.marks = []; // from where on which change holds: [position, id]
    this.id = 0;
    this.askedAt = 0;
  }

  begin({ block, lead, play }) {
    this.halt();
    this.active = true;
    Object.assign(this, { block, lead, play });
  }

  setLead({ lead }) {
    this.lead = lead;
  }

  receive({ position, id, samples }) {
    if (!this.active || this.filled + samples.length > this.ring.length) return;
    if (id !== this.id) this.marks.push([position, id]);
    this.id = id;
    const first = Math.min(samples.length, this.ring.length - this.writeAt);
    this.ring.set(samples.subarray(0, first), this.writeAt);
    this.ring.set(samples.subarray(first), 0);
    this.writeAt = (this.writeAt + samples.length) % this.ring.length;
    this.filled += samples.length;
  }

  // Fills a block for the device. Where samples are missing there is silence, which is counted.
  render(output) {
    if (this.active && !this.running) this.running = this.filled >= Math.max(this.lead, output.length);
    const count = this.running ? Math.min(output.length, this.filled) : 0;
    const step = 1 / (FADE * this.rate);
    for (let i = 0; i < output.length; i++) {
      if (i === count) this.fade();
      this.tail *= this.decay;
      output[i] = this.tail;
      if (i >= count) continue;
      this.last = this.ring[this.readAt];
      this.readAt = (this.readAt + 1) % this.ring.length;
      this.gain = Math.min(1, this.gain + step);
      output[i] += this.gain * this.last;
      this.keep(this.last);
    }
    this.filled -= count;
    this.hear(count);
    const missing = this.running && count < output.length;
    if (missing) this.miss();
    this.wantMore(missing);
  }

  // The last sample dies away.
  fade() {
    this.tail += this.gain * this.last;
    this.last = this.gain = 0;
  }

  // A gap: sound goes on when enough samples are there again.
  miss() {
    this.running = false;
    this.underruns += 1;
    this.flush();
  }

  wantMore(missing) {
    if (!missing && this.played - this.askedAt < this.block) return;
    if (!this.active) return;
    this.askedAt = this.played - (this.played % this.block);
    this.ask({ play: this.play, played: this.played, underruns: this.underruns });
  }

  // Says which changes begin to be heard in the `count` samples that were just taken, and when.
  hear(count) {
    while (this.marks.length && this.marks[0][0] < this.played) {
      const [position, id] = this.marks.shift();
      const late = (position - (this.played - count)) / this.rate;
      this.tell({ is: "heard", id, at: Date.now() + 1000 * late });
    }
  }

  keep(sample) {
    this.chunk[this.kept++] = sample;
    this.played += 1;
    if (this.kept === this.chunk.length) this.flush();
  }

  flush() {
    const { play, underruns } = this;
    const samples = this.chunk.slice(0, this.kept);
    this.tell({ is: "played", play, position: this.played - this.kept, samples, underruns });
    this.kept = 0;
  }
}
