// The page of live sound: what the listener sees and presses. Sound comes by player.js and runs beside this file, which
// only handles controls and pictures.
import { download, flac, History, refusal, wav } from "./clips.js";
import { Choice, Dial, Seed, Settings } from "./controls.js";
import { Pictures } from "./pictures.js";
import { Player } from "./player.js";
import { Prompt } from "./prompts.js";
import { copy, decode, encode, insert } from "./sharing.js";

const VERSION = 1; // of the protocol, docs/live.md
const MOST_TEXT = 250_000; // bytes of a request to play; the server takes 256 KiB
const LONG_LINK = 4000; // letters
const NO_DEVICE = "No device takes the sound. Connect or choose one; where that is not enough, press Stop and Play, "
  + "or start the browser anew.";
const ANSWER_TIME = 3000; // milliseconds
const element = (name) => document.getElementById(name);

let models = []; // that are served
let state = "connecting"; // then ready, starting or playing, and lost where the connection is
let sound = null; // what plays or played last: model, seed, settings at the start, prompt, score, and what lies ahead
let asked = null; // the same of what is starting
let turns = 0; // how often the connection came or went: what waited for an answer meanwhile is of no more use
let whyRefused = null; // why the server refused this page last, as it was shown
let shared = null; // what the address of this page holds
let frozen = false;

const history = new History();
const pictures = new Pictures(element("waveform"), element("spectrogram"));
const settings = new Settings((changes) => state === "playing" && player.set(changes));
const seed = new Seed(() => playAnew("with this seed"));
const volume = new Dial("volume", (percent) => player.setVolume((percent / 100) ** 2)); // which ears take as even steps
const prompt = new Prompt({
  change: () => {
    offerShared();
    playAnew(prompt.id === null ? "without the recording" : "from the recording");
  },
  record: () => active() && stop(), // or the microphone would hear it
  complain,
});
const player = new Player(address("ws"), (message) => HANDLERS[message.is]?.(message));
player.setVolume((volume.value / 100) ** 2);
new Choice("delay", (seconds) => player.setLead(seconds === "" ? null : Number(seconds)));

// `lastPlayed()` is {position, samples}: the last 30 s that were played, as the model made them, before any fade.
window.live = Object.freeze({ lastPlayed: () => history.take() });

function address(path) {
  const url = new URL(path + location.search, location.href); // with its query, which may hold a token
  url.protocol = url.protocol.replace("http", "ws");
  return url.href;
}

function complain(text) {
  element("problem").textContent = text;
  element("problem").hidden = !text;
}

// Called many times a second, for texts that rarely change.
function write(name, text) {
  if (element(name).textContent !== text) element(name).textContent = text;
}

const model = () => models[element("model").selectedIndex];
const active = () => state === "playing" || state === "starting";

function show(next, text) {
  state = next;
  element("state").textContent = text;
  element("play").disabled = !models.length || state === "connecting" || state === "lost";
  for (const name of ["reset", "freeze"]) element(name).disabled = state !== "playing";
  for (const name of ["save-wav", "save-flac", "share"]) element(name).disabled = !sound;
  offerShared();
}

function showFrozen(value) {
  frozen = value;
  element("freeze").setAttribute("aria-pressed", String(value));
}

// ---- playing

// why: for a stream that takes the place of another one, what is new in it.
function play(score = [], why = "") {
  complain("");
  if (seed.unusable) {
    if (active()) stop("Nothing plays.");
    complain(`The seed must be a whole number from 0 to ${element("seed").max}.`);
    return;
  }
  element("link").hidden = true;
  element("link-state").textContent = "";
  const chosen = model();
  const message = { model: chosen.name, seed: seed.value, ...settings.values, prompt: prompt.id, score };
  if (JSON.stringify(message).length > MOST_TEXT) {
    complain("What was shared has more changes than this page can ask the server for.");
    return;
  }
  asked = { model: chosen, score: [...score], ahead: [...score], prompted: prompt.id !== null, why };
  show("starting", "Starting …");
  player.play(chosen, message).catch((error) => {
    stop();
    complain(error.message);
  });
}

function stop(text = "Stopped.") {
  player.stop();
  show("ready", text);
}

