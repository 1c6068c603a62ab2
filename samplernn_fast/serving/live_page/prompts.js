// A prompt: a recording that the model goes on from, from a file or from the microphone.
import { post, wav } from "./clips.js";

const NONE = "None: the model begins from silence.";
const element = (name) => document.getElementById(name);

export class Prompt {
  // change: called when there is another prompt or none. record: called before the microphone listens.
  // complain: called with a line for the listener.
  constructor({ change, record, complain }) {
    Object.assign(this, { change, record, complain });
    this.id = null;
    this.turn = 0; // what is chosen or removed meanwhile counts, and not what was sent before
    this.most = 30; // seconds
    this.file = element("prompt-file");
    this.button = element("prompt-record");
    this.file.addEventListener("change", () => {
      if (this.file.files.length) this.upload(this.file.files[0], this.file.files[0].name);
      this.file.value = ""; // so that the same file can be chosen again
    });
    element("prompt-choose").addEventListener("click", () => this.file.click());
    element("prompt-remove").addEventListener("click", () => {
      this.remove();
      element("prompt-choose").focus();
    });
    this.button.addEventListener("click", () => (this.recorder ? this.recorder.stop() : this.listen()));
    this.button.disabled = !navigator.mediaDevices?.getUserMedia || !window.MediaRecorder;
    element("no-microphone").hidden = !this.button.disabled;
    this.takeDrops();
    this.tell(NONE);
  }

  tell(text) {
    element("prompt-state").textContent = text;
    element("prompt-remove").hidden = this.id === null;
  }

  takeDrops() {
    const holdsFile = (event) => [...event.dataTransfer.types].includes("Files");
    document.addEventListener("dragover", (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault();
      element("prompt").classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) element("prompt").classList.remove("dropping");
    });
    document.addEventListener("drop", (event) => {
      element("prompt").classList.remove("dropping");
      if (!holdsFile(event)) return;
      event.preventDefault();
      this.upload(event.dataTransfer.files[0], event.dataTransfer.files[0].name);
    });
  }

  // file: a name whose end says what it is.
  async upload(content, name, file = name) {
    const turn = (this.turn += 1);
    this.tell(`Sending ${name} …`);
    try {
      const { prompt, seconds } = await (await post("api/prompts", content, { name: file })).json();
      if (turn !== this.turn) return;
      const another = prompt !== this.id; // the server names a recording after what it holds
      this.id = prompt;
      this.sent = [content, name, file];
      this.name = `${name}, ${seconds.toFixed(1)} s`;
      if (another) this.change();
    } catch (error) {
      if (turn !== this.turn) return;
      this.complain(error.message);
      if (content === this.sent?.[0]) this.id = null; // a server that began anew does not have it
    }
    this.tell(this.id === null ? NONE : `The model goes on from ${this.name}.`);
  }

  // The server may have begun anew, and then it has no recording.
  async sendAgain() {
    if (this.id !== null) await this.upload(...this.sent);
  }

  remove() {
    this.forget();
    this.change();
  }

  forget() {
    this.turn += 1;
    this.id = null;
    this.tell(NONE);
  }

  async listen() {
    let sound;
    this.record();
    this.button.disabled = true; // a second press would lose the first recording, and never end it
    try {
      // What browsers do to voices for calls would change music.
      const asItIs = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
      sound = await navigator.mediaDevices.getUserMedia({ audio: asItIs });
    } catch {
      this.complain("The browser gives this page no microphone.");
      return;
    } finally {
      this.button.disabled = false;
    }
    const parts = [];
    this.recorder = new MediaRecorder(sound);
    this.recorder.ondataavailable = ({ data }) => parts.push(data);
    this.recorder.onstop = () => {
      for (const track of sound.getTracks()) track.stop();
      this.recorded(new Blob(parts, { type: parts[0]?.type }));
    };
    this.recorder.start();
    this.began = performance.now();
    this.show();
  }

  // Shows how long the recording is, until it ends by a press or at its limit.
  show() {
    if (!this.recorder) return;
    const seconds = (performance.now() - this.began) / 1000;
    this.button.textContent = "Stop recording";
    element("prompt-seconds").textContent = `${Math.floor(seconds)} of ${this.most} s`;
    if (seconds >= this.most && this.recorder.state === "recording") this.recorder.stop();
    setTimeout(() => this.show(), 250);
  }

  async recorded(blob) {
    this.recorder = null;
    this.button.textContent = "Record";
    element("prompt-seconds").textContent = "";
    const context = new AudioContext();
    try {
      const sound = await context.decodeAudioData(await blob.arrayBuffer());
      await this.upload(wav(sound.getChannelData(0), sound.sampleRate, { bits: 16 }), "your recording", "recording.wav");
    } catch {
      this.complain("Nothing was recorded.");
    }
    context.close();
  }
}
