/** A session that survives interruptions: audio in, partials and finals out, reconnected and resumed as needed. */

import { Channel, delay, Signal } from "./channel.js";
import { Connection, type WebSocketClass } from "./connection.js";
import { AmiraClientError, ConnectionLostError, ServerError } from "./errors.js";
import type { Final, Partial, Ready, ServerMessage, Start } from "./messages.js";
import { type Item, Replay } from "./replay.js";

const WIDTHS: Readonly<Record<string, number>> = { pcm_s16le: 2, pcm_f32le: 4, mulaw: 1, alaw: 1 };
const AHEAD_MARGIN = 0.8; // of the allowed head start: clocks differ, and messages take time

/** How a broken connection is opened again. */
export interface Retry {
  /** Failures in a row before the error is thrown; a message of the server sets them back. */
  readonly attempts: number;
  /** Longest wait before the first new attempt; it doubles with each failure. */
  readonly baseMs: number;
  /** Longest wait of all. */
  readonly capMs: number;
}

export const DEFAULT_RETRY: Retry = { attempts: 6, baseMs: 200, capMs: 5_000 };

/** `connecting` comes again after each interruption; `closed` is the end, with the error where there was one. */
export type StreamState = "connecting" | "ready" | "closed";

/** Where a stream connects and what it asks for. */
export interface StreamOptions {
  /** The server, e.g. `ws://localhost:8080`. */
  readonly url: string;
  /** The first message; see the protocol. */
  readonly start: Omit<Start, "type" | "resume_ms" | "resume_segment">;
  readonly retry?: globalThis.Partial<Retry>;
  /** The class to use; the platform's own, or that of the `ws` package, if not given. */
  readonly webSocket?: WebSocketClass;
  /** Called at each change of state; `error` is why the connection before was lost, or the session failed. */
  readonly onState?: (state: StreamState, error: AmiraClientError | undefined) => void;
}

/**
 * A session. Send audio, and iterate over what the server says:
 *
 *     const stream = new Stream({ url: "ws://localhost:8080", start: { sample_rate: 16_000 } });
 *     void stream.send(audio).then(() => stream.finish());
 *     for await (const event of stream) console.log(event.text);
 */
export class Stream implements AsyncIterable<Partial | Final> {
  /** How often the connection was opened again. */
  reconnects = 0;
  readonly #options: StreamOptions;
  readonly #retry: Retry;
  readonly #replay: Replay;
  readonly #bytesPerMs: number;
  readonly #events = new Channel<Partial | Final>();
  readonly #changed = new Signal(); // there is something to send
  readonly #progressed = new Signal(); // something was sent, or nothing will be any more
  readonly #closing = new AbortController();
  #outgoing: Item[] = [];
  #ready: Ready | undefined;
  #heard = 0; // messages that show that the server is alive
  #failure: AmiraClientError | undefined;
  #finishing = false;

  constructor(options: StreamOptions) {
    const { encoding = "pcm_s16le", sample_rate } = options.start;
    const width = WIDTHS[encoding] ?? 1; // the server says what is wrong with one that does not exist
    this.#options = options;
    this.#retry = { ...DEFAULT_RETRY, ...options.retry };
    this.#replay = new Replay(sample_rate, width);
    this.#bytesPerMs = (sample_rate * width) / 1_000;
    void this.#run();
  }

  /** What the server said about the session, once it is ready. */
  get ready(): Ready | undefined {
    return this.#ready;
  }

