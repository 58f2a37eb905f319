/** One WebSocket connection that speaks the protocol; nothing is kept and nothing is retried here. */
import { Channel, delay } from "./channel.js";
import { decodeServerMessage } from "./decode.js";
import { AmiraClientError, ConnectionLostError } from "./errors.js";
export const SUBPROTOCOL = "amira.asr.v1";
const BUFFERED_BYTES = 1 << 20;
const BUFFERED_POLL_MS = 20; // a WebSocket of a browser does not say when it takes more
/** Open one with `Connection.open`, then iterate over the server's messages. */
export class Connection {
    #socket;
    #messages = new Channel();
    #gone = new AbortController();
    /** The code with which the connection was closed, once it is. */
    closeCode;
    constructor(socket) {
        this.#socket = socket;
    }
    /**
     * Connects.
     *
     * @param url The server, e.g. `ws://localhost:8080`; the path may be left out.
     * @throws ConnectionLostError It cannot be reached, or refuses. (Browsers do not say which.)
     */
    static async open(url, options = {}) {
        const address = streamUrl(url);
        const { timeoutMs = 10_000, signal } = options;
        const socketClass = options.webSocket ?? (await platformWebSocket());
        if (signal?.aborted)
            throw new ConnectionLostError("closed by the program");
        return new Promise((resolve, reject) => {
            const socket = new socketClass(address, SUBPROTOCOL);
            socket.binaryType = "arraybuffer";
            const connection = new Connection(socket);
            let reason = "";
            const fail = (message, code) => {
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
    send(message) {
        this.sendText(JSON.stringify(message));
    }
    /** Sends a text message as it is. */
    sendText(text) {
        this.#whileOpen();
        this.#socket.send(text);
    }
    /** Sends audio. Heed `writable` to give a slow network time. */
    sendAudio(data) {
        this.#whileOpen();
        this.#socket.send(data);
    }
    /** Waits until the socket takes more, or is closed. */
    async writable() {
        while (this.#socket.bufferedAmount > BUFFERED_BYTES) {
            if (!(await delay(BUFFERED_POLL_MS, this.#gone.signal)))
                return;
        }
    }
    /** Says goodbye; messages that still come are dropped. */
    close() {
        this.#messages.end(new ConnectionLostError("closed by the program", 1000));
        this.#gone.abort();
        this.#socket.close(1000);
    }
    /** The server's messages. It ends where the server closes with 1000, and throws `ConnectionLostError` otherwise. */
    [Symbol.asyncIterator]() {
        return this.#messages;
    }
    #whileOpen() {
        if (this.#gone.signal.aborted)
            throw new ConnectionLostError("the connection is closed", this.closeCode);
    }
    #received(data) {
        try {
            if (typeof data !== "string")
                throw new TypeError("binary");
            this.#messages.put(decodeServerMessage(data));
        }
        catch (error) {
            if (!(error instanceof TypeError))
                throw error;
            const message = `the server sent what is not a message of the protocol: ${error.message}`;
            this.#messages.end(new ConnectionLostError(message));
            this.#gone.abort();
            this.#socket.close();
        }
    }
    #lost(code) {
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
export function streamUrl(url) {
    const parts = URL.canParse(url) ? new URL(url) : undefined;
    const scheme = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" }[parts?.protocol ?? ""];
    if (parts === undefined || scheme === undefined) {
        throw new AmiraClientError(`'${url}' is not the address of a server; it looks like ws://localhost:8080`);
    }
    const path = parts.pathname === "/" ? "/v1/stream" : parts.pathname;
    return `${scheme}//${parts.host}${path}${parts.search}`;
}
async function platformWebSocket() {
    if (typeof globalThis.WebSocket === "function")
        return globalThis.WebSocket;
    try {
        return (await import("ws")).WebSocket;
    }
    catch (error) {
        throw new AmiraClientError("this Node has no WebSocket: npm install ws, or use Node 22", { cause: error });
    }
}
