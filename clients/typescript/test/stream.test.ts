import assert from "node:assert/strict";
import { createServer } from "node:net";
import { describe, it } from "node:test";
import {
  AmiraClientError,
  ConnectionLostError,
  type Final,
  ServerError,
  Stream,
  type StreamOptions,
} from "../src/index.js";
import { FakeServer, type Peer } from "./golden.js";

const READY = {
  type: "ready",
  protocol: 1,
  session: "s",
  model: "m",
  partials: true,
  max_message_bytes: 100_000,
  max_ahead_ms: 60_000,
  idle_timeout_ms: 60_000,
  max_session_ms: 60_000,
};
const START = { sample_rate: 16_000 };
const QUICK = { attempts: 3, baseMs: 1, capMs: 2 };

function final(segment: number, audio_ms: number, cause = "endpoint") {
  return {
    type: "final",
    segment,
    text: `segment ${segment}`,
    words: [],
    cause,
    start_ms: 0,
    end_ms: audio_ms,
    audio_ms,
  };
}

/** Audio whose samples count up, so that what arrives twice or not at all shows. */
function counting(from: number, samples: number): Int16Array {
  return Int16Array.from({ length: samples }, (_, at) => from + at);
}

function samplesOf(audio: Buffer): number[] {
  return [...new Int16Array(audio.buffer.slice(audio.byteOffset, audio.byteOffset + audio.length))];
}

async function withFake(
  serve: (peer: Peer, number: number) => Promise<void>,
  use: (stream: Stream, server: FakeServer) => Promise<void>,
  options: Partial<StreamOptions> = {},
): Promise<void> {
  const server = await FakeServer.start(serve);
  const stream = new Stream({ url: server.url, start: START, retry: QUICK, ...options });
  try {
    await use(stream, server);
  } finally {
    stream.close();
    await server.close();
  }
}

async function finishWell(peer: Peer, segment: number, audio_ms: number): Promise<void> {
  assert.deepEqual(await peer.text(), { type: "finish" });
  peer.send(final(segment, audio_ms, "finish"));
  peer.send({ type: "closing", reason: "finished", grace_ms: 0 });
  peer.socket.close(1000);
}

async function all(stream: Stream): Promise<Final[]> {
  const finals: Final[] = [];
  for await (const event of stream) if (event.type === "final") finals.push(event);
  return finals;
}

describe("a stream that is interrupted", () => {
  it("sends again from the last final on, and only that", async () => {
    await withFake(
      async (peer, number) => {
        const start = await peer.text();
        peer.send(READY);
        if (number === 0) {
          assert.deepEqual([start.resume_ms, start.resume_segment], [0, 0]);
          await peer.audio(2 * 4_800);
          peer.send(final(0, 200));
          await peer.audio(2 * 1_600);
          peer.socket.terminate();
        } else {
          assert.deepEqual([start.resume_ms, start.resume_segment], [200, 1]);
          assert.deepEqual(samplesOf(await peer.audio(2 * 3_200)), [...counting(3_200, 3_200)]);
          await finishWell(peer, 1, 400);
        }
      },
      async (stream) => {
        await stream.send(counting(0, 4_800));
        await stream.send(counting(4_800, 1_600));
        stream.finish();
        const finals = await all(stream);
        assert.deepEqual(
          finals.map(({ segment }) => segment),
          [0, 1],
        );
        assert.equal(stream.reconnects, 1);
      },
    );
  });

  it("repeats a flush that was not answered, in its place", async () => {
    await withFake(
      async (peer, number) => {
        await peer.text();
        peer.send(READY);
        await peer.audio(3_200);
        assert.deepEqual(await peer.text(), { type: "flush" });
        if (number === 0) return peer.socket.terminate();
        peer.send(final(0, 100, "flush"));
        await peer.audio(1_600);
        await finishWell(peer, 1, 150);
      },
      async (stream) => {
        void stream.send(counting(0, 1_600));
        stream.flush();
        void stream.send(counting(1_600, 800));
        stream.finish();
        assert.deepEqual(
          (await all(stream)).map(({ cause }) => cause),
          ["flush", "finish"],
        );
      },
    );
  });

  it("comes back after a retryable error, not before the server wants it, and says why", async () => {
    const states: string[] = [];
    let refusedAt = 0;
    await withFake(
      async (peer, number) => {
        await peer.text();
        if (number === 0) {
          refusedAt = performance.now();
          peer.send({ type: "error", code: "at_capacity", message: "full", retryable: true, retry_after_ms: 60 });
          return peer.socket.close(1013);
        }
        assert.ok(performance.now() - refusedAt > 55);
        peer.send(READY);
        await finishWell(peer, 0, 0);
      },
      async (stream) => {
        stream.finish();
        await all(stream);
        assert.deepEqual(states, ["connecting", "connecting ServerError", "ready", "closed"]);
      },
      { onState: (state, error) => states.push(error ? `${state} ${error.name}` : state) },
    );
  });

  it("goes on after a server that was drained before the session was finished", async () => {
    await withFake(
      async (peer, number) => {
        await peer.text();
        peer.send(READY);
        await peer.audio(3_200);
        if (number > 0) return finishWell(peer, 0, 100);
        peer.send({ type: "closing", reason: "draining", grace_ms: 10 });
        peer.socket.close(1012);
      },
      async (stream) => {
        await stream.send(counting(0, 1_600));
        stream.finish();
        assert.equal((await all(stream)).length, 1);
      },
    );
  });

  it("gives up after so many failures in a row, in `send` as in the iteration", async () => {
    await withFake(
      async (peer) => peer.socket.terminate(),
      async (stream, server) => {
        await assert.rejects(all(stream), ConnectionLostError);
        await assert.rejects(stream.send(new Uint8Array(2)), ConnectionLostError);
        assert.equal(server.connections, 1 + QUICK.attempts);
      },
    );
  });
});

