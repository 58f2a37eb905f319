/** One WebSocket connection that speaks the protocol; nothing is kept and nothing is retried here. */

import { Channel, delay } from "./channel.js";
import { decodeServerMessage } from "./decode.js";
import { AmiraClientError, ConnectionLostError } from "./errors.js";
import type { ClientMessage, ServerMessage } from "./messages.js";

export const SUBPROTOCOL = "amira.asr.v1";
const BUFFERED_BYTES = 1 << 20;
const BUFFERED_POLL_MS = 20; // a WebSocket of a browser does not say when it takes more

/** What this package uses of a WebSocket: that of browsers, of Node 22, and of the `ws` package. */
export interface WebSocketLike {
  binaryType: string;
  readonly bufferedAmount: number;
  send(data: string | Uint8Array<ArrayBuffer>): void;
  close(code?: number): void;
  addEventListener(type: "open", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number }) => void): void;
  addEventListener(type: "error", listener: (event: { message?: unknown }) => void): void;
}

/** Makes a WebSocket. */
export type WebSocketClass = new (url: string, protocol: string) => WebSocketLike;

/** How to reach a server. */
export interface ConnectionOptions {
  /** For the whole handshake; 10,000 if not given. */
  readonly timeoutMs?: number;
  /** The class to use; the platform's own, or that of the `ws` package, if not given. */
  readonly webSocket?: WebSocketClass | undefined;
  /** Gives up. */
  readonly signal?: AbortSignal;
}

/** Open one with `Connection.open`, then iterate over the server's messages. */
export class Connection implements AsyncIterable<ServerMessage> {
  readonly #socket: WebSocketLike;
  readonly #messages = new Channel<ServerMessage>();
  readonly #gone = new AbortController();
  /** The code with which the connection was closed, once it is. */
  closeCode: number | undefined;

  private constructor(socket: WebSocketLike) {
    this.#socket = socket;
  }

  /**
   * Connects.
   *
   * @param url The server, e.g. `ws://localhost:8080`; the path may be left out.
   * @throws ConnectionLostError It cannot be reached, or refuses. (Browsers do not say which.)
   */
  static async open(url: string, options: ConnectionOptions = {}): Promise<Connection> {
    const address = streamUrl(url);
    const { timeoutMs = 10_000, signal } = options;
    const socketClass = options.webSocket ?? (await platformWebSocket());
    if (signal?.aborted) throw new ConnectionLostError("closed by the program");
    return new Promise((resolve, reject) => {
      const socket = new socketClass(address, SUBPROTOCOL);
      socket.binaryType = "arraybuffer";
      const connection = new Connection(socket);
      let reason = "";
      const fail = (message: string, code?: number) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        reject(new ConnectionLostError(message, code));
        socket.close();
      };
      const timer = setTimeout(() => fail(`${address} did not answer the handshake within ${timeoutMs} ms`), timeoutMs);
      const abort = () => fail("closed by the program");
      signal?.addEventListener("abort", abort, { once: true });
      socket.addEventListener("error", (event) => {
        reason = typeof event.message === "string" && event.message ? `: ${event.message}` : "";
      });
      socket.addEventListener("open", () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", abort);
        resolve(connection);
      });
      socket.addEventListener("message", (event) => connection.#received(event.data));
      socket.addEventListener("close", ({ code }) => {
        fail(`${address} cannot be reached or refuses the connection${reason}`, code); // where it was open, too late to count
        connection.#lost(code);
      });
    });
  }

  /**
   * Sends a message.
   *
   * @throws ConnectionLostError The connection is closed.
   */
  send(message: ClientMessage): void {
    this.sendText(JSON.stringify(message));
  }

  /** Sends a text message as it is. */
  sendText(text: string): void {
    this.#whileOpen();
    this.#socket.send(text);
  }

  /** Sends audio. Heed `writable` to give a slow network time. */
  sendAudio(data: Uint8Array<ArrayBuffer>): void {
    this.#whileOpen();
    this.#socket.send(data);
  }

  /** Waits until the socket takes more, or is closed. */
  async writable(): Promise<void> {
    while (this.#socket.bufferedAmount > BUFFERED_BYTES) {
      if (!(await delay(BUFFERED_POLL_MS, this.#gone.signal))) return;
    }
  }

  /** Says goodbye; messages that still come are dropped. */
  close(): void {
    this.#messages.end(new ConnectionLostError("closed by the program", 1000));
    this.#gone.abort();
    this.#socket.close(1000);
  }

  /** The server's messages. It ends where the server closes with 1000, and throws `ConnectionLostError` otherwise. */
  [Symbol.asyncIterator](): AsyncIterator<ServerMessage, undefined> {
    return this.#messages;
  }

  #whileOpen(): void {
    if (this.#gone.signal.aborted) throw new ConnectionLostError("the connection is closed", this.closeCode);
  }

  #received(data: unknown): void {
    try {
      if (typeof data !== "string") throw new TypeError("binary");
      this.#messages.put(decodeServerMessage(data));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      const message = `the server sent what is not a message of the protocol: ${error.message}`;
      this.#messages.end(new ConnectionLostError(message));
      this.#gone.abort();
      this.#socket.close();
    }
  }

  #lost(code: number): void {
    this.closeCode = code;
    this.#gone.abort();
    const error = new ConnectionLostError(`the connection is closed (code ${code})`, code);
    this.#messages.end(code === 1000 ? undefined : error);
  }
}

/**
 * The address of the stream below a server's address.
 *
 * @throws AmiraClientError It is no address of a server.
 */
export function streamUrl(url: string): string {
  const parts = URL.canParse(url) ? new URL(url) : undefined;
  const scheme = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[parts?.protocol ?? ""];
  if (parts === undefined || scheme === undefined) {
    throw new AmiraClientError(`'${url}' is not the address of a server; it looks like ws://localhost:8080`);
  }
  const path = parts.pathname === "/" ? "/v1/stream" : parts.pathname;
  return `${scheme}//${parts.host}${path}${parts.search}`;
}

async function platformWebSocket(): Promise<WebSocketClass> {
  if (typeof globalThis.WebSocket === "function") return globalThis.WebSocket as unknown as WebSocketClass;
  try {
    return (await import("ws")).WebSocket as unknown as WebSocketClass;
  } catch (error) {
    throw new AmiraClientError("this Node has no WebSocket: npm install ws, or use Node 22", { cause: error });
  }
}
