import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Final } from "../src/index.js";
import { type Item, Replay } from "../src/replay.js";

const RATE = 1_000; // one sample of one byte a millisecond

function final(audio_ms: number, cause: Final["cause"] = "endpoint", segment = 0): Final {
  return { type: "final", segment, text: "", words: [], cause, start_ms: 0, end_ms: audio_ms, audio_ms };
}

function audio(from: number, to: number): Uint8Array {
  return Uint8Array.from({ length: to - from }, (_, at) => from + at);
}

/** Items with neighbouring audio joined: the cut is of no interest. */
function joined(items: readonly Item[]): (number[] | string)[] {
  const result: (number[] | string)[] = [];
  for (const item of items) {
    const last = result.at(-1);
    if (typeof item === "string") result.push(item);
    else if (Array.isArray(last)) last.push(...item);
    else result.push([...item]);
  }
  return result;
}

describe("what is kept for an interruption", () => {
  it("is everything until the first final", () => {
    const replay = new Replay(RATE, 1);
    replay.add(audio(0, 5));
    replay.add("flush");
    replay.add(audio(5, 9));
    assert.deepEqual(joined(replay.items), [[...audio(0, 5)], "flush", [...audio(5, 9)]]);
    assert.deepEqual([replay.startMs, replay.segment, replay.heldBytes], [0, 0, 9]);
  });

  it("is what follows the last final, from the middle of a piece", () => {
    const replay = new Replay(RATE, 1);
    replay.add(audio(0, 5));
    replay.add(audio(5, 9));
    replay.settled(final(7, "endpoint", 4));
    assert.deepEqual(joined(replay.items), [[...audio(7, 9)]]);
    assert.deepEqual([replay.startMs, replay.segment, replay.heldBytes], [7, 5, 2]);
  });

  it("is a flush until its own final comes, even when an endpoint comes later in the audio", () => {
    const replay = new Replay(RATE, 1);
    replay.add(audio(0, 5));
    replay.add("flush");
    replay.add(audio(5, 9));
    replay.settled(final(7));
    assert.deepEqual(joined(replay.items), ["flush", [...audio(7, 9)]]);
    replay.settled(final(7, "flush", 1));
    assert.deepEqual(joined(replay.items), [[...audio(7, 9)]]);
  });

  it("is nothing after the final of `finish`", () => {
    const replay = new Replay(RATE, 1);
    replay.add(audio(0, 5));
    replay.add("finish");
    replay.settled(final(5, "finish"));
    assert.deepEqual(replay.items, []);
    assert.equal(replay.heldBytes, 0);
  });

  it("has a bound, cut at a whole sample", () => {
    const replay = new Replay(RATE, 2, 0.01);
    for (let at = 0; at < 20; at += 1) replay.add(audio(3 * at, 3 * at + 3));
    assert.ok(replay.heldBytes <= 20);
    assert.equal(replay.startMs * 2 + replay.heldBytes, 60);
    assert.deepEqual(joined(replay.items), [[...audio(60 - replay.heldBytes, 60)]]);
  });
});
