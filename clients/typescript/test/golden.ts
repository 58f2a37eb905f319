/** The golden conversations of `protocol/golden`, and a server that plays one. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";

export const PROTOCOL = new URL("../../../../protocol/", import.meta.url); // from build/test

type Json = Record<string, unknown>;

export type Step =
  | { readonly client: Json }
  | { readonly client_text: string }
  | { readonly client_audio: { readonly bytes: number } }
  | { readonly server: Json }
  | { readonly close: number };

export interface Conversation {
  readonly name: string;
  readonly steps: readonly Step[];
}

export function conversations(): Conversation[] {
  const folder = new URL("golden/", PROTOCOL);
  const found = readdirSync(folder).map((file) => {
    const { steps } = JSON.parse(readFileSync(new URL(file, folder), "utf8"));
    return { name: file.replace(".json", ""), steps };
  });
  assert.ok(found.length > 10);
  return found;
}

/** A server's message with values for what the conversation leaves open. */
export function filled(message: Json): Json {
  return Object.fromEntries(
    Object.entries(message).map(([key, value]) => {
      const open = (value as { any?: string } | null)?.any;
      return [key, open === "string" ? "any" : open === "integer" ? 1_000_000 : value];
    }),
  );
}

/** `got` has the keys of `wanted`, and its values where `wanted` does not leave them open. */
export function assertSame(got: object, wanted: Json): void {
  assert.deepEqual(Object.keys(got).sort(), Object.keys(wanted).sort());
  for (const [key, value] of Object.entries(wanted)) {
    const open = (value as { any?: string } | null)?.any;
    const actual = (got as Json)[key];
    if (open === undefined) assert.deepEqual(actual, value, key);
    else assert.equal(open === "integer" ? Number.isInteger(actual) : typeof actual === open, true, key);
  }
}

/** What one connection of the fake server receives, in order. */
export class Peer {
  readonly #received: (string | Buffer)[] = [];
  #wake: () => void = () => undefined;
  readonly closed: Promise<number>;

  constructor(readonly socket: WebSocket) {
    socket.on("message", (data: Buffer, binary) => {
      this.#received.push(binary ? data : data.toString());
      this.#wake();
    });
    this.closed = new Promise((resolve) => socket.on("close", resolve));
  }

  async message(): Promise<string | Buffer> {
    while (this.#received.length === 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#received.shift() as string | Buffer;
  }

  async text(): Promise<Json> {
    const message = await this.message();
    assert.equal(typeof message, "string", "audio came where a message was due");
    return JSON.parse(message as string);
  }

  /** Audio of exactly so many bytes, in any cut. */
  async audio(bytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = bytes; left > 0; ) {
      const message = await this.message();
      assert.notEqual(typeof message, "string", `a message came where audio was due: ${message}`);
      parts.push(message as Buffer);
      left -= (message as Buffer).length;
      assert.ok(left >= 0, "more audio than was due");
    }
    return Buffer.concat(parts);
  }

  send(message: Json): void {
    this.socket.send(JSON.stringify(message));
  }
}

/** A server on a free port; each connection is given to `serve`, whose errors `close` throws. */
export class FakeServer {
  readonly #server: WebSocketServer;
  readonly #served: Promise<void>[] = [];
  readonly url: string;
  connections = 0;

  private constructor(server: WebSocketServer, serve: (peer: Peer, number: number) => Promise<void>) {
    this.#server = server;
    this.url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}`;
    server.on("connection", (socket) => {
      this.#served.push(serve(new Peer(socket), this.connections));
      this.connections += 1;
    });
  }

  static async start(serve: (peer: Peer, number: number) => Promise<void>): Promise<FakeServer> {
    const server = new WebSocketServer({
      host: "127.0.0.1",
      port: 0,
      path: "/v1/stream",
      handleProtocols: (offered) => (offered.has("amira.asr.v1") ? "amira.asr.v1" : false),
    });
    await new Promise((resolve) => server.on("listening", resolve));
    return new FakeServer(server, serve);
  }

  async close(): Promise<void> {
    await Promise.all(this.#served);
    await new Promise((resolve) => {
      this.#server.close(resolve);
      for (const socket of this.#server.clients) socket.terminate();
    });
  }
}

/** The server's side of a conversation. A client may send defaults of `start` that the conversation leaves out. */
export async function play(conversation: Conversation, peer: Peer): Promise<void> {
  for (const step of conversation.steps) {
    if ("client" in step) {
      assertSame(withoutDefaults(await peer.text(), step.client), step.client);
    } else if ("client_text" in step) {
      assert.equal(await peer.message(), step.client_text);
    } else if ("client_audio" in step) {
      await peer.audio(step.client_audio.bytes);
    } else if ("server" in step) {
      peer.send(filled(step.server));
    } else {
      peer.socket.close(step.close);
    }
  }
}

function withoutDefaults(message: Json, wanted: Json): Json {
  const schema = JSON.parse(readFileSync(new URL("schemas/start.schema.json", PROTOCOL), "utf8"));
  return Object.fromEntries(
    Object.entries(message).filter(
      ([key, value]) => key in wanted || JSON.stringify(schema.properties[key]?.default) !== JSON.stringify(value),
    ),
  );
}
