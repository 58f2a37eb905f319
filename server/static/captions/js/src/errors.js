/** What can go wrong with a session. */
/** Base class of all errors of this package. */
export class AmiraClientError extends Error {
    name = "AmiraClientError";
}
/** The server cannot be reached, or the connection broke. */
export class ConnectionLostError extends AmiraClientError {
    code;
    name = "ConnectionLostError";
    /** @param code The close code, where one came. */
    constructor(message, code) {
        super(message);
        this.code = code;
    }
}
/** The server ended the session with an `error`; the codes are listed in the protocol. */
export class ServerError extends AmiraClientError {
    code;
    retryable;
    retryAfterMs;
    name = "ServerError";
    constructor(code, message, retryable, retryAfterMs = null) {
        super(`${code}: ${message}`);
        this.code = code;
        this.retryable = retryable;
        this.retryAfterMs = retryAfterMs;
    }
}
/** There is no sound from a microphone. */
export class MicrophoneError extends AmiraClientError {
    problem;
    name = "MicrophoneError";
    constructor(problem, message) {
        super(message);
        this.problem = problem;
    }
}
