/** Sound of a browser's microphone as 16 kHz PCM16, captured in the audio thread (AudioWorklet). */
import { MicrophoneError } from "./errors.js";
/** A microphone that is open. */
export class Microphone {
    #context;
    #node;
    #stream;
    #last;
    constructor(context, stream, options) {
        const processorOptions = { outputRate: options.sampleRate ?? 16_000, chunkMs: options.chunkMs ?? 100 };
        this.#context = context;
        this.#stream = stream;
        this.#node = new AudioWorkletNode(context, "amira-capture", { numberOfOutputs: 0, processorOptions });
        this.#last = new Promise((resolve) => {
            this.#node.port.onmessage = ({ data }) => {
                if (data.pcm.byteLength > 0)
                    options.onAudio(data.pcm, data.level);
                if (data.last)
                    resolve();
            };
        });
        for (const track of stream.getAudioTracks())
            track.addEventListener("ended", () => options.onEnded?.());
        context.createMediaStreamSource(stream).connect(this.#node);
    }
    /**
     * Asks for the microphone and starts. Call it where the user has just done something: browsers want that.
     *
     * @throws MicrophoneError There is none, or the page may not use it; the message says what to do.
     */
    static async open(options) {
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
        }
        catch (error) {
            for (const track of stream.getTracks())
                track.stop();
            await context.close();
            throw error;
        }
    }
    /** Stops; what was captured until now still reaches `onAudio` before it resolves. */
    async stop() {
        if (this.#context.state === "closed")
            return;
        this.#node.port.postMessage("stop");
        await this.#last;
        for (const track of this.#stream.getTracks())
            track.stop();
        await this.#context.close();
    }
}
async function userMedia(deviceId) {
    // What helps a call hurts a recogniser: it was trained on sound with its noise and its room.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: true };
    try {
        return await navigator.mediaDevices.getUserMedia({ audio: deviceId ? { ...audio, deviceId } : audio });
    }
    catch (error) {
        if (!(error instanceof DOMException))
            throw error;
        if (error.name === "NotAllowedError") {
            throw new MicrophoneError("denied", "The microphone is blocked. Allow it in the browser's settings of this page.");
        }
        if (error.name === "NotFoundError")
            throw new MicrophoneError("missing", "No microphone was found. Connect one.");
        if (error.name === "NotReadableError") {
            throw new MicrophoneError("busy", "The microphone cannot be opened. Another program may be using it.");
        }
        throw error;
    }
}
