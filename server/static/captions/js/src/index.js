/** Streams speech to an AMIRA ASR server and gives words back while the speaker still speaks. */
export { Connection, SUBPROTOCOL, } from "./connection.js";
export { AmiraClientError, ConnectionLostError, MicrophoneError, ServerError, } from "./errors.js";
export { Microphone } from "./microphone.js";
export { Resampler, toPcm16 } from "./resample.js";
export { DEFAULT_RETRY, Stream } from "./stream.js";
export { splitStable } from "./text.js";
