// How far ahead of what is heard changes are made. It grows at once where sound comes late, and comes down again: soon
// after a disturbance that was the only one, later where the last descent was too early. What it has come down is made
// behind it for a while, so that as much sound is ready as before.

const LEAST = 0.01; // seconds ahead of what is heard at which changes are made, at least,
const MOST = 0.6; // and at most
const SPARE = 0.004; // seconds more than the device takes at once
const GROWTH = 1.5; // the factor by which it grows when sound came later than a change may, or there was a gap,
const GROW_AFTER = 0.25; // but not before so many seconds: what comes late comes several times at once
const CALM = 5; // seconds without trouble before it comes down, twice as many where it had come down too early,
const MOST_CALM = 40; // the most that these become, and the seconds at the bottom after which they are as at first
const STEP = 1; // seconds from one step down to the next
const WARM_UP = 0.05; // seconds that are made ahead at first, when everything is slower than later,
const WARM_AFTER = 0.3; // and the seconds of sound after which that is over

export class Lead {
  // rate, block: samples a second, and at a time. burst: seconds that the device takes at once. chosen: seconds that
  // the listener has chosen, or null. rewinds: whether sound can be made behind it; where none can, gaps are nearer,
  // and it comes down late. changed: called when it has grown or come down.
  constructor({ rate, block, burst, chosen, rewinds, changed }) {
    Object.assign(this, { rate, block, chosen, changed });
    this.shortest = Math.max(LEAST, burst + SPARE);
    this.samples = this.peak = this.whole(Math.max(chosen ?? WARM_UP, this.shortest));
    [this.leastCalm, this.step] = rewinds ? [CALM, STEP] : [MOST_CALM, MOST_CALM];
    this.warm = false;
    this.growAt = 0; // what must be played before it grows again,
    this.shrinkAt = WARM_AFTER * rate; // and before it comes down
    this.calm = this.leastCalm;
    this.descended = false; // whether it came down since the last trouble
  }

  get seconds() {
    return this.samples / this.rate;
  }

  // This is how many samples it has come down since it was highest.
  get descent() {
    return this.peak - this.samples;
  }

  // seconds: what the listener has chosen, or null.
  choose(seconds) {
    this.chosen = seconds;
    this.set(Math.max(seconds ?? 0, this.shortest));
    this.peak = this.samples;
  }

  // So many samples were played, and since the last call all sound came in time, or some did not.
  heard(played, inTime) {
    if (this.chosen !== null) return;
    if (!this.warm && played > this.shrinkAt) this.cool(played);
    else if (!inTime) this.grow(played);
    else if (played > this.shrinkAt) this.shrink(played);
  }

  grow(played) {
    if (this.descended) this.calm = Math.min(MOST_CALM, 2 * this.calm);
    this.descended = false;
    if (this.warm) this.shrinkAt = played + this.calm * this.rate;
    if (played < this.growAt) return;
    this.growAt = played + GROW_AFTER * this.rate;
    this.set(Math.min(MOST, GROWTH * this.seconds));
  }

  // The first moments are over. What was late in them says nothing, so the lead becomes the shortest.
  cool(played) {
    this.warm = true;
    this.set(this.shortest);
    this.peak = this.samples;
    this.shrinkAt = played + this.calm * this.rate;
  }

  // The lead comes down by a step. After long calm at the bottom it is forgotten how high it was.
  shrink(played) {
    const before = this.samples;
    const lower = Math.min(this.seconds / GROWTH, (this.samples - this.block) / this.rate); // by a block at least
    this.set(Math.max(this.shortest, lower));
    this.descended = this.descended || this.samples < before;
    const bottom = this.samples === this.whole(this.shortest);
    if (this.samples === before) {
      this.calm = this.leastCalm;
      this.peak = this.samples;
    }
    this.shrinkAt = played + (bottom ? MOST_CALM : this.step) * this.rate;
  }

  whole(seconds) {
    return this.block * Math.ceil((seconds * this.rate) / this.block);
  }

  set(seconds) {
    const samples = this.whole(seconds);
    if (samples === this.samples) return;
    this.samples = samples;
    this.peak = Math.max(this.peak, samples);
    this.changed();
  }
}