// What cannot change while a stream plays begins a new one.
function playAnew(why) {
  if (active()) play([], state === "playing" ? why : "");
}

function toggle() {
  if (active()) stop();
  else if (state === "ready") play();
}

const HANDLERS = {
  hello: async (message) => {
    const turn = (turns += 1);
    models = message.models;
    prompt.most = message.most_prompt_seconds;
    if (element("problem").textContent === whyRefused) complain("");
    if (message.version !== VERSION) complain("The server is of another version; please load this page again.");
    fillModels();
    const again = state === "lost";
    if (again) await prompt.sendAgain();
    if (turn !== turns) return;
    const ready = again ? "Connected again. Press Play to begin again." : "Ready.";
    show("ready", models.length ? ready : "This server has no model.");
  },
  playing: (message) => {
    const { sha256, rate, temperature, top_k, top_p } = message;
    sound = { ...asked, sha256, rate, seed: message.seed, temperature, top_k, top_p };
    seed.value = message.seed;
    history.clear(rate);
    pictures.clear(rate);
    element("band").textContent = `; up to ${(rate / 2000).toLocaleString("en")}\u00a0kHz`;
    showFrozen(false);
    showLead(message.lead);
    showUnderruns(0);
    const anew = sound.why ? ` It began anew, ${sound.why}.` : "";
    show("playing", `Playing ${message.model}, seed ${message.seed}.${anew}`);
    const moved = Object.entries(settings.values).filter(([name, value]) => value !== message[name]);
    if (moved.length) player.set(Object.fromEntries(moved)); // while it was asked for
  },
  set: ({ id, at, changes }) => {
    if (sound && id) insert(sound.score, at, changes);
  },
  played: ({ position, samples, underruns, late }) => {
    if (state !== "playing") return;
    history.append(position, samples);
    pictures.append(samples);
    showUnderruns(underruns, late);
    follow(position + samples.length);
  },
  heard: ({ milliseconds }) => {
    const device = Math.round(1000 * player.deviceLatency);
    write("latency", `Slider to sound: ${Math.round(milliseconds)} ms, then ${device} ms in the device.`);
  },
  lead: ({ seconds }) => showLead(seconds),
  stopped: () => {
    player.rest();
    show("ready", "The server ended the sound. Press Play to begin again.");
  },
  interrupted: () => { // such as for a call
    if (state === "playing") stop("The device has taken the sound away. Press Play to begin again.");
  },
  device: ({ takes }) => { // what else is wrong stays in its place
    const told = element("problem").textContent;
    if (takes && told === NO_DEVICE) complain("");
    if (!takes && !told) complain(NO_DEVICE);
  },
  error: ({ message, refused, fatal }) => {
    if (!fatal || active()) complain(message); // a page that nobody uses is cut off after a while
    if (fatal || (refused && state === "starting")) stop("Nothing plays.");
  },
  lost: async ({ wait }) => {
    const turn = (turns += 1);
    if (active()) player.rest();
    const again = `trying again in ${Math.max(1, Math.round(wait / 1000))} s.`;
    if (state !== "connecting") return show("lost", `The connection is lost; ${again}`);
    const [what, why] = await obstacleToConnection();
    if (turn !== turns) return;
    if (why) complain((whyRefused = why));
    show("connecting", `${what}; ${again}`);
  },
};

// A browser does not tell why a connection was refused, but it tells so of a request.
async function obstacleToConnection() {
  try {
    const response = await fetch(`metrics${location.search}`, { signal: AbortSignal.timeout(ANSWER_TIME) });
    if (response.ok) return ["The server takes no connection", ""];
    return ["The server refuses this page", await refusal(response)];
  } catch {
    return ["The server cannot be reached", ""];
  }
}

