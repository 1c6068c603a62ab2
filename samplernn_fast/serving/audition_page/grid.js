// The grid as the page shows it: a row for each checkpoint, a cell for each temperature and seed. It knows which cell
// has the focus and which are on the screen, and nothing of sound.

const WORDS = { waiting: "waiting", making: "making", failed: "failed", never: "not made" };

// Whether a cell has no clip and will have none: its checkpoint cannot be read, or went before the clip was made.
const isNever = ({ broken, gone, status }) => broken || (gone && status.state === "failed");

const shown = (name) => name.replace(/^step /, "Step ");

function make(tag, { role, text, name, label } = {}) {
  const made = document.createElement(tag);
  if (role) made.setAttribute("role", role);
  if (label) made.setAttribute("aria-label", label);
  if (text) made.textContent = text;
  if (name) made.className = name;
  if (tag === "button") made.type = "button";
  return made;
}

export class Grid {
  // told: what the server tells of the grid. play, favour: called with a cell's number. seen: called where the cells on
  // the screen, or the one with the focus, are others.
  constructor(place, told, { play, favour, seen }) {
    this.told = told;
    this.place = place;
    this.columns = told.temperatures.length * told.seeds;
    this.current = 0;
    this.visible = new Set();
    this.cells = [];
    this.seen = seen;
    place.style.setProperty("--columns", this.columns);
    place.setAttribute("aria-rowcount", told.checkpoints.length + 2);
    place.append(...this.headers(), ...told.checkpoints.map((row, at) => this.row(row, at, { play, favour })));
    this.numbers = new Map(told.clips.map((clip, number) => [clip, number]));
    this.watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (isIntersecting) this.visible.add(Number(target.dataset.number));
        else this.visible.delete(Number(target.dataset.number));
      }
      seen();
    }, { rootMargin: "100px" });
    for (const cell of this.cells) this.watcher.observe(cell.place);
  }

  // Takes what another grid of the page knows of the same clips: their statuses and their pictures.
  inherit(before) {
    for (const [number, cell] of this.cells.entries()) {
      const same = cell.broken ? undefined : before.cells[before.numbers.get(this.told.clips[number])];
      if (!same) continue;
      cell.status = same.status;
      if (!same.drawn) continue;
      cell.canvas.replaceWith(same.canvas);
      Object.assign(cell, { canvas: same.canvas, drawn: true });
    }
  }

  // Takes the grid off the page.
  close() {
    this.watcher.disconnect();
    this.place.replaceChildren();
  }

  headers() {
    const { temperatures, seeds } = this.told;
    const above = make("div", { role: "row", name: "head" });
    above.append(make("div", { role: "columnheader", text: "Checkpoint", name: "corner" }));
    for (const temperature of temperatures) {
      const header = make("div", { role: "columnheader", text: `Temperature ${temperature}`, name: "temperature" });
      header.style.setProperty("--span", seeds);
      header.setAttribute("aria-colspan", seeds);
      above.append(header);
    }
    const below = make("div", { role: "row", name: "head seeds" });
    below.append(make("div", { role: "columnheader", name: "corner", label: "Seed" }));
    for (const _ of temperatures) {
      for (let seed = 0; seed < seeds; seed++) below.append(make("div", { role: "columnheader", text: `seed ${seed}` }));
    }
    return [above, below];
  }

  row(checkpoint, at, calls) {
    const row = make("div", { role: "row", name: "row" });
    const header = make("div", { role: "rowheader", name: "checkpoint" });
    const [first, ...others] = checkpoint.names.map(shown);
    const bits = checkpoint.bits === null ? [] : [`${checkpoint.bits.toFixed(3)} bits`];
    header.append(make("strong", { text: first }));
    for (const text of [...others, checkpoint.source, ...bits]) if (text !== first) header.append(make("span", { text }));
    if (checkpoint.gone) header.append(make("span", { text: "gone from its run", name: "gone" }));
    row.append(header);
    if (checkpoint.problem) {
      const cell = make("div", { role: "gridcell", name: "broken", text: checkpoint.problem });
      cell.setAttribute("aria-colspan", this.columns);
      row.append(cell);
    }
    for (let column = 0; column < this.columns; column++) {
      const number = at * this.columns + column;
      const cell = this.cell(number, checkpoint, calls);
      this.cells.push(cell);
      if (!checkpoint.problem) row.append(cell.place);
    }
    return row;
  }

  cell(number, checkpoint, { play, favour }) {
    const { temperatures, seeds } = this.told;
    const column = number % this.columns;
    const [temperature, seed] = [temperatures[Math.floor(column / seeds)], column % seeds];
    const place = make("div", { role: "gridcell", name: "cell" });
    place.dataset.number = number;
    const button = make("button", { name: "clip" });
    const canvas = make("canvas");
    Object.assign(canvas, { width: 96, height: 32 });
    canvas.setAttribute("aria-hidden", "true");
    const [caption, word] = [make("span", { name: "caption", text: `${temperature} · seed ${seed}` }), make("span")];
    word.className = "word";
    button.append(caption, canvas, word);
    const heart = make("button", { name: "heart", text: "♥" });
    for (const [one, call] of [[button, play], [heart, favour]]) {
      one.tabIndex = -1;
      one.addEventListener("click", () => call(number));
      one.addEventListener("focus", () => this.choose(number));
    }
    place.append(button, heart);
    const title = `${shown(checkpoint.names[0])}, temperature ${temperature}, seed ${seed}`;
    const broken = Boolean(checkpoint.problem);
    const status = { state: "waiting", faults: [] };
    return { place, button, heart, canvas, word, title, broken, gone: checkpoint.gone, status, heard: false };
  }

  // Shows what is known of a cell: its status as the server tells it, whether it was heard, and whether it sounds.
  show(number, { playing, pending }) {
    const cell = this.cells[number];
    const { place, button, heart, word, title, status, heard } = cell;
    const faults = status.faults.map(([name]) => name).join(", ");
    const ready = status.state === "ready";
    const state = WORDS[isNever(cell) ? "never" : status.state];
    word.textContent = ready ? faults || "no fault" : state;
    word.classList.toggle("fault", Boolean(ready && faults) || (status.state === "failed" && !isNever(cell)));
    const reasons = status.faults.map(([name, reason]) => `${name}, ${reason}`).join("; ");
    button.title = reasons || status.problem || "";
    const told = [title, ready ? reasons || "no fault" : state, status.problem];
    told.push(status.favourite && "favourite", ready && (heard ? "heard" : "unheard"), pending && "plays when it is ready");
    button.setAttribute("aria-label", told.filter(Boolean).join("; "));
    button.setAttribute("aria-pressed", String(Boolean(playing || pending)));
    heart.setAttribute("aria-label", `Favourite: ${title}`);
    heart.setAttribute("aria-pressed", String(Boolean(status.favourite)));
    place.classList.toggle("ready", ready);
    place.classList.toggle("heard", heard);
    place.classList.toggle("playing", Boolean(playing));
    place.classList.toggle("pending", Boolean(pending));
  }

  // Makes a cell the one that the keys are for.
  choose(number) {
    const before = this.cells[this.current];
    before.button.tabIndex = before.heart.tabIndex = -1;
    before.place.classList.remove("current");
    this.current = number;
    const { place, button, heart } = this.cells[number];
    button.tabIndex = heart.tabIndex = 0;
    place.classList.add("current");
    this.seen();
  }

  focus(number) {
    this.choose(number);
    this.cells[number].button.focus();
  }

  // The number of a clip in this grid; null where it has none.
  numberOf(clip) {
    return this.numbers.get(clip) ?? null;
  }

  // The numbers of the cells that have a clip or may have one.
  get whole() {
    return [...this.cells.keys()].filter((number) => !isNever(this.cells[number]));
  }

  // Moves by rows and columns, past checkpoints that cannot be played; stays where there is nothing further.
  move(rows, columns) {
    const column = (this.current % this.columns) + columns;
    if (column < 0 || column >= this.columns) return;
    let number = this.current + columns;
    do number += rows * this.columns;
    while (rows && this.cells[number]?.broken);
    if (this.cells[number]) this.focus(number);
  }

  // The numbers of the cells from the current one on, and round again; broken ones are left out.
  around() {
    const count = this.cells.length;
    const all = Array.from({ length: count }, (_, i) => (this.current + i) % count);
    return all.filter((number) => !this.cells[number].broken);
  }
}
