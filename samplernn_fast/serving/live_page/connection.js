// The worker that holds the connection to the server (docs/live.md): it passes samples on to the audio thread, asks for
// as many as are needed, and tells the page what happens. The page sends it what the listener does.
import { Lead } from "./lead.js";

const WANTS = 125; // a second at most, and
const SETS = 30; // a second at most: the server takes 200 messages a second
const UNDERWAY = 8; // blocks that may be made while a change is on its way, so that its place is still kept
const RESERVE = 0.25; // seconds made behind the lead, and again as they shall be where a change falls into them,
const SOON = 0.05; // but no more than this until so much was heard behind a change: a hand that moves goes on moving
const HEADER = 16; // bytes
const FIRST_WAIT = 500, LONGEST_WAIT = 8000; // milliseconds until the server is tried again

let address = "";
let socket = null;
let wait = FIRST_WAIT;
let port = null; // to the audio thread
let burst = 0; // seconds that the device takes at once
let chosen = null; // seconds of lead that the listener has chosen, or null
let stream = null; // what plays, or was asked for; `live` is whether the server has begun it
let asked = 0; // streams of this connection: the server numbers them alike, so late messages of others are known
let waiting = null; // changes that are sent when it is their time: {id, changes, timer}
let setAt = -Infinity; // when changes were sent last, in milliseconds

const send = (message) => {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
};

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? answer(JSON.parse(data)) : receive(data));
  socket.onclose = () => {
    end();
    asked = 0;
    postMessage({ is: "lost", wait });
    setTimeout(connect, wait);
    wait = Math.min(2 * wait, LONGEST_WAIT);
  };
}

function answer(message) {
  const told = { ...message };
  if (message.is === "hello") wait = FIRST_WAIT;
  if (message.is === "playing") {
    if (message.play !== stream?.number) return; // another one was asked for meanwhile
    begin(message);
    Object.assign(told, { play: stream.play, lead: stream.lead.seconds });
  }
  if (message.is === "error" && message.play) {
    told.refused = message.play === stream?.number;
    if (told.refused) end();
  }
  if (message.is === "stopped") {
    if (message.play !== stream?.number) return;
    end();
  }
  postMessage(told);
}

// The samples that are made at a time: as few as changes may fall on, and no more messages than the server takes.
function blockOf({ rate, grain }) {
  return grain * Math.ceil(rate / WANTS / grain);
}

function play({ message, model, play: number }) {
  if (socket.readyState !== WebSocket.OPEN) return; // the page is about to be told
  if (stream?.live) port.postMessage({ do: "halt" });
  dropChanges();
  stream = { play: number, number: (asked += 1), live: false, block: blockOf(model), rate: model.rate };
  send({ do: "play", ...message, block: stream.block });
}

function begin({ rate, block, rewinds, kept }) {
  Object.assign(stream, { rate, block, rewinds, kept, live: true });
  Object.assign(stream, { until: 0, received: 0, played: 0, underruns: 0, late: 0 });
  stream.slow = 0;
  stream.filling = 0; // the position up to which much is made at once
  stream.wants = new Map(); // what was played when samples from a position on were asked for
  stream.playedAt = performance.now(); // when it was told what is played
  stream.changedAt = -Infinity; // what was played when a change was sent last
  stream.lead = new Lead({ rate, block, burst, chosen, rewinds, changed: tellLead });
  port.postMessage({ do: "begin", block, lead: stream.lead.samples, play: stream.play });
  want(0);
}

// The first beginning of a block at a position or behind it: less than a block is never made.
const blockAt = (position) =>
  stream.received + stream.block * Math.ceil((position - stream.received) / stream.block);

// Asks for the samples before the one that is so far ahead of what is heard as there shall be sound.
function want(played) {
  const until = blockAt(played + stream.lead.samples + reserve(played));
  if (until <= stream.until) return;
  // While much is made at once, the time until some of it comes says nothing of a change, which comes first.
  if (stream.received >= stream.filling) stream.wants.set(stream.until, played);
  if (until - stream.until > 2 * stream.block) stream.filling = until;
  send({ do: "want", until: (stream.until = until), keep: played });
}

