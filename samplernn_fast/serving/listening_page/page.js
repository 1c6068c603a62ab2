// The page of a listening test. The server knows how far the listener is; this page asks, plays, and sends answers.
// An answer is kept in the browser until the server has confirmed it, so a reload or a crash on either side loses none.
"use strict";

const SIDES = ["a", "b"];
const CHOICE_OF_KEY = { 1: "a", a: "a", 2: "b", b: "b", 0: "none", n: "none" };
const LONGEST_WAIT = 5000; // milliseconds between two tries to reach the server

const element = (name) => document.getElementById(name);
const clips = Object.fromEntries(
  SIDES.map((side) => [side, { audio: new Audio(), button: element(`play-${side}`), begun: false }]),
);

let test = null; // what the server says of the test: key, title, question, trials
let token = null; // by which the server knows this listener
let trial = null; // the number of the pair on the screen
let shownAt = 0; // when it was shown, in milliseconds
let busy = false; // whether an answer is on its way or clips are being fetched
let queued = null; // the side that plays when the other one has ended

// What the browser keeps. It may be told to keep nothing; then only a reload of the same address finds the listener.
const kept = {
  name: (what) => `${what} of listening test ${test.key}`,
  get(what) {
    try { return localStorage.getItem(this.name(what)); } catch { return null; }
  },
  set(what, value) {
    try {
      if (value === null) localStorage.removeItem(this.name(what));
      else localStorage.setItem(this.name(what), value);
    } catch { /* The server has all that matters. */ }
  },
};

function show(name) {
  for (const section of ["welcome", "trial", "done"]) element(section).hidden = section !== name;
}

function complain(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// Sends a request until the server has answered it. A server that is away, or cannot write, is asked again.
async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  for (let wait = 500; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    try {
      const response = await fetch(path, options);
      if (response.status < 500) {
        complain("");
        return response;
      }
      complain("The server cannot keep answers at the moment. Please leave this page open; it tries again.");
    } catch {
      complain("The server cannot be reached. Please leave this page open; it tries again.");
    }
    await pause(wait);
  }
}

const address = (rest = "") => `api/listeners/${encodeURIComponent(token)}${rest}`;

async function begin() {
  test = await (await ask("api/test")).json();
  document.title = test.title;
  element("title").textContent = test.title;
  element("question").textContent = test.question;
  element("count").textContent = test.trials;
  token = location.hash.slice(1) || kept.get("listener");
  if (!token || !(await resume())) show("welcome");
}

// Goes on where the listener was. Returns false where the server knows no such listener.
async function resume() {
  const pending = JSON.parse(kept.get("answer") || "null");
  if (pending && pending.token === token) return deliver(pending);
  const response = await ask(address());
  if (!response.ok) return false;
  remember();
  await arrive(await response.json());
  return true;
}

function remember() {
  kept.set("listener", token);
  history.replaceState(null, "", `#${token}`);
}

async function join() {
  element("start").disabled = true;
  const response = await ask("api/listeners", {});
  const told = await response.json();
  element("start").disabled = false;
  if (!response.ok) return complain(told.detail);
  token = told.token;
  remember();
  await arrive(told);
}

// Shows the trial that is due, or the end.
async function arrive(state) {
  stop();
  trial = state.trial;
  const answered = trial === null ? state.trials : trial - 1;
  element("progress").max = state.trials;
  element("progress").value = answered;
  element("progress").hidden = element("place").hidden = false;
  element("place").textContent = trial === null ? `${state.trials} of ${state.trials}` : `${trial} of ${state.trials}`;
  kept.set("place", String(answered)); // which other tabs of this listener notice
  if (trial === null) {
    show("done");
    element("thanks").focus();
    return;
  }
  await prepare(state.trials);
}

