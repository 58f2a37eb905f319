/**
 * Sampling-rate conversion, piece by piece: a polyphase windowed-sinc low-pass (Kaiser window).
 *
 * J. O. Smith, "Digital Audio Resampling", and A. V. Oppenheim, R. W. Schafer, "Discrete-Time Signal Processing" (the
 * Kaiser window). 24 zero crossings and beta 9 keep what would alias more than 80 dB down and cost, from 48 kHz to
 * 16 kHz, 2.4 million multiplications a second.
 */
const ZERO_CROSSINGS = 24;
const KAISER_BETA = 9;
const PASS_BAND = 0.9; // of the lower rate's half: the rest is the filter's slope
/** Converts one channel from one rate to another. The cut of the input does not change the output. */
export class Resampler {
    inputRate;
    outputRate;
    #up;
    #down;
    #taps; // a phase
    #phases;
    #history;
    #position; // of the next output, in 1/up samples after the history's start
    /**
     * @param inputRate Samples per second of what goes in, an integer.
     * @param outputRate Samples per second of what comes out, an integer.
     */
    constructor(inputRate, outputRate) {
        this.inputRate = inputRate;
        this.outputRate = outputRate;
        for (const rate of [inputRate, outputRate]) {
            if (!Number.isInteger(rate) || rate <= 0)
                throw new RangeError(`sampling rate ${rate} is not a positive integer`);
        }
        const common = greatestCommonDivisor(inputRate, outputRate);
        this.#up = outputRate / common;
        this.#down = inputRate / common;
        const cutoff = Math.min(1, outputRate / inputRate) * PASS_BAND; // of the input's half rate
        const half = Math.ceil(ZERO_CROSSINGS / cutoff);
        this.#taps = 2 * half;
        this.#phases = Array.from({ length: this.#up }, (_, phase) => phaseFilter(phase / this.#up, half, cutoff));
        this.#history = new Float32Array(half - 1); // silence before the first sample: output 0 is at input 0
        this.#position = 0;
    }
    /** The output that `input` makes possible. */
    push(input) {
        const samples = new Float32Array(this.#history.length + input.length);
        samples.set(this.#history);
        samples.set(input, this.#history.length);
        const last = samples.length - this.#taps; // where the last window begins
        const count = last < 0 ? 0 : Math.max(0, Math.floor((last * this.#up + this.#up - 1 - this.#position) / this.#down) + 1);
        const output = new Float32Array(count);
        for (let at = 0; at < count; at += 1) {
            const begin = Math.floor(this.#position / this.#up);
            const filter = this.#phases[this.#position % this.#up];
            let sum = 0;
            for (let tap = 0; tap < this.#taps; tap += 1) {
                sum += samples[begin + tap] * filter[tap];
            }
            output[at] = sum;
            this.#position += this.#down;
        }
        const used = Math.min(Math.floor(this.#position / this.#up), samples.length);
        this.#history = samples.slice(used);
        this.#position -= used * this.#up;
        return output;
    }
    /** The rest, up to the last sample that went in. */
    flush() {
        return this.push(new Float32Array(this.#taps / 2));
    }
}
/** Samples in [-1, 1] as signed 16-bit integers; what is beyond is clipped. */
export function toPcm16(samples) {
    return Int16Array.from(samples, (sample) => Math.max(-32_768, Math.min(32_767, Math.round(sample * 32_768))));
}
/** The taps of the output that lies `fraction` of a sample after an input sample. */
function phaseFilter(fraction, half, cutoff) {
    const filter = new Float32Array(2 * half);
    let sum = 0;
    for (let tap = 0; tap < filter.length; tap += 1) {
        const distance = tap - (half - 1) - fraction; // in input samples
        const value = sinc(distance * cutoff) * kaiser(distance / half);
        filter[tap] = value;
        sum += value;
    }
    return filter.map((value) => value / sum); // a constant stays what it is, in every phase
}
function sinc(x) {
    return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}
function kaiser(x) {
    return Math.abs(x) > 1 ? 0 : besselI0(KAISER_BETA * Math.sqrt(1 - x * x)) / besselI0(KAISER_BETA);
}
/** Modified Bessel function of the first kind, order 0, by its power series. */
function besselI0(x) {
    let term = 1;
    let sum = 1;
    for (let k = 1; term > sum * 1e-12; k += 1) {
        term *= (x / (2 * k)) ** 2;
        sum += term;
    }
    return sum;
}
function greatestCommonDivisor(a, b) {
    return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
