/** What can go wrong with a session. */

/** Base class of all errors of this package. */
export class AmiraClientError extends Error {
  override name = "AmiraClientError";
}

/** The server cannot be reached, or the connection broke. */
export class ConnectionLostError extends AmiraClientError {
  override name = "ConnectionLostError";

  /** @param code The close code, where one came. */
  constructor(
    message: string,
    readonly code?: number,
  ) {
    super(message);
  }
}

/** The server ended the session with an `error`; the codes are listed in the protocol. */
export class ServerError extends AmiraClientError {
  override name = "ServerError";

  constructor(
    readonly code: string,
    message: string,
    readonly retryable: boolean,
    readonly retryAfterMs: number | null = null,
  ) {
    super(`${code}: ${message}`);
  }
}

/** Why there is no sound; `message` says what to do. */
export type MicrophoneProblem = "insecure" | "denied" | "missing" | "busy" | "unsupported";

/** There is no sound from a microphone. */
export class MicrophoneError extends AmiraClientError {
  override name = "MicrophoneError";

  constructor(
    readonly problem: MicrophoneProblem,
    message: string,
  ) {
    super(message);
  }
}
