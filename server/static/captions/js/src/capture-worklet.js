/** Runs in the audio thread: mixes to one channel, converts to 16 kHz PCM16, posts 100 ms at a time. */
import { Resampler, toPcm16 } from "./resample.js";
class Capture extends AudioWorkletProcessor {
    #resampler;
    #chunk;
    #filled = 0;
    #running = true;
    constructor({ processorOptions }) {
        super();
        const { outputRate, chunkMs } = processorOptions;
        this.#resampler = new Resampler(sampleRate, outputRate);
        this.#chunk = new Float32Array(Math.round((outputRate * chunkMs) / 1_000));
        this.port.onmessage = () => this.#stop();
    }
    process(inputs) {
        const channels = inputs[0] ?? [];
        if (this.#running && channels.length > 0)
            this.#take(this.#resampler.push(mixed(channels)));
        return this.#running;
    }
    #take(samples) {
        let rest = samples;
        while (rest.length > 0) {
            const count = Math.min(rest.length, this.#chunk.length - this.#filled);
            this.#chunk.set(rest.subarray(0, count), this.#filled);
            this.#filled += count;
            rest = rest.subarray(count);
            if (this.#filled === this.#chunk.length)
                this.#post(false);
        }
    }
    #stop() {
        if (!this.#running)
            return;
        this.#running = false;
        this.#take(this.#resampler.flush());
        this.#post(true);
    }
    #post(last) {
        const samples = this.#chunk.subarray(0, this.#filled);
        const energy = samples.reduce((sum, sample) => sum + sample * sample, 0);
        const pcm = toPcm16(samples).buffer;
        const message = { pcm, level: Math.sqrt(energy / Math.max(1, samples.length)), last };
        this.port.postMessage(message, [pcm]);
        this.#filled = 0;
    }
}
function mixed(channels) {
    const [first = new Float32Array(), ...others] = channels;
    if (others.length === 0)
        return first;
    return first.map((sample, at) => others.reduce((sum, other) => sum + (other[at] ?? 0), sample) / channels.length);
}
registerProcessor("amira-capture", Capture);