// Samples that are made behind the lead.
function reserve(played) {
  if (!stream.rewinds) return 0;
  if (played - stream.changedAt < SOON * stream.rate) return SOON * stream.rate;
  const most = Math.max(RESERVE * stream.rate, (stream.kept - UNDERWAY) * stream.block);
  return Math.min(most, RESERVE * stream.rate + stream.lead.descent);
}

// Where a change shall be: what was made behind it is made again.
function place() {
  if (!stream?.live || !stream.rewinds) return {};
  const played = playedNow();
  stream.changedAt = stream.played;
  const from = blockAt(played + stream.lead.samples);
  stream.until = blockAt(from + reserve(stream.played));
  stream.filling = 0;
  stream.wants.clear();
  stream.wants.set(from, played);
  return { from, until: stream.until };
}

// What is played by now, if the device takes sound as before; it tells so once a block, and takes some at once.
function playedNow() {
  const since = ((performance.now() - stream.playedAt) / 1000) * stream.rate;
  return stream.played + Math.min(since, stream.block + burst * stream.rate);
}

// The audio thread has played some, or ran out of samples.
function heard({ play: number, played, underruns, late, slow }) {
  if (!stream?.live || number !== stream.play) return;
  Object.assign(stream, { played, playedAt: performance.now() });
  if (underruns > stream.underruns) send({ do: "underrun", count: underruns - stream.underruns });
  const inTime = underruns === stream.underruns && late === stream.late && slow === stream.slow;
  Object.assign(stream, { underruns, late, slow });
  stream.lead.heard(played, inTime);
  want(played);
}

function tellLead() {
  port.postMessage({ do: "setLead", lead: stream.lead.samples });
  postMessage({ is: "lead", seconds: stream.lead.seconds });
}

function receive(data) {
  const header = new DataView(data);
  const [position, id, number] = [header.getFloat64(0, true), header.getUint32(8, true), header.getUint32(12, true)];
  if (!stream?.live || number !== stream.number) return; // of a stream that has ended
  if (position > stream.received) return socket.close(); // the connection is of no more use: sound is missing
  const samples = new Float32Array(data, HEADER);
  stream.received = position + samples.length;
  const since = stream.wants.get(position);
  stream.wants.delete(position);
  port.postMessage({ do: "receive", position, id, samples, since }, [data]);
}

function end() {
  dropChanges();
  if (stream?.live) port.postMessage({ do: "halt" });
  stream = null;
}

// Changes that come fast after one another are sent together, the newest of each setting.
function change({ id, changes }) {
  waiting = { id, changes: { ...waiting?.changes, ...changes }, timer: waiting?.timer };
  waiting.timer ??= setTimeout(sendChanges, Math.max(0, setAt + 1000 / SETS - performance.now()));
}

function sendChanges() {
  if (!waiting) return;
  clearTimeout(waiting.timer);
  send({ do: "set", id: waiting.id, ...waiting.changes, ...place() });
  setAt = performance.now();
  waiting = null;
}

function dropChanges() {
  clearTimeout(waiting?.timer);
  waiting = null;
}

const TASKS = {
  connect: (task) => {
    address = task.address;
    connect();
  },
  join: (task) => {
    port = task.port;
    burst = task.burst;
    port.onmessage = ({ data }) => heard(data);
  },
  play,
  set: change,
  reset: ({ id }) => {
    sendChanges();
    send({ do: "reset", id, ...place() });
  },
  stop: () => {
    if (!stream) return;
    end();
    send({ do: "stop" });
  },
  lead: ({ seconds }) => {
    chosen = seconds;
    if (!stream?.live) return;
    stream.lead.choose(seconds);
    want(stream.played); // the audio thread waits for a whole lead, and may say nothing before
  },
};

self.onmessage = ({ data }) => TASKS[data.do](data);
