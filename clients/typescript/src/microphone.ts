/** Sound of a browser's microphone as 16 kHz PCM16, captured in the audio thread (AudioWorklet). */

import type { Captured } from "./capture-worklet.js";
import { MicrophoneError } from "./errors.js";

/** What to capture. */
export interface MicrophoneOptions {
  /** Called with each piece of audio: PCM16 samples, little-endian, and how loud they are (1 is full scale). */
  readonly onAudio: (pcm: ArrayBuffer, level: number) => void;
  /** Called when the device goes away by itself. */
  readonly onEnded?: () => void;
  /** A device of `navigator.mediaDevices.enumerateDevices()`; the browser's choice if not given. */
  readonly deviceId?: string;
  /** Samples per second of the output; 16,000 if not given. */
  readonly sampleRate?: number;
  /** Milliseconds of a piece; 100 if not given. */
  readonly chunkMs?: number;
  /** Where the worklet's module lies; beside this one if not given. A bundler may want another place. */
  readonly workletUrl?: string | URL;
}

/** A microphone that is open. */
export class Microphone {
  readonly #context: AudioContext;
  readonly #node: AudioWorkletNode;
  readonly #stream: MediaStream;
  readonly #last: Promise<void>;

  private constructor(context: AudioContext, stream: MediaStream, options: MicrophoneOptions) {
    const processorOptions = { outputRate: options.sampleRate ?? 16_000, chunkMs: options.chunkMs ?? 100 };
    this.#context = context;
    this.#stream = stream;
    this.#node = new AudioWorkletNode(context, "amira-capture", { numberOfOutputs: 0, processorOptions });
    this.#last = new Promise((resolve) => {
      this.#node.port.onmessage = ({ data }: MessageEvent<Captured>) => {
        if (data.pcm.byteLength > 0) options.onAudio(data.pcm, data.level);
        if (data.last) resolve();
      };
    });
    for (const track of stream.getAudioTracks()) track.addEventListener("ended", () => options.onEnded?.());
    context.createMediaStreamSource(stream).connect(this.#node);
  }

  /**
   * Asks for the microphone and starts. Call it where the user has just done something: browsers want that.
   *
   * @throws MicrophoneError There is none, or the page may not use it; the message says what to do.
   */
  static async open(options: MicrophoneOptions): Promise<Microphone> {
    if (typeof AudioWorkletNode !== "function" || navigator.mediaDevices === undefined) {
      throw globalThis.isSecureContext
        ? new MicrophoneError("unsupported", "This browser cannot capture sound (AudioWorklet). Use a current one.")
        : new MicrophoneError("insecure", "Browsers give a microphone to pages of https:// or localhost alone.");
    }
    const stream = await userMedia(options.deviceId);
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(options.workletUrl ?? new URL("./capture-worklet.js", import.meta.url));
      await context.resume();
      return new Microphone(context, stream, options);
    } catch (error) {
      for (const track of stream.getTracks()) track.stop();
      await context.close();
      throw error;
    }
  }

  /** Stops; what was captured until now still reaches `onAudio` before it resolves. */
  async stop(): Promise<void> {
    if (this.#context.state === "closed") return;
    this.#node.port.postMessage("stop");
    await this.#last;
    for (const track of this.#stream.getTracks()) track.stop();
    await this.#context.close();
  }
}

async function userMedia(deviceId: string | undefined): Promise<MediaStream> {
  // What helps a call hurts a recogniser: it was trained on sound with its noise and its room.
  const audio: MediaTrackConstraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: deviceId ? { ...audio, deviceId } : audio });
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
    if (error.name === "NotAllowedError") {
      throw new MicrophoneError(
        "denied",
        "The microphone is blocked. Allow it in the browser's settings of this page.",
      );
    }
    if (error.name === "NotFoundError") throw new MicrophoneError("missing", "No microphone was found. Connect one.");
    if (error.name === "NotReadableError") {
      throw new MicrophoneError("busy", "The microphone cannot be opened. Another program may be using it.");
    }
    throw error;
  }
}