describe("a stream that fails for good", () => {
  it("does not try again", async () => {
    await withFake(
      async (peer) => {
        await peer.text();
        peer.send({ type: "error", code: "unauthorized", message: "no", retryable: false, retry_after_ms: null });
        peer.socket.close(1008);
      },
      async (stream, server) => {
        await assert.rejects(all(stream), (error) => error instanceof ServerError && error.code === "unauthorized");
        assert.equal(server.connections, 1);
      },
    );
  });

  it("names an address that is none", async () => {
    const stream = new Stream({ url: "localhost:8080", start: START });
    await assert.rejects(all(stream), /'localhost:8080' is not the address of a server/);
  });

  it("says that nothing answers there", async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    await new Promise((resolve) => silent.close(resolve));
    const stream = new Stream({ url: `ws://127.0.0.1:${port}`, start: START, retry: { ...QUICK, attempts: 1 } });
    await assert.rejects(all(stream), new RegExp(`127\\.0\\.0\\.1:${port}/v1/stream cannot be reached`));
  });

  it("distrusts a server that does not speak the protocol", async () => {
    for (const nonsense of ["hello", '{"type": "greeting"}', '{"type": "partial", "segment": "0"}', Buffer.alloc(3)]) {
      await withFake(
        async (peer) => {
          await peer.text();
          peer.socket.send(nonsense);
          await peer.closed;
        },
        async (stream) => {
          await assert.rejects(all(stream), /not a message of the protocol/);
        },
        { retry: { attempts: 0 } },
      );
    }
  });

  it("takes nothing after `finish`", async () => {
    await withFake(
      async (peer) => {
        await peer.text();
        peer.send(READY);
        await finishWell(peer, 0, 0);
      },
      async (stream) => {
        stream.finish();
        await assert.rejects(stream.send(new Uint8Array(2)), /no more audio/);
        await all(stream);
        await assert.rejects(stream.send(new Uint8Array(2)), AmiraClientError);
      },
    );
  });
});

describe("a stream that is closed by the program", () => {
  it("ends the iteration, also while it connects", async () => {
    await withFake(
      async (peer) => {
        await peer.closed;
      },
      async (stream) => {
        stream.close();
        assert.deepEqual(await all(stream), []);
      },
    );
  });

  it("ends the iteration, also while it waits to try again", async () => {
    const waiting = new Promise<Stream>((resolve) => {
      const stream: Stream = new Stream({
        url: "ws://127.0.0.1:1",
        start: START,
        retry: { attempts: 9, baseMs: 3_600_000, capMs: 3_600_000 },
        onState: () => setImmediate(() => resolve(stream)),
      });
    });
    const stream = await waiting;
    stream.close();
    assert.deepEqual(await all(stream), []);
  });
});

describe("what is sent", () => {
  it("is cut to the server's largest message", async () => {
    await withFake(
      async (peer) => {
        await peer.text();
        peer.send({ ...READY, max_message_bytes: 1_000 });
        const sizes = [];
        for (const _ of [0, 1, 2, 3]) sizes.push((await peer.message()).length);
        assert.deepEqual(sizes, [1_000, 1_000, 1_000, 200]);
        await finishWell(peer, 0, 100);
      },
      async (stream) => {
        await stream.send(new Uint8Array(3_200));
        stream.finish();
        await all(stream);
      },
    );
  });

  it("does not run further ahead of real time than the server allows", async () => {
    await withFake(
      async (peer) => {
        await peer.text();
        peer.send({ ...READY, max_ahead_ms: 200 });
        const ready = performance.now();
        for (let ms = 50; ms <= 400; ms += 50) {
          await peer.audio(1_600);
          assert.ok(performance.now() - ready > ms - 200, `${ms} ms of audio came too early`);
        }
        await finishWell(peer, 0, 400);
      },
      async (stream) => {
        for (let at = 0; at < 8; at += 1) await stream.send(new Uint8Array(1_600));
        stream.finish();
        await all(stream);
      },
    );
  });

  it("is a copy: the caller's array is free again", async () => {
    await withFake(
      async (peer) => {
        await peer.text();
        peer.send(READY);
        assert.deepEqual(samplesOf(await peer.audio(8)), [1, 2, 3, 4]);
        await finishWell(peer, 0, 0);
      },
      async (stream) => {
        const samples = Int16Array.of(0, 1, 2, 3, 4).subarray(1);
        const sent = stream.send(samples);
        samples.fill(9);
        await sent;
        stream.finish();
        await all(stream);
      },
    );
  });

  it("carries the token and the other wishes of `start`", async () => {
    await withFake(
      async (peer) => {
        const start = await peer.text();
        assert.deepEqual([start.token, start.language, start.silence_ms], ["t", "en", 300]);
        peer.send(READY);
        await finishWell(peer, 0, 0);
      },
      async (stream) => {
        stream.finish();
        await all(stream);
        assert.equal(stream.ready?.model, "m");
      },
      { start: { ...START, token: "t", language: "en", silence_ms: 300 } },
    );
  });
});
