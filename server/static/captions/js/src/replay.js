/** What a client must keep to go on after an interruption, without any I/O: audio that no final covers yet. */
/** The unsettled end of a stream. */
export class Replay {
    sampleRate;
    sampleBytes;
    /** Where it starts: the `resume_ms` of the next connection. */
    startMs = 0;
    /** The `resume_segment` of the next connection. */
    segment = 0;
    #items = [];
    #startBytes = 0;
    #heldBytes = 0;
    #keepBytes;
    /** Keeps at most `keepS` seconds: a server settles a segment long before that. */
    constructor(sampleRate, sampleBytes, keepS = 60) {
        this.sampleRate = sampleRate;
        this.sampleBytes = sampleBytes;
        this.#keepBytes = Math.floor(keepS * sampleRate) * sampleBytes;
    }
    /** What has to be sent again, in order. */
    get items() {
        return [...this.#items];
    }
    /** Audio that is kept. */
    get heldBytes() {
        return this.#heldBytes;
    }
    /** Something was, or is about to be, sent. */
    add(item) {
        this.#items.push(item);
        if (typeof item === "string")
            return;
        this.#heldBytes += item.byteLength;
        if (this.#heldBytes > this.#keepBytes) {
            this.#dropTo(this.#wholeSamples(this.#startBytes + this.#heldBytes - this.#keepBytes), false);
            this.startMs = Math.floor((this.#startBytes * 1_000) / (this.sampleRate * this.sampleBytes));
        }
    }
    /** A final came: what it covers need not be sent again. */
    settled(final) {
        const position = Math.floor((final.audio_ms * this.sampleRate) / 1_000) * this.sampleBytes;
        this.#dropTo(position, true);
        const mark = final.cause === "flush" || final.cause === "finish" ? this.#items.indexOf(final.cause) : -1;
        if (mark >= 0)
            this.#items.splice(mark, 1);
        this.startMs = final.audio_ms;
        this.segment = final.segment + 1;
    }
    #wholeSamples(bytes) {
        return Math.ceil(bytes / this.sampleBytes) * this.sampleBytes;
    }
    #dropTo(position, keepMarks) {
        const marks = [];
        while (this.#startBytes < position) {
            const item = this.#items.shift();
            if (item === undefined)
                break;
            if (typeof item === "string") {
                if (keepMarks)
                    marks.push(item);
                continue;
            }
            const count = Math.min(item.byteLength, position - this.#startBytes);
            this.#startBytes += count;
            this.#heldBytes -= count;
            if (count < item.byteLength)
                this.#items.unshift(item.subarray(count));
        }
        this.#items.unshift(...marks);
    }
}