async function prepare(trials) {
  busy = true;
  const due = trial;
  unlock();
  show("trial");
  element("hint").textContent = "Loading the clips …";
  for (const side of SIDES) {
    const clip = clips[side];
    const response = await ask(address(`/trials/${due}/${side}`));
    if (!response.ok) {
      // Another tab has answered this trial meanwhile, or this pair cannot be heard; then the server says why.
      const { detail } = await response.json();
      busy = false;
      await refresh();
      if (busy || trial !== due || element("trial").hidden) return;
      busy = true; // nothing can be played or answered until the page is loaded again
      unlock();
      element("hint").textContent = "";
      complain(detail);
      return;
    }
    URL.revokeObjectURL(clip.audio.src);
    clip.audio.src = URL.createObjectURL(await response.blob());
    clip.begun = false;
    clip.button.classList.remove("heard");
  }
  busy = false;
  shownAt = performance.now();
  element("hint").textContent = `Pair ${due} of ${trials}: listen to both.`;
  unlock();
  element("question").focus();
}

function unlock() {
  const heard = !busy && SIDES.every((side) => clips[side].begun);
  for (const choice of ["a", "none", "b"]) element(`choose-${choice}`).disabled = !heard;
  for (const side of SIDES) clips[side].button.disabled = busy;
  if (heard) element("hint").textContent = "Choose, or listen again.";
}

function play(side, then = null) {
  if (busy || trial === null) return;
  stop();
  queued = then;
  clips[side].audio.currentTime = 0;
  clips[side].audio.play().catch((error) => {
    if (error.name !== "AbortError") complain("This browser does not play the clip."); // an abort is a stop
  });
}

function stop() {
  queued = null;
  for (const side of SIDES) clips[side].audio.pause();
}

function draw(side) {
  const { audio, button } = clips[side];
  const playing = !audio.paused && !audio.ended;
  button.classList.toggle("playing", playing);
  button.querySelector(".action").textContent = `${playing ? "Stop" : "Play"} ${side.toUpperCase()}`;
  const share = playing && audio.duration ? audio.currentTime / audio.duration : 0;
  button.querySelector(".played").style.transform = `scaleX(${share})`;
  if (playing) requestAnimationFrame(() => draw(side));
}

async function choose(choice) {
  if (busy || element(`choose-${choice}`).disabled) return;
  busy = true;
  stop();
  unlock();
  element("hint").textContent = "Keeping your answer …";
  const seconds = Math.round(performance.now() - shownAt) / 1000;
  if (!(await deliver({ token, trial, choice, seconds }))) show("welcome");
}

// Sends an answer until the server has confirmed it, or says that there is one already. Returns what `resume` does.
async function deliver(answer) {
  kept.set("answer", JSON.stringify(answer));
  const { trial: answered, choice, seconds } = answer;
  const response = await ask(address("/answers"), { trial: answered, choice, seconds });
  kept.set("answer", null);
  busy = false;
  if (!response.ok && response.status !== 409) return resume();
  remember();
  await arrive(await response.json());
  return true;
}

// Another tab may have answered; the server knows.
async function refresh() {
  if (busy || !token || !test || element("welcome").hidden === false) return;
  const response = await ask(address());
  if (response.status === 404) return show("welcome"); // the server was started anew before the first clip
  const state = response.ok ? await response.json() : null;
  if (state && !busy && state.trial !== trial) await arrive(state);
}

for (const side of SIDES) {
  const { audio, button } = clips[side];
  button.addEventListener("click", () => (audio.paused ? play(side) : stop()));
  audio.addEventListener("playing", () => {
    clips[side].begun = true;
    button.classList.add("heard");
    unlock();
    draw(side);
  });
  audio.addEventListener("pause", () => draw(side));
  audio.addEventListener("ended", () => {
    draw(side);
    if (queued) play(queued);
  });
}
for (const choice of ["a", "none", "b"]) element(`choose-${choice}`).addEventListener("click", () => choose(choice));
element("start").addEventListener("click", join);

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || element("trial").hidden) return;
  const choice = CHOICE_OF_KEY[event.key.toLowerCase()];
  const onButton = event.target instanceof HTMLButtonElement;
  if (choice) choose(choice);
  else if (event.key === " " && !onButton) play("a", "b");
  else if (event.key === "ArrowLeft") play("a");
  else if (event.key === "ArrowRight") play("b");
  else if (event.key === "Escape") stop();
  else return;
  event.preventDefault();
});
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
window.addEventListener("storage", refresh);

begin();
