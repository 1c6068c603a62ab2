// What is heard, sample by sample: a ring buffer between the samples that arrive and the blocks that a device asks for.
// It knows nothing of the page, so a worklet runs it, and the page itself where a browser gives it no worklet.

const SECONDS = 4; // which the ring buffer holds; the server is never asked for more than a fraction of it
const FADE = 0.004; // seconds in which sound comes back after a gap, and a last sample dies away before one
const LEFT = Math.exp(-5); // of a last sample after that time: nothing that is heard
const REPORT = 1 / 60; // seconds of sound that are told to the page at once: one picture of most screens

export class Playback {
  // tell: called with what the page should know: samples that were played, gaps, and which change is heard now.
  // ask: called where more sound is wanted, with {played, underruns, late, slow}: the gaps, how often old sound was heard
  // because new sound that takes its place came late, and how often that would have been so if it were a change that came.
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
    this.played = this.filled = this.readAt = 0;
    this.underruns = this.late = this.slow = 0;
    this.end = 0; // of the newest sound; behind it may be old sound, whose place will be taken
    this.old = false; // whether such old sound is heard
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

  // Samples for positions that others have come for already take their place. Where the old ones were heard, because
  // these came late, the sound jumps to what is left of these. since: what was played when they were asked for.
  receive({ position, id, samples, since }) {
    if (!this.active) return;
    if (this.running && this.played - since > this.lead) this.slow += 1;
    const missed = Math.min(samples.length, Math.max(0, this.played - position));
    if (missed) this.hearOld(true);
    this.end = position + samples.length;
    const [fresh, before] = [samples.subarray(missed), position + missed - this.played];
    if (!fresh.length || before + fresh.length > this.ring.length) return;
    if (id !== this.id) this.marks.push([position + missed, id]);
    this.id = id;
    const writeAt = (this.readAt + before) % this.ring.length;
    const first = Math.min(fresh.length, this.ring.length - writeAt);
    this.ring.set(fresh.subarray(0, first), writeAt);
    this.ring.set(fresh.subarray(first), 0);
    this.filled = Math.max(this.filled, before + fresh.length);
  }

  // Fills a block for the device. Where samples are missing there is silence, which is counted.
  render(output) {
    if (this.active && !this.running) this.running = this.filled >= Math.max(this.lead, output.length);
    const count = this.running ? Math.min(output.length, this.filled) : 0;
    const step = 1 / (FADE * this.rate);
    for (let i = 0; i < output.length; i++) {
      if (i === count || (i < count && this.hearOld(this.played >= this.end))) this.fade();
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

  // Notes whether old sound is heard. Returns whether that changes, so that the sound does not go on where it was.
  hearOld(old) {
    const changes = old !== this.old;
    if (changes && old) this.late += 1;
    this.old = old;
    return changes;
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
    const { play, played, underruns, late, slow } = this;
    this.ask({ play, played, underruns, late, slow });
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
    const { play, underruns, late } = this;
    const samples = this.chunk.slice(0, this.kept);
    this.tell({ is: "played", play, position: this.played - this.kept, samples, underruns, late });
    this.kept = 0;
  }
}
