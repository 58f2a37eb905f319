import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Connection, type ConnectionLostError, type Final, type Partial, ServerError, Stream } from "../src/index.js";
import { assertSame, type Conversation, conversations, FakeServer, play } from "./golden.js";

/** A real server (`amira serve --null`) plays the other side, too, where its address is given. */
const REAL = process.env.AMIRA_NULL_SERVER;

async function withServer(conversation: Conversation, url: string | undefined, use: (url: string) => Promise<void>) {
  if (url !== undefined) return use(url);
  const server = await FakeServer.start((peer) => play(conversation, peer));
  try {
    await use(server.url);
  } finally {
    await server.close();
  }
}

async function replayConnection(conversation: Conversation, url: string): Promise<void> {
  const connection = await Connection.open(url);
  const messages = connection[Symbol.asyncIterator]();
  for (const step of conversation.steps) {
    if ("client" in step) connection.sendText(JSON.stringify(step.client));
    else if ("client_text" in step) connection.sendText(step.client_text);
    else if ("client_audio" in step) connection.sendAudio(new Uint8Array(step.client_audio.bytes));
    else if ("server" in step) assertSame((await messages.next()).value as object, step.server);
    else {
      const end = await messages.next().then(
        (result) => (result.done ? 1000 : result.value),
        (error: unknown) => (error as ConnectionLostError).code,
      );
      assert.equal(end, step.close);
      assert.equal(connection.closeCode, step.close);
    }
  }
}

/** Whether a `Stream` can hold the client's side: it sends no nonsense, and nothing out of order. */
function streamable({ steps }: Conversation): boolean {
  const [first] = steps;
  if (first === undefined || !("client" in first) || first.client.type !== "start") return false;
  if (typeof first.client.sample_rate !== "number" || "resume_ms" in first.client) return false;
  const sent = steps.slice(1).filter((step) => !("server" in step) && !("close" in step));
  const finish = sent.findIndex((step) => "client" in step && step.client.type === "finish");
  const known = sent.every((step) => "client_audio" in step || ("client" in step && step.client.type !== "start"));
  return known && (sent.length === 0 || finish === sent.length - 1);
}

async function replayStream(conversation: Conversation, url: string): Promise<void> {
  const [{ client: start }, ...steps] = conversation.steps as [{ client: { type: "start"; sample_rate: number } }];
  const { type: _, ...options } = start;
  const stream = new Stream({ url, start: options, retry: { attempts: 0 } });
  const events = stream[Symbol.asyncIterator]();
  const sent: Promise<void>[] = [];
  for (const step of steps as Conversation["steps"]) {
    if ("client_audio" in step) sent.push(stream.send(new Uint8Array(step.client_audio.bytes)));
    else if ("client" in step) step.client.type === "flush" ? stream.flush() : stream.finish();
    else if ("server" in step && ["partial", "final"].includes(step.server.type as string)) {
      assertSame((await events.next()).value as Partial | Final, step.server);
    } else if ("server" in step && step.server.type === "error") {
      const { code, retryable } = step.server;
      await assert.rejects(events.next(), (error) => {
        assert.ok(error instanceof ServerError);
        assert.deepEqual([error.code, error.retryable], [code, retryable]);
        return true;
      });
    } else if ("close" in step && step.close === 1000) {
      assert.equal((await events.next()).done, true);
      await Promise.all(sent);
    }
  }
  await Promise.allSettled(sent);
}

for (const [title, url] of [
  ["a played server", undefined],
  ["a real server", REAL],
] as const) {
  describe(`golden conversations with ${title}`, { skip: title === "a real server" && url === undefined }, () => {
    for (const conversation of conversations()) {
      it(`${conversation.name} (connection)`, () =>
        withServer(conversation, url, (address) => replayConnection(conversation, address)));
      if (streamable(conversation)) {
        it(`${conversation.name} (stream)`, () =>
          withServer(conversation, url, (address) => replayStream(conversation, address)));
      }
    }
  });
}

describe("the conversations", () => {
  it("are mostly ones that a stream can hold", () => {
    const names = conversations()
      .filter(streamable)
      .map(({ name }) => name);
    assert.ok(["flush", "no-audio", "odd-messages", "one-segment", "telephone"].every((name) => names.includes(name)));
    assert.ok(["wrong-encoding", "wrong-language", "half-sample"].every((name) => names.includes(name)));
  });
});
