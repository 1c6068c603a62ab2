// The page of an audition: what the listener presses, and what is asked of the server. grid.js shows the cells,
// clips.js has the sound, news.js says what is new.
import { Clips, Sound, draw } from "./clips.js";
import { Grid } from "./grid.js";
import { clearNews, showNews, whenPressed } from "./news.js";
import { ask, askClip, askGrid, save } from "./server.js";

const SOON = 350; // milliseconds until the server is asked again while something on the screen is not ready,
const LATER = 2500; // and otherwise
const MOST_WANTED = 300; // clips that are wanted at once
const AHEAD = 8; // clips behind the current one that are wanted before others on the screen
const HEARD = "samplernn-auditions-heard"; // where the browser keeps what was heard
const MOST_HEARD = 5000;

const element = (name) => document.getElementById(name);
const page = Math.random().toString(36).slice(2);
const sound = new Sound();
const clips = new Clips(askClip);

let grid = null;
let version = 0; // the newest change that this page knows
let playing = null; // the number of the clip that sounds,
let pending = null; // and of the one that plays as soon as it is ready
let timer = 0;
let asking = false;
let drawing = false;
const heard = new Set(readHeard());

// ---- the server

function wanted() {
  const around = grid.around().filter((number) => grid.cells[number].status.state === "waiting");
  const onScreen = around.filter((number) => grid.visible.has(number));
  return [...new Set([...onScreen.slice(0, AHEAD), ...around.slice(0, AHEAD), ...onScreen])].slice(0, MOST_WANTED);
}

async function poll() {
  if (asking) return;
  asking = true;
  clearTimeout(timer);
  try {
    const asked = { page, grid: grid.told.grid, clips: wanted(), now: pending, since: version };
    const told = await (await ask("api/wanted", asked)).json();
    if (told.grid === grid.told.grid) learn(told); // else the listener has asked for the next grid meanwhile
    if (lost) complain("");
    lost = false;
  } catch (error) {
    lost = !error.isStale;
    if (error.isStale) showNews({ stale: true });
    else complain(error instanceof TypeError ? "The server does not answer; trying again." : error.message);
  }
  asking = false;
  clearTimeout(timer);
  timer = setTimeout(poll, unready() ? SOON : LATER);
}

let lost = false;

function learn(told) {
  version = told.version;
  for (const { clip, ...status } of told.changed) {
    grid.cells[clip].status = status;
    show(clip);
  }
  if (told.changed.length) showCounts();
  showNews(told.news);
  if (pending !== null) goOn();
  paint();
}

const unready = () => pending !== null || [...grid.visible].some((number) => isUnready(number));
const isUnready = (number) => ["waiting", "making"].includes(grid.cells[number].status.state);

// Called often while a listener scrolls; the server is asked a little later, once.
function soon() {
  if (asking || !grid) return;
  clearTimeout(timer);
  timer = setTimeout(poll, 60);
  paint();
}

// Draws the clips on the screen that are ready, one after another.
async function paint() {
  if (drawing) return;
  drawing = true;
  const due = () => [...grid.visible].sort((a, b) => a - b).find((number) => {
    const cell = grid.cells[number];
    return cell.status.state === "ready" && !cell.drawn;
  });
  for (let number = due(); number !== undefined; number = due()) {
    const cell = grid.cells[number];
    try {
      draw(cell.canvas, await clips.get(grid.told, number));
      cell.drawn = true;
    } catch {
      break; // drawn when the page comes by again
    }
  }
  drawing = false;
}

// ---- what the listener sees

