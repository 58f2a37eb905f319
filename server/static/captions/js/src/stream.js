/** A session that survives interruptions: audio in, partials and finals out, reconnected and resumed as needed. */
import { Channel, delay, Signal } from "./channel.js";
import { Connection } from "./connection.js";
import { AmiraClientError, ConnectionLostError, ServerError } from "./errors.js";
import { Replay } from "./replay.js";
const WIDTHS = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
const AHEAD_MARGIN = 0.8; // of the allowed head start: clocks differ, and messages take time
export const DEFAULT_RETRY = { attempts: 6, baseMs: 200, capMs: 5_000 };
/**
 * A session. Send audio, and iterate over what the server says:
 *
 *     const stream = new Stream({ url: "ws://localhost:8080", start: { sample_rate: 16_000 } });
 *     void stream.send(audio).then(() => stream.finish());
 *     for await (const event of stream) console.log(event.text);
 */
export class Stream {
    /** How often the connection was opened again. */
    reconnects = 0;
    #options;
    #retry;
    #replay;
    #bytesPerMs;
    #events = new Channel();
    #changed = new Signal(); // there is something to send
    #progressed = new Signal(); // something was sent, or nothing will be any more
    #closing = new AbortController();
    #outgoing = [];
    #ready;
    #heard = 0; // messages that show that the server is alive
    #failure;
    #finishing = false;
    constructor(options) {
        const { encoding = "pcm_s16le", sample_rate } = options.start;
        const width = WIDTHS[encoding] ?? 1; // the server says what is wrong with one that does not exist
        this.#options = options;
        this.#retry = { ...DEFAULT_RETRY, ...options.retry };
        this.#replay = new Replay(sample_rate, width);
        this.#bytesPerMs = (sample_rate * width) / 1_000;
        void this.#run();
    }
    /** What the server said about the session, once it is ready. */
    get ready() {
        return this.#ready;
    }
    /**
     * Sends audio; resolves when the network has taken it and it is not too far ahead of real time.
     *
     * @throws AmiraClientError The session failed for good.
     */
    async send(audio) {
        const bytes = ArrayBuffer.isView(audio)
            ? new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength)
            : new Uint8Array(audio);
        this.#put(bytes.slice()); // it is kept for a while, and the caller may use the array again
        while (this.#outgoing.length > 1 && this.#failure === undefined)
            await this.#progressed.wait();
        if (this.#failure)
            throw this.#failure;
    }
    /** Ends the running segment; a final with cause `flush` will come. */
    flush() {
        this.#put("flush");
    }
    /** There is no more audio; after the last final the iteration ends. */
    finish() {
        if (this.#finishing)
            return;
        this.#put("finish");
        this.#finishing = true;
    }
    /** Drops the session; `finish` first to hear the rest. */
    close() {
        this.#closing.abort();
    }
    /** What the server says, as it says it. It throws what the session failed of. */
    [Symbol.asyncIterator]() {
        return this.#events;
    }
    #put(item) {
        if (this.#failure)
            throw this.#failure;
        if (this.#finishing)
            throw new AmiraClientError("the session was told that there is no more audio");
        this.#replay.add(item);
        this.#outgoing.push(item);
        this.#changed.notify();
    }
    async #run() {
        let failures = 0;
        let lost;
        try {
            for (;;) {
                const before = this.#heard;
                this.#options.onState?.("connecting", lost);
                try {
                    await this.#converse();
                    break;
                }
                catch (error) {
                    if (this.#closing.signal.aborted)
                        break;
                    if (!isRetryable(error))
                        throw error;
                    failures = this.#heard > before ? 1 : failures + 1;
                    if (failures > this.#retry.attempts)
                        throw error;
                    lost = error;
                }
                if (!(await delay(this.#delayMs(lost, failures), this.#closing.signal)))
                    break;
                this.reconnects += 1;
            }
            this.#end(undefined);
        }
        catch (error) {
            this.#end(error instanceof AmiraClientError ? error : new AmiraClientError(String(error), { cause: error }));
        }
    }
    #end(error) {
        this.#failure = error ?? new AmiraClientError("the session is over");
        this.#events.end(error);
        this.#progressed.notify();
        this.#options.onState?.("closed", error);
    }
    /** A random wait: clients that were cut off together must not come back together. */
    #delayMs(error, failures) {
        const least = error instanceof ServerError ? (error.retryAfterMs ?? 0) : 0;
        return least + Math.random() * Math.min(this.#retry.capMs, this.#retry.baseMs * 2 ** (failures - 1));
    }
    async #converse() {
        const { url, start, webSocket } = this.#options;
        const closing = this.#closing.signal;
        const connection = await Connection.open(url, { webSocket, signal: closing });
        const done = new AbortController(); // ends the sending side
        const drop = () => connection.close();
        closing.addEventListener("abort", drop, { once: true });
        try {
            const { startMs: resume_ms, segment: resume_segment } = this.#replay;
            connection.send({ ...start, type: "start", resume_ms, resume_segment });
            this.#outgoing = this.#replay.items; // what was not settled is sent again, and what was never sent is its end
            for await (const message of connection) {
                if (message.type === "ready")
                    void this.#sendAll(connection, message, done.signal);
                if (this.#hear(message))
                    return;
            }
            throw new ConnectionLostError("the server closed the connection before the session was finished", 1000);
        }
        finally {
            closing.removeEventListener("abort", drop);
            done.abort();
            this.#changed.notify();
            connection.close();
        }
    }
    /** Takes a message; whether it was the last. */
    #hear(message) {
        if (message.type === "error") {
            throw new ServerError(message.code, message.message, message.retryable, message.retry_after_ms);
        }
        this.#heard += 1;
        if (message.type === "closing")
            return message.reason === "finished";
        if (message.type === "ready") {
            this.#ready = message;
            this.#options.onState?.("ready", undefined);
            return false;
        }
        if (message.type === "final")
            this.#replay.settled(message);
        this.#events.put(message);
        return false;
    }
    async #sendAll(connection, ready, done) {
        const begun = performance.now();
        const allowedMs = ready.max_ahead_ms * AHEAD_MARGIN;
        let sentBytes = 0;
        try {
            while (!done.aborted) {
                const [item] = this.#outgoing;
                if (item === undefined) {
                    await this.#changed.wait();
                    continue;
                }
                if (typeof item === "string") {
                    connection.send({ type: item });
                }
                else {
                    await connection.writable();
                    const aheadMs = (sentBytes + item.byteLength) / this.#bytesPerMs - (performance.now() - begun);
                    if (aheadMs > allowedMs && !(await delay(aheadMs - allowedMs, done)))
                        return;
                    for (let at = 0; at < item.byteLength; at += ready.max_message_bytes) {
                        connection.sendAudio(item.slice(at, at + ready.max_message_bytes));
                    }
                    sentBytes += item.byteLength;
                }
                this.#outgoing.shift();
                this.#progressed.notify();
            }
        }
        catch (error) {
            if (!(error instanceof ConnectionLostError))
                throw error; // the receiving side has noticed, too, and knows why
        }
    }
}
function isRetryable(error) {
    return error instanceof ConnectionLostError || (error instanceof ServerError && error.retryable);
}
