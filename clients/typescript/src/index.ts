/** Streams speech to an AMIRA ASR server and gives words back while the speaker still speaks. */

export {
  Connection,
  type ConnectionOptions,
  SUBPROTOCOL,
  type WebSocketClass,
  type WebSocketLike,
} from "./connection.js";
export {
  AmiraClientError,
  ConnectionLostError,
  MicrophoneError,
  type MicrophoneProblem,
  ServerError,
} from "./errors.js";
export type * from "./messages.js";
export { Microphone, type MicrophoneOptions } from "./microphone.js";
export { Resampler, toPcm16 } from "./resample.js";
export { DEFAULT_RETRY, type Retry, Stream, type StreamOptions, type StreamState } from "./stream.js";
export { splitStable } from "./text.js";