function complain(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

function show(number) {
  grid.show(number, { playing: number === playing, pending: number === pending });
}

function showCounts() {
  const whole = grid.whole.map((number) => grid.cells[number]);
  const ready = whole.filter((cell) => cell.status.state === "ready").length;
  const unheard = whole.filter((cell) => !cell.heard).length;
  element("progress").textContent = `${ready} of ${whole.length} clips ready, ${unheard} unheard`;
  const favourites = whole.filter((cell) => cell.status.favourite).length;
  const counted = favourites === 1 ? "1 clip" : `${favourites} clips`;
  element("favourites-state").textContent = favourites ? `${counted} of this page.` : "None of this page yet.";
}

function showState(text) {
  element("state").textContent = text;
  element("play").textContent = playing === null && pending === null ? "Play" : "Stop";
}

// ---- playing

const gainOf = (number) => (element("matched").checked ? grid.cells[number].status.gain : 1);

function stop(text = "Stopped.") {
  const before = [playing, pending];
  sound.stop();
  playing = pending = null;
  before.filter((number) => number !== null).forEach(show);
  showState(text);
}

// Plays a clip, or stops it where it plays.
function toggle(number) {
  if (number === playing || number === pending) stop();
  else start(number);
}

function start(number) {
  sound.wake();
  stop("");
  complain("");
  pending = number;
  goOn();
  if (pending === null) return;
  show(number);
  showState(`${grid.cells[number].title}: waiting for the clip.`);
  poll();
}

async function goOn() {
  const { told, cells } = grid;
  const number = pending;
  const { status, title } = cells[number];
  if (status.state === "failed" && asking) {
    stop("");
    complain(`${title}: ${status.problem}`);
  }
  if (status.state !== "ready") return;
  // The listener may go on meanwhile, and the grid may be another one.
  const isLeft = () => pending === null || grid.told.clips[pending] !== told.clips[number];
  try {
    const clip = await clips.get(told, number);
    if (isLeft()) return;
    [playing, pending] = [pending, null];
    sound.play(clip, gainOf(playing), () => stop("Played to its end."));
  } catch (error) {
    if (isLeft()) return;
    stop("");
    complain(error.message);
    return;
  }
  hear(playing);
  show(playing);
  showState(`Playing ${title}.`);
  requestAnimationFrame(follow);
}

// Moves the line that shows how far the clip is.
function follow() {
  if (playing === null) return;
  grid.cells[playing].place.style.setProperty("--place", sound.place);
  requestAnimationFrame(follow);
}

function hear(number) {
  grid.cells[number].heard = true;
  const clip = grid.told.clips[number];
  heard.delete(clip);
  heard.add(clip);
  try {
    localStorage.setItem(HEARD, JSON.stringify([...heard].slice(-MOST_HEARD)));
  } catch {
    // A browser that keeps nothing forgets at the next visit what was heard.
  }
  showCounts();
}

function readHeard() {
  try {
    const kept = JSON.parse(localStorage.getItem(HEARD));
    return Array.isArray(kept) ? kept : [];
  } catch {
    return [];
  }
}

function playNext() {
  const [current, ...others] = grid.around();
  const whole = new Set(grid.whole);
  const unheard = [...others, current].filter((number) => whole.has(number) && !grid.cells[number].heard);
  const next = unheard.find((number) => grid.cells[number].status.state === "ready") ?? unheard[0];
  if (next === undefined) {
    showState("All clips were heard.");
    return;
  }
  grid.focus(next);
  start(next);
}

// ---- favourites

async function favour(number) {
  const { told, cells } = grid;
  const { status, title } = cells[number];
  const favourite = !status.favourite;
  try {
    await ask("api/favourites", { grid: told.grid, clip: number, favourite });
    complain("");
  } catch (error) {
    complain(`The favourite was not kept: ${error.message}`);
    return;
  }
  const now = grid.numberOf(told.clips[number]); // the grid may be another meanwhile
  if (now !== null) {
    grid.cells[now].status.favourite = favourite;
    show(now);
  }
  showCounts();
  element("state").textContent = `${title} is ${favourite ? "a" : "no"} favourite.`;
}

async function saveAs(form, name) {
  try {
    await save(form, name);
    complain("");
  } catch (error) {
    complain(error.message);
  }
}

// ---- keys

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function press(event) {
  const { target, key } = event;
  const typing = target.closest("input");
  if (!grid || typing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (MOVES[key]) grid.move(...MOVES[key]);
  else if (event.repeat) return;
  else if (key === " " && !target.closest("button, a")) toggle(grid.current); // a button takes the space itself
  else if (key === "n" || key === "N") playNext();
  else if (key === "f" || key === "F") favour(grid.current);
  else return;
  event.preventDefault(); // the page would scroll
}

// ---- the grid, and the next one

function build(told) {
  grid = new Grid(element("grid"), told, { play: toggle, favour, seen: soon });
  grid.cells.forEach((cell, number) => { cell.heard = heard.has(told.clips[number]); });
}

async function begin() {
  build(await askGrid());
  grid.cells.forEach((_, number) => show(number));
  element("folder").textContent = grid.told.folder;
  grid.choose(grid.around()[0]);
  for (const name of ["play", "next", "export-playlist", "export-commands"]) element(name).disabled = false;
  await poll();
}

let renewing = false;

// Shows the newest grid in place of the one before. What sounds sounds on, and the current cell and the focus are at
// the same clip, at the same place of the screen.
async function renew() {
  if (renewing) return;
  renewing = true;
  try {
    replace(await askGrid());
    clearNews();
  } catch (error) {
    complain(error.message);
  }
  renewing = false;
}

function replace(told) {
  const before = grid;
  const box = (one, number) => one.cells[number].place.getBoundingClientRect();
  const focus = document.activeElement;
  const isHeart = before.place.contains(focus) && focus.classList.contains("heart");
  const isHere = before.place.contains(focus) || focus === element("news-show");
  const seen = [before.current, ...[...before.visible].sort((a, b) => a - b)].filter((one) => before.visible.has(one));
  const places = seen.map((number) => [before.told.clips[number], box(before, number)]);
  before.close();
  build(told);
  grid.inherit(before);
  version = 0;
  const moved = (number) => (number === null ? null : grid.numberOf(before.told.clips[number]));
  const was = playing ?? pending;
  [playing, pending] = [moved(playing), moved(pending)];
  if (was !== null && playing === null && pending === null) stop();
  grid.cells.forEach((_, number) => show(number));
  grid.choose(moved(before.current) ?? grid.around()[0]);
  const { button, heart } = grid.cells[grid.current];
  if (isHere) (isHeart ? heart : button).focus({ preventScroll: true }); // the button that was pressed goes
  const [clip, place] = places.find(([name]) => grid.numberOf(name) !== null) ?? [];
  if (place) {
    const now = box(grid, grid.numberOf(clip));
    scrollBy(0, now.top - place.top);
    element("frame").scrollLeft += now.left - place.left;
  }
  showCounts();
  showState(element("state").textContent);
  poll();
}

element("play").addEventListener("click", () => {
  if (playing === null && pending === null) start(grid.current);
  else stop();
});
element("next").addEventListener("click", playNext);
whenPressed({ show: renew, done: () => grid.cells[grid.current].button.focus({ preventScroll: true }) });
element("volume").addEventListener("input", ({ target }) => sound.setVolume((target.value / 100) ** 2));
element("matched").addEventListener("change", () => playing !== null && sound.setGain(gainOf(playing)));
element("export-playlist").addEventListener("click", () => saveAs("playlist", "favourites.m3u8"));
element("export-commands").addEventListener("click", () => saveAs("commands", "favourites.sh"));
document.addEventListener("keydown", press);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const cell of grid?.cells ?? []) cell.drawn = false;
  if (grid) paint();
});
sound.setVolume((element("volume").value / 100) ** 2);
begin().catch((error) => complain(error.message));

// For whoever wants to see what sounds: its number, and what its samples are multiplied by.
window.audition = Object.freeze({ playing: () => playing, gain: () => sound.playing?.gain ?? null });
