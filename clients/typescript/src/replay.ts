/** What a client must keep to go on after an interruption, without any I/O: audio that no final covers yet. */

import type { Final } from "./messages.js";

/** Audio, or `flush` or `finish` in its place. */
export type Item = Uint8Array | "flush" | "finish";

/** The unsettled end of a stream. */
export class Replay {
  /** Where it starts: the `resume_ms` of the next connection. */
  startMs = 0;
  /** The `resume_segment` of the next connection. */
  segment = 0;
  #items: Item[] = [];
  #startBytes = 0;
  #heldBytes = 0;
  readonly #keepBytes: number;

  /** Keeps at most `keepS` seconds: a server settles a segment long before that. */
  constructor(
    readonly sampleRate: number,
    readonly sampleBytes: number,
    keepS = 60,
  ) {
    this.#keepBytes = Math.floor(keepS * sampleRate) * sampleBytes;
  }

  /** What has to be sent again, in order. */
  get items(): Item[] {
    return [...this.#items];
  }

  /** Audio that is kept. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Something was, or is about to be, sent. */
  add(item: Item): void {
    this.#items.push(item);
    if (typeof item === "string") return;
    this.#heldBytes += item.byteLength;
    if (this.#heldBytes > this.#keepBytes) {
      this.#dropTo(this.#wholeSamples(this.#startBytes + this.#heldBytes - this.#keepBytes), false);
      this.startMs = Math.floor((this.#startBytes * 1_000) / (this.sampleRate * this.sampleBytes));
    }
  }

  /** A final came: what it covers need not be sent again. */
  settled(final: Final): void {
    const position = Math.floor((final.audio_ms * this.sampleRate) / 1_000) * this.sampleBytes;
    this.#dropTo(position, true);
    const mark = final.cause === "flush" || final.cause === "finish" ? this.#items.indexOf(final.cause) : -1;
    if (mark >= 0) this.#items.splice(mark, 1);
    this.startMs = final.audio_ms;
    this.segment = final.segment + 1;
  }

  #wholeSamples(bytes: number): number {
    return Math.ceil(bytes / this.sampleBytes) * this.sampleBytes;
  }

  #dropTo(position: number, keepMarks: boolean): void {
    const marks: Item[] = [];
    while (this.#startBytes < position) {
      const item = this.#items.shift();
      if (item === undefined) break;
      if (typeof item === "string") {
        if (keepMarks) marks.push(item);
        continue;
      }
      const count = Math.min(item.byteLength, position - this.#startBytes);
      this.#startBytes += count;
      this.#heldBytes -= count;
      if (count < item.byteLength) this.#items.unshift(item.subarray(count));
    }
    this.#items.unshift(...marks);
  }
}
