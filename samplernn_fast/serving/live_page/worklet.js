// The audio thread: it takes samples straight from the worker that holds the connection, so a page that is busy drawing
// delays no sound.
import { Playback } from "./playback.js";

class PlaybackProcessor extends AudioWorkletProcessor {
  constructor() {
    super();
    this.closed = false;
    this.port.onmessage = ({ data }) => {
      if (data.do === "close") this.closed = true;
      else this.join(data.port);
    };
  }

  join(port) {
    this.playback = new Playback(
      sampleRate,
      (told) => this.port.postMessage(told, told.samples ? [told.samples.buffer] : []),
      (asked) => port.postMessage(asked),
    );
    port.onmessage = ({ data }) => this.playback[data.do](data);
  }

  process(inputs, outputs) {
    if (this.playback) this.playback.render(outputs[0][0]);
    return !this.closed;
  }
}

registerProcessor("playback", PlaybackProcessor);
