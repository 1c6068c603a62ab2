// The worker that holds the connection to the server (docs/live.md): it passes samples on to the audio thread, asks for
// as many as are needed, and tells the page what happens. The page sends it what the listener does.

const WANTS = 125; // a second at most, and
const SETS = 30; // a second at most: the server takes 200 messages a second
const LEAST = 0.01; // seconds that are made ahead of what is heard,
const SPARE = 0.004; // seconds more than the device takes at once,
const GROWTH = 1.5; // and the factor by which they grow when they were not enough
const CALM = 5; // seconds of sound without a gap after which they shrink again, twice as many after each gap,
const MOST_CALM = 40; // and the most that these become
const WARM_UP = 0.05; // seconds that are made ahead at first, when everything is slower than later,
const WARM_AFTER = 0.3; // and the seconds of sound after which that is over
const MOST = 0.6; // seconds that they may be
const HEADER = 16; // bytes
const FIRST_WAIT = 500, LONGEST_WAIT = 8000; // milliseconds until the server is tried again

let address = "";
let socket = null;
let wait = FIRST_WAIT;
let port = null; // to the audio thread
let burst = 0; // seconds that the device takes at once
let buffer = null; // seconds that the listener has fixed, or null
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
    Object.assign(told, { play: stream.play, lead: stream.lead / stream.rate });
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

function begin({ rate, block }) {
  Object.assign(stream, { rate, block, until: 0, received: 0, played: 0, underruns: 0, live: true });
  Object.assign(stream, { calm: CALM, warm: false, shrinkAt: WARM_AFTER * rate });
  stream.lead = leadOf(buffer ?? Math.max(WARM_UP, shortest()));
  port.postMessage({ do: "begin", block, lead: stream.lead, play: stream.play });
  want(0);
}

const shortest = () => Math.max(LEAST, burst + SPARE);

const leadOf = (seconds) => stream.block * Math.ceil((seconds * stream.rate) / stream.block);

// Asks for the samples before the one that is `lead` ahead of what is heard: whole blocks behind what is here already,
// because less than a block is never made.
function want(played) {
  const until = stream.received + stream.block * Math.ceil((played + stream.lead - stream.received) / stream.block);
  if (until > stream.until) send({ do: "want", until: (stream.until = until) });
}

// The audio thread has played some, or ran out of samples.
function heard({ play: number, played, underruns }) {
  if (!stream?.live || number !== stream.play) return;
  stream.played = played;
  if (underruns > stream.underruns) {
    send({ do: "underrun", count: underruns - stream.underruns });
    stream.underruns = underruns;
    if (buffer === null) grow(played);
  }
  if (buffer === null && played > stream.shrinkAt) shrink(played);
  want(played);
}

function grow(played) {
  setLead(Math.min(MOST, (GROWTH * stream.lead) / stream.rate));
  if (!stream.warm) return; // gaps of the first moments say nothing of later ones
  stream.calm = Math.min(MOST_CALM, 2 * stream.calm);
  stream.shrinkAt = played + stream.calm * stream.rate;
}

// At first to the shortest, later step by step: what one pause of the machine has cost is not lost for ever.
function shrink(played) {
  setLead(stream.warm ? Math.max(shortest(), stream.lead / stream.rate / GROWTH) : shortest());
  stream.warm = true;
  stream.shrinkAt = played + stream.calm * stream.rate;
}

function setLead(seconds) {
  const lead = leadOf(seconds);
  if (lead === stream.lead) return;
  stream.lead = lead;
  port.postMessage({ do: "setLead", lead: stream.lead });
  postMessage({ is: "lead", seconds: stream.lead / stream.rate });
}

function receive(data) {
  const header = new DataView(data);
  const [position, id, number] = [header.getFloat64(0, true), header.getUint32(8, true), header.getUint32(12, true)];
  if (!stream?.live || number !== stream.number) return; // of a stream that has ended
  if (position !== stream.received) return socket.close(); // the connection is of no more use: sound is missing
  const samples = new Float32Array(data, HEADER);
  stream.received += samples.length;
  port.postMessage({ do: "receive", position, id, samples }, [data]);
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
  send({ do: "set", id: waiting.id, ...waiting.changes });
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
    send({ do: "reset", id });
  },
  stop: () => {
    if (!stream) return;
    end();
    send({ do: "stop" });
  },
  buffer: ({ seconds }) => {
    buffer = seconds;
    if (!stream?.live) return;
    setLead(seconds ?? shortest());
    want(stream.played); // the audio thread waits for a whole lead, and may say nothing before
  },
};

self.onmessage = ({ data }) => TASKS[data.do](data);