  /**
   * Sends audio; resolves when the network has taken it and it is not too far ahead of real time.
   *
   * @throws AmiraClientError The session failed for good.
   */
  async send(audio: ArrayBuffer | ArrayBufferView): Promise<void> {
    const bytes = ArrayBuffer.isView(audio)
      ? new Uint8Array(audio.buffer, audio.byteOffset, audio.byteLength)
      : new Uint8Array(audio);
    this.#put(bytes.slice()); // it is kept for a while, and the caller may use the array again
    while (this.#outgoing.length > 1 && this.#failure === undefined) await this.#progressed.wait();
    if (this.#failure) throw this.#failure;
  }

  /** Ends the running segment; a final with cause `flush` will come. */
  flush(): void {
    this.#put("flush");
  }

  /** There is no more audio; after the last final the iteration ends. */
  finish(): void {
    if (this.#finishing) return;
    this.#put("finish");
    this.#finishing = true;
  }

  /** Drops the session; `finish` first to hear the rest. */
  close(): void {
    this.#closing.abort();
  }

  /** What the server says, as it says it. It throws what the session failed of. */
  [Symbol.asyncIterator](): AsyncIterator<Partial | Final, undefined> {
    return this.#events;
  }

  #put(item: Item): void {
    if (this.#failure) throw this.#failure;
    if (this.#finishing) throw new AmiraClientError("the session was told that there is no more audio");
    this.#replay.add(item);
    this.#outgoing.push(item);
    this.#changed.notify();
  }

  async #run(): Promise<void> {
    let failures = 0;
    let lost: AmiraClientError | undefined;
    try {
      for (;;) {
        const before = this.#heard;
        this.#options.onState?.("connecting", lost);
        try {
          await this.#converse();
          break;
        } catch (error) {
          if (this.#closing.signal.aborted) break;
          if (!isRetryable(error)) throw error;
          failures = this.#heard > before ? 1 : failures + 1;
          if (failures > this.#retry.attempts) throw error;
          lost = error;
        }
        if (!(await delay(this.#delayMs(lost, failures), this.#closing.signal))) break;
        this.reconnects += 1;
      }
      this.#end(undefined);
    } catch (error) {
      this.#end(error instanceof AmiraClientError ? error : new AmiraClientError(String(error), { cause: error }));
    }
  }

  #end(error: AmiraClientError | undefined): void {
    this.#failure = error ?? new AmiraClientError("the session is over");
    this.#events.end(error);
    this.#progressed.notify();
    this.#options.onState?.("closed", error);
  }

  /** A random wait: clients that were cut off together must not come back together. */
  #delayMs(error: AmiraClientError | undefined, failures: number): number {
    const least = error instanceof ServerError ? (error.retryAfterMs ?? 0) : 0;
    return least + Math.random() * Math.min(this.#retry.capMs, this.#retry.baseMs * 2 ** (failures - 1));
  }

  async #converse(): Promise<void> {
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
        if (message.type === "ready") void this.#sendAll(connection, message, done.signal);
        if (this.#hear(message)) return;
      }
      throw new ConnectionLostError("the server closed the connection before the session was finished", 1000);
    } finally {
      closing.removeEventListener("abort", drop);
      done.abort();
      this.#changed.notify();
      connection.close();
    }
  }

  /** Takes a message; whether it was the last. */
  #hear(message: ServerMessage): boolean {
    if (message.type === "error") {
      throw new ServerError(message.code, message.message, message.retryable, message.retry_after_ms);
    }
    this.#heard += 1;
    if (message.type === "closing") return message.reason === "finished";
    if (message.type === "ready") {
      this.#ready = message;
      this.#options.onState?.("ready", undefined);
      return false;
    }
    if (message.type === "final") this.#replay.settled(message);
    this.#events.put(message);
    return false;
  }

  async #sendAll(connection: Connection, ready: Ready, done: AbortSignal): Promise<void> {
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
        } else {
          await connection.writable();
          const aheadMs = (sentBytes + item.byteLength) / this.#bytesPerMs - (performance.now() - begun);
          if (aheadMs > allowedMs && !(await delay(aheadMs - allowedMs, done))) return;
          for (let at = 0; at < item.byteLength; at += ready.max_message_bytes) {
            connection.sendAudio(item.slice(at, at + ready.max_message_bytes));
          }
          sentBytes += item.byteLength;
        }
        this.#outgoing.shift();
        this.#progressed.notify();
      }
    } catch (error) {
      if (!(error instanceof ConnectionLostError)) throw error; // the receiving side has noticed, too, and knows why
    }
  }
}

function isRetryable(error: unknown): error is ConnectionLostError | ServerError {
  return error instanceof ConnectionLostError || (error instanceof ServerError && error.retryable);
}
