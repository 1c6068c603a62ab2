// The page of an audition: what the listener presses, and the talk with the server. grid.js shows the cells, clips.js
// has the sound.
import { Clips, Sound, draw } from "./clips.js";
import { Grid } from "./grid.js";

const SOON = 350; // milliseconds until the server is asked again while something on the screen is not ready,
const LATER = 2500; // and otherwise
const MOST_WANTED = 300; // clips that are wanted at once
const AHEAD = 8; // clips behind the current one that are wanted before others on the screen
const HEARD = "samplernn-auditions-heard"; // where the browser keeps what was heard
const MOST_HEARD = 5000;

const element = (name) => document.getElementById(name);
const page = Math.random().toString(36).slice(2);
const sound = new Sound();
const clips = new Clips(async (number) => (await ask(`api/clips/${number}`)).arrayBuffer());

let grid = null;
let version = 0; // the newest change that this page knows
let playing = null; // the number of the clip that sounds,
let pending = null; // and of the one that plays as soon as it is ready
let timer = 0;
let asking = false;
let drawing = false;
const heard = new Set(readHeard());

// ---- the server

function address(path) {
  const url = new URL(path, location.href);
  const token = new URLSearchParams(location.search).get("token");
  if (token !== null) url.searchParams.set("token", token);
  return url.href;
}

async function ask(path, body) {
  const options = body && {
    method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json" },
  };
  const answer = await fetch(address(path), options);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Error(told.detail ?? `The server answered ${answer.status}.`);
}

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
    const answer = await ask("api/wanted", { page, clips: wanted(), now: pending, since: version });
    const told = await answer.json();
    version = told.version;
    for (const { clip, ...status } of told.changed) {
      grid.cells[clip].status = status;
      show(clip);
    }
    if (told.changed.length) showCounts();
    if (lost) complain("");
    lost = false;
    if (pending !== null) goOn();
    paint();
  } catch (error) {
    lost = true;
    complain(error instanceof TypeError ? "The server does not answer; trying again." : error.message);
  }
  asking = false;
  clearTimeout(timer);
  timer = setTimeout(poll, unready() ? SOON : LATER);
}

let lost = false;

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
    cell.drawn = true;
    try {
      draw(cell.canvas, await clips.get(number));
    } catch {
      cell.drawn = false; // drawn when the page comes by again
      break;
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
  const whole = grid.cells.filter((cell) => !cell.broken);
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
  const number = pending;
  const { status, title } = grid.cells[number];
  if (status.state === "failed" && asking) {
    stop("");
    complain(`${title}: ${status.problem}`);
  }
  if (status.state !== "ready") return;
  try {
    const clip = await clips.get(number);
    if (pending !== number) return; // the listener has gone on meanwhile
    pending = null;
    playing = number;
    sound.play(clip, gainOf(number), () => stop("Played to its end."));
  } catch (error) {
    stop("");
    complain(error.message);
    return;
  }
  hear(number);
  show(number);
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
  const unheard = [...others, current].filter((number) => number !== undefined && !grid.cells[number].heard);
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
  const { status } = grid.cells[number];
  const favourite = !status.favourite;
  try {
    await ask("api/favourites", { clip: number, favourite });
    complain("");
  } catch (error) {
    complain(`The favourite was not kept: ${error.message}`);
    return;
  }
  grid.cells[number].status.favourite = favourite;
  show(number);
  showCounts();
  element("state").textContent = `${grid.cells[number].title} is ${favourite ? "a" : "no"} favourite.`;
}

async function save(form, name) {
  try {
    const content = await (await ask(`api/export?as=${form}`)).blob();
    const link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(content), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
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

async function begin() {
  const told = await (await ask("api/grid")).json();
  grid = new Grid(element("grid"), told, { play: toggle, favour, seen: soon });
  grid.cells.forEach((cell, number) => {
    cell.heard = heard.has(told.clips[number]);
    show(number);
  });
  element("folder").textContent = told.folder;
  grid.choose(grid.around()[0]);
  for (const name of ["play", "next", "export-playlist", "export-commands"]) element(name).disabled = false;
  await poll();
}

element("play").addEventListener("click", () => {
  if (playing === null && pending === null) start(grid.current);
  else stop();
});
element("next").addEventListener("click", playNext);
element("volume").addEventListener("input", ({ target }) => sound.setVolume((target.value / 100) ** 2));
element("matched").addEventListener("change", () => playing !== null && sound.setGain(gainOf(playing)));
element("export-playlist").addEventListener("click", () => save("playlist", "favourites.m3u8"));
element("export-commands").addEventListener("click", () => save("commands", "favourites.sh"));
document.addEventListener("keydown", press);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const cell of grid?.cells ?? []) cell.drawn = false;
  if (grid) paint();
});
sound.setVolume((element("volume").value / 100) ** 2);
begin().catch((error) => complain(error.message));

// For whoever wants to see what sounds: its number, and what its samples are multiplied by.
window.audition = Object.freeze({ playing: () => playing, gain: () => sound.playing?.gain ?? null });