// Moves the controls as the score of a shared sound did.
function follow(position) {
  const seconds = Math.floor(position / sound.rate);
  write("time", `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
  while (sound.ahead.length && sound.ahead[0][0] < position) {
    const [, changes] = sound.ahead.shift();
    settings.show(changes);
    if ("frozen" in changes) showFrozen(changes.frozen);
  }
}

function showLead(seconds) {
  element("lead").textContent = `now ${Math.round(1000 * seconds)} ms`;
}

function showUnderruns(count, late) {
  const underruns = count ? `${count} ${count === 1 ? "underrun" : "underruns"}.` : "No underruns.";
  write("underruns", late ? `${underruns} New sound came late ${late === 1 ? "once" : `${late} times`}.` : underruns);
}

function fillModels() {
  const chosen = element("model").value;
  element("model").replaceChildren(...models.map(({ name }) => new Option(name, name, false, name === chosen)));
  element("model-row").hidden = models.length < 2;
  if (models.length) settings.fit(model());
}

// ---- keeping and sharing

async function save(kind) {
  const { samples } = history.take();
  const { rate, model: { name }, seed: number } = sound;
  const file = `${name.replaceAll(/[^\w.-]+/g, "-")}-${number}.${kind}`;
  try {
    download(kind === "wav" ? wav(samples, rate) : await flac(samples, rate), file);
  } catch (error) {
    complain(error.message);
  }
}

async function share() {
  const link = new URL(encode(sound), location.href).href;
  Object.assign(element("link"), { value: link, hidden: false });
  const copied = await copy(element("link"));
  const notes = [copied ? "The link is copied." : "Here is the link; this browser copies it only by hand."];
  if (sound.prompted) notes.push("Whoever opens it needs the same recording as a prompt.");
  if (new URLSearchParams(location.search).has("token")) notes.push("It holds the token of this server.");
  if (link.length > LONG_LINK) notes.push("It is long, and some programs cut such links.");
  element("link-state").textContent = notes.join(" ");
}

// Why what was shared cannot be played here, or nothing.
function obstacle() {
  if (!models.some(({ sha256 }) => sha256.startsWith(shared.id))) {
    return `Its model, ${shared.id}, is not served here, so it cannot be played.`;
  }
  if (shared.prompted && prompt.id === null) {
    return "It began with a prompt, which a link does not hold: choose the same recording as a prompt first.";
  }
  return "";
}

// Shows what was shared. Where it can be played, its button is the main one, and the other says what it plays instead.
function offerShared() {
  element("shared").hidden = !shared || active();
  const why = shared && models.length ? obstacle() : "";
  const offered = Boolean(shared && models.length && !why && !active());
  const own = offered ? "Play the settings below" : "Play";
  element("play").textContent = active() ? "Stop" : own;
  element("play").classList.toggle("main", !offered);
  if (!shared || !models.length) return;
  const changes = shared.score.length ? `, with ${shared.score.length} later changes` : "";
  element("shared-about").textContent = why || `Seed ${shared.seed}, temperature ${shared.temperature}${changes}.`;
  element("play-shared").disabled = Boolean(why) || state === "connecting" || state === "lost";
}

function readAddress() {
  complain("");
  shared = null;
  try {
    shared = decode(location.hash);
  } catch (error) {
    complain(error.message);
  }
  offerShared();
}

function playShared() {
  element("model").selectedIndex = models.findIndex(({ sha256 }) => sha256.startsWith(shared.id));
  settings.fit(model());
  settings.show(shared);
  seed.value = shared.seed;
  if (!shared.prompted && prompt.id !== null) prompt.forget();
  play(shared.score);
  element("play").focus(); // the pressed button is gone while this plays
}

element("play").addEventListener("click", toggle);
element("reset").addEventListener("click", () => player.reset());
element("freeze").addEventListener("click", () => {
  showFrozen(!frozen);
  player.set({ frozen });
});
element("model").addEventListener("change", () => {
  settings.fit(model());
  playAnew("with this model");
});
element("save-wav").addEventListener("click", () => save("wav"));
element("save-flac").addEventListener("click", () => save("flac"));
element("share").addEventListener("click", share);
element("play-shared").addEventListener("click", playShared);
window.addEventListener("hashchange", readAddress);
document.addEventListener("visibilitychange", () => pictures.refresh());
document.addEventListener("keydown", (event) => {
  const takesSpace = event.target.closest("button, select, input[type=text], input[type=checkbox], input[type=file]");
  if (event.key !== " " || event.repeat || event.ctrlKey || event.altKey || event.metaKey || takesSpace) return;
  event.preventDefault(); // the page would scroll
  toggle();
});
readAddress();
