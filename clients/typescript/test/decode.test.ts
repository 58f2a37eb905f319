import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { Ajv2020 } from "ajv/dist/2020.js";
import { decodeServerMessage } from "../src/decode.js";
import { splitStable } from "../src/index.js";
import { SERVER_SHAPES } from "../src/messages.js";
import { conversations, filled, PROTOCOL } from "./golden.js";

const ODD = [null, true, -1, 0.5, 2, 1e300, "", "finish", "text", [], [{}], {}, [{ text: "a" }]];

/** A whole JSON Schema validator on the protocol's own files: the oracle. */
function oracle(): (message: { type?: unknown }) => boolean {
  const ajv = new Ajv2020({ allowUnionTypes: true });
  const validators = new Map<unknown, (message: unknown) => boolean>();
  for (const type of Object.keys(SERVER_SHAPES)) {
    const schema = JSON.parse(readFileSync(new URL(`schemas/${type}.schema.json`, PROTOCOL), "utf8"));
    validators.set(type, ajv.compile(schema) as (message: unknown) => boolean);
  }
  return (message) => validators.get(message.type)?.(message) ?? false;
}

function accepts(message: unknown): boolean {
  try {
    decodeServerMessage(JSON.stringify(message));
    return true;
  } catch (error) {
    assert.ok(error instanceof TypeError);
    return false;
  }
}

/** Every message of the golden conversations, and copies with a key removed, added, or of another value. */
function variations(): Record<string, unknown>[] {
  const messages = conversations()
    .flatMap(({ steps }) => steps)
    .flatMap((step) => ("server" in step ? [filled(step.server)] : []));
  return messages.flatMap((message) => [
    message,
    { ...message, new_key: 1 },
    ...Object.keys(message).flatMap((key) => {
      const { [key]: _, ...without } = message;
      return [without, ...ODD.map((value) => ({ ...message, [key]: value }))];
    }),
  ]);
}

describe("decoding", () => {
  it("takes and refuses what the schemas take and refuse", () => {
    const valid = oracle();
    const cases = variations();
    const taken = cases.filter(valid).length;
    assert.ok(taken > 100 && cases.length - taken > 1_000, `${taken} of ${cases.length}`);
    for (const message of cases) assert.equal(accepts(message), valid(message), JSON.stringify(message));
  });

  it("refuses what is no message at all", () => {
    for (const text of ["", "{", "null", "[]", "1", '"ready"', "{}", '{"type": 1}', '{"type": "toString"}']) {
      assert.throws(() => decodeServerMessage(text), TypeError, text);
    }
  });

  it("says where", () => {
    const word = { text: "a", start_ms: 0, end_ms: 1, confidence: 2 };
    const message = { type: "final", segment: 0, text: "a", words: [word], cause: "endpoint", start_ms: 0, end_ms: 1 };
    assert.throws(() => decodeServerMessage(JSON.stringify({ ...message, audio_ms: 1 })), {
      message: "final.words[0].confidence is above 1",
    });
    assert.throws(() => decodeServerMessage(JSON.stringify(message)), { message: "final.audio_ms is missing" });
  });
});

describe("the stable part of a partial", () => {
  it("counts code points, not UTF-16 units", () => {
    assert.deepEqual(splitStable({ text: "a\u{1f600}bc", stable_chars: 2 }), ["a\u{1f600}", "bc"]);
    assert.deepEqual(splitStable({ text: "abc", stable_chars: 0 }), ["", "abc"]);
    assert.deepEqual(splitStable({ text: "abc", stable_chars: 3 }), ["abc", ""]);
  });
});
