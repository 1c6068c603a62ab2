// Sound for the page: the worker that holds the connection, the audio thread, and the volume behind it.
import { Playback } from "./playback.js";

const QUANTUM = 0.004; // seconds that the audio thread should make at once, where a browser lets it be chosen
const RAMP = 0.015; // seconds of a change of the volume
const SILENCE = 200; // milliseconds after a stop until the device is given back
const SCRIPT_BLOCK = 512; // samples at once where there is no worklet
const LOOK = 500; // milliseconds between two looks at the time of the device,
const STILL = 5; // and the looks that find it standing until that is told: one that wakes up may take two seconds

export class Player {
  // on: called with each message of the worker and of the audio thread, which has a word in `is`.
  constructor(address, on) {
    this.on = on;
    this.volume = 1;
    this.plays = 0; // a number for each play, so that late messages of another one are told apart
    this.changes = 0; // likewise for each change
    this.stuck = false; // whether the device takes no sound, so that the next press tries another context
    this.sentAt = new Map(); // when each change was made, in milliseconds
    this.worker = new Worker(new URL("connection.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.on(data);
    this.worker.onerror = () => this.on({ is: "error", message: "This browser is too old for this page." });
    this.worker.postMessage({ do: "connect", address });
  }

  // Begins a new stream. Must be called by the press of a button or a key, without which browsers make no sound.
  async play(model, message) {
    const play = (this.plays += 1);
    this.sentAt.clear();
    clearTimeout(this.suspending);
    clearTimeout(this.looking);
    if (this.stuck || this.context?.sampleRate !== model.rate) this.opened = this.open(model.rate);
    this.context?.resume(); // before anything is waited for, or it is no longer the press that asks for it
    const { opened } = this;
    try {
      await opened; // of an earlier press too
    } catch (error) {
      if (opened === this.opened) this.close(); // so that the next press tries again
      throw error;
    }
    if (play !== this.plays) return; // stopped, or begun again, meanwhile
    this.worker.postMessage({ do: "play", play, model, message });
    this.watch(this.context.currentTime);
  }

  // Tells at each look whether the device takes sound: where there is none, or it went away, the context may well be
  // "running", but its time stands. Looks are counted, not seconds, so a page that is slow gives no false alarm.
  watch(before, still = 0) {
    this.looking = setTimeout(() => {
      const { currentTime } = this.context;
      if (currentTime !== before) still = 0;
      else if (!document.hidden) still += 1;
      this.stuck = still >= STILL;
      this.on({ is: "device", takes: !this.stuck });
      this.watch(currentTime, still);
    }, LOOK);
  }

  async open(rate) {
    this.close();
    this.stuck = false;
    this.context = newContext(rate);
    const { context } = this;
    context.onstatechange = () => {
      if (context === this.context && context.state !== "running") this.on({ is: "interrupted" });
    };
    this.gain = new GainNode(context, { gain: this.volume });
    this.gain.connect(context.destination);
    const { port1, port2 } = new MessageChannel();
    const quantum = context.audioWorklet ? (context.renderQuantumSize ?? 128) : SCRIPT_BLOCK;
    const burst = Math.max(quantum / rate, context.baseLatency ?? 0);
    this.node = context.audioWorklet ? await this.worklet(context, port1) : this.script(context, port1);
    if (context !== this.context) return;
    this.node.connect(this.gain);
    this.worker.postMessage({ do: "join", port: port2, burst }, [port2]);
  }

  async worklet(context, port) {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.hear(data);
    node.port.postMessage({ do: "join", port }, [port]);
    return node;
  }

  // A page that came over plain HTTP from another machine gets no worklet, but this, on the page's own thread.
  script(context, port) {
    const playback = new Playback(context.sampleRate, (told) => this.hear(told), (asked) => port.postMessage(asked));
    port.onmessage = ({ data }) => playback[data.do](data);
    const node = context.createScriptProcessor(SCRIPT_BLOCK, 0, 1);
    node.onaudioprocess = ({ outputBuffer }) => playback.render(outputBuffer.getChannelData(0));
    return node;
  }

  hear(told) {
    if (told.is === "heard") {
      const sent = this.sentAt.get(told.id);
      for (const id of this.sentAt.keys()) if (id <= told.id) this.sentAt.delete(id);
      if (sent !== undefined) this.on({ is: "heard", milliseconds: told.at - sent });
    } else if (told.play === this.plays) this.on(told);
  }

  set(changes) {
    this.send({ do: "set", changes });
  }

  reset() {
    this.send({ do: "reset" });
  }

  send(task) {
    const id = (this.changes += 1);
    this.sentAt.set(id, Date.now()); // the clock that a worklet has too
    this.worker.postMessage({ ...task, id });
  }

  stop() {
    this.worker.postMessage({ do: "stop" });
    this.rest();
  }

  // After a stop, whoever asked for it: the device is given back.
  rest() {
    this.plays += 1;
    clearTimeout(this.looking);
    this.on({ is: "device", takes: true });
    clearTimeout(this.suspending);
    this.suspending = setTimeout(() => this.context?.suspend(), SILENCE);
  }

  setVolume(volume) {
    this.volume = volume;
    if (this.context) this.gain.gain.setTargetAtTime(volume, this.context.currentTime, RAMP / 3);
  }

  // seconds: how far ahead of what is heard changes are made; null leaves that to how soon their sound comes.
  setLead(seconds) {
    this.worker.postMessage({ do: "lead", seconds });
  }

  // Seconds that the device itself takes, where the browser tells.
  get deviceLatency() {
    return this.context?.outputLatency || this.context?.baseLatency || 0;
  }

  close() {
    this.node?.port?.postMessage({ do: "close" }); // only a worklet has a port
    const { context } = this;
    this.context = this.node = null;
    context?.close();
  }
}

// Browsers take 128 samples at once, which is 16 ms at 8 kHz; those that can are asked for less.
function newContext(rate) {
  const renderSizeHint = Math.min(128, 2 ** Math.round(Math.log2(QUANTUM * rate)));
  try {
    return new AudioContext({ sampleRate: rate, latencyHint: "interactive", renderSizeHint });
  } catch {
    throw new Error(`This browser cannot play ${rate} samples a second.`);
  }
}
