// The controls of the page. Most hold a number: a slider, a field beside it, and for some a tick without which there is
// no number.

const element = (name) => document.getElementById(name);

export class Dial {
  // name: the id of the slider; `name-number` is its field, `name-on` its tick. change: called with the new value.
  constructor(name, change) {
    this.range = element(name);
    this.number = element(`${name}-number`);
    this.tick = element(`${name}-on`);
    this.change = change;
    this.exact = null; // a value that was set elsewhere, until the slider is moved
    this.range.addEventListener("input", () => this.take(this.range.valueAsNumber));
    this.number.addEventListener("input", () => {
      if (this.number.value !== "" && this.number.validity.valid) this.take(this.number.valueAsNumber, false);
    });
    this.number.addEventListener("change", () => {
      if (this.number.value !== "") this.take(this.number.valueAsNumber);
      else this.show();
    });
    this.tick?.addEventListener("change", () => {
      this.show();
      this.change((this.known = this.value));
    });
    this.known = this.value; // what `change` was called with last, or what was set elsewhere
    this.show();
  }

  // value: of the listener, whom the slider keeps to its bounds and steps.
  // rewrite: whether the field is written too, which would disturb somebody who types in it.
  take(value, rewrite = true) {
    this.range.value = value;
    this.exact = null;
    this.show(rewrite);
    if (this.value !== this.known) this.change((this.known = this.value));
  }

  get value() {
    return this.tick && !this.tick.checked ? null : (this.exact ?? this.range.valueAsNumber);
  }

  // Shows a value that was set elsewhere, without calling `change`. It may lie between the slider's steps.
  set value(value) {
    if (this.tick) this.tick.checked = value !== null;
    if (value !== null) this.range.value = this.exact = Math.min(value, this.range.max);
    this.known = this.value;
    this.show();
  }

  set most(most) {
    this.range.max = this.number.max = most;
    if (this.exact !== null) this.exact = Math.min(this.exact, most);
    this.show();
  }

  set disabled(disabled) {
    this.off = disabled;
    this.show();
  }

  show(rewrite = true) {
    if (rewrite) this.number.value = this.exact ?? this.range.value;
    if (this.tick) this.tick.disabled = Boolean(this.off);
    this.range.disabled = this.number.disabled = Boolean(this.off) || this.value === null;
  }
}

// The settings of a model: temperature, top-k and top-p, named as the server names them.
export class Settings {
  // change: called with the one that the listener has changed, as {temperature: 0.8}.
  constructor(change) {
    const dial = (name, id) => new Dial(id, (value) => change({ [name]: value }));
    this.dials = {
      temperature: dial("temperature", "temperature"),
      top_k: dial("top_k", "top-k"),
      top_p: dial("top_p", "top-p"),
    };
  }

  get values() {
    return Object.fromEntries(Object.entries(this.dials).map(([name, dial]) => [name, dial.value]));
  }

  // Shows those settings that are given.
  show(values) {
    for (const [name, dial] of Object.entries(this.dials)) if (name in values) dial.value = values[name];
  }

  // A model that draws from no list of levels has no use for top-k and top-p.
  fit({ levels, truncates }) {
    this.dials.top_k.most = levels;
    for (const name of ["top_k", "top_p"]) {
      if (!truncates) this.dials[name].value = null;
      this.dials[name].disabled = !truncates;
    }
    element("no-truncation").hidden = truncates;
  }
}

// A list to choose from, whose choice the browser keeps, where it lets the page keep anything.
export class Choice {
  // name: the id of the list. change: called with the value that is chosen, and with that of an earlier visit.
  constructor(name, change) {
    const list = element(name);
    const key = `samplernn-fast live ${name}`;
    list.addEventListener("change", () => {
      try { localStorage.setItem(key, list.value); } catch { /* then it holds until the page is left */ }
      change(list.value);
    });
    let kept = null;
    try { kept = localStorage.getItem(key); } catch { /* then nothing was chosen */ }
    if (![...list.options].some(({ value }) => value === kept)) return; // such as that of an older page
    list.value = kept;
    change(kept);
  }
}

// A field for a seed: empty means one that nobody has chosen.
export class Seed {
  constructor(change) {
    this.field = element("seed");
    this.known = null; // what it was when `change` was called, or when it was set elsewhere
    this.field.addEventListener("change", () => {
      if (this.unusable || this.value === this.known) return;
      this.known = this.value;
      change();
    });
    element("dice").addEventListener("click", () => {
      this.value = crypto.getRandomValues(new Uint32Array(1))[0];
      change();
    });
  }

  get value() {
    return this.field.value === "" || this.unusable ? null : this.field.valueAsNumber;
  }

  // It says whether something is there that is no seed.
  get unusable() {
    return !this.field.validity.valid;
  }

  set value(seed) {
    this.field.value = seed ?? "";
    this.known = this.value;
  }
}
