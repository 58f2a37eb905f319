// The messages of the protocol, version 1.
// Generated from protocol/schemas by protocol/generate.py: change it there.

/** A word. */
export interface Word {
  readonly text: string;
  /** Start in the audio. */
  readonly start_ms: number;
  /** End in the audio. */
  readonly end_ms: number;
  /** Probability that the word is right, as the decoder sees it. */
  readonly confidence: number;
}

/** A segment. */
export interface Segment {
  readonly text: string;
  /** Start in the audio. */
  readonly start_ms: number;
  /** End in the audio. */
  readonly end_ms: number;
}

/** What went wrong. */
export interface ProblemDetail {
  readonly code: string;
  readonly message: string;
  readonly retryable: boolean;
}

/** The first message of a session: what audio comes and what is wanted. A key that this version does not know is refused. */
export interface Start {
  readonly type: "start";
  /** Version of the protocol; this is version 1. Default: `1`. */
  readonly protocol?: number;
  /** How audio messages encode mono samples: `pcm_s16le`, `pcm_f32le` (in [-1, 1]), `mulaw` or `alaw` (G.711). Default: `"pcm_s16le"`. */
  readonly encoding?: string;
  /** Samples per second, 8000 to 48000. There is no default: a wrong rate gives wrong words. */
  readonly sample_rate: number;
  /** BCP 47 tag of the spoken language. Default: `"en"`. */
  readonly language?: string;
  /** Whether to send `partial` messages. Default: `true`. */
  readonly partials?: boolean;
  /** Whether finals carry word times and confidences, where the decoder has them. Default: `true`. */
  readonly words?: boolean;
  /** Silence that ends a segment; the server's setting where it is null. Default: `null`. */
  readonly silence_ms?: number | null;
  /** A segment that grows longer is ended at a pause; the server's setting where it is null. Default: `null`. */
  readonly max_segment_ms?: number | null;
  /** Words to prefer; of a phrase each word. A server refuses words that its decoding graph does not know. A server whose decoder cannot refuses with `unsupported_option`. Default: `[]`. */
  readonly hot_words?: readonly string[];
  /** The text that the reader is expected to read. A server whose decoder cannot use it refuses with `unsupported_option`. Default: `null`. */
  readonly expected_text?: string | null;
  /** Options of the decoder by name. A server refuses those that its decoder does not have, with `unsupported_option`. Default: `{}`. */
  readonly decoder?: { readonly [name: string]: boolean | number | string };
  /** Bearer token, for clients that cannot set the `Authorization` header (browsers). Default: `null`. */
  readonly token?: string | null;
  /** Where an interrupted session goes on: the `audio_ms` of its last `final`. The client sends its audio again from there; all times go on from there. Default: `0`. */
  readonly resume_ms?: number;
  /** Number of the next segment of an interrupted session. Default: `0`. */
  readonly resume_segment?: number;
  /** W3C trace context, for clients that cannot set the `traceparent` header. Default: `null`. */
  readonly traceparent?: string | null;
}

/** End the current segment now. Answered by exactly one `final` with cause `flush`; its text is empty where nothing was said. */
export interface Flush {
  readonly type: "flush";
}

/** There is no more audio. Answered by exactly one `final` with cause `finish`, then `closing`, then the server closes the connection. */
export interface Finish {
  readonly type: "finish";
}

/** Answers `start`: the session is open. Clients ignore keys that they do not know, in this and all server messages. */
export interface Ready {
  readonly type: "ready";
  /** Version of the protocol that this session speaks. */
  readonly protocol: number;
  /** Id of the session, as in the server's logs and traces. */
  readonly session: string;
  /** What recognises. */
  readonly model: string;
  /** Whether partials will be sent. */
  readonly partials: boolean;
  /** Largest message that the server takes, in bytes. */
  readonly max_message_bytes: number;
  /** How far audio may run ahead of real time, counted from `ready`. */
  readonly max_ahead_ms: number;
  /** The session ends when no message came for this long. */
  readonly idle_timeout_ms: number;
  /** The session ends when its audio is this long. */
  readonly max_session_ms: number;
}

/** What the running segment says so far. */
export interface Partial {
  readonly type: "partial";
  /** Number of the segment; the first of a session is 0, or `resume.segment`. */
  readonly segment: number;
  /** The best reading of the segment so far; replaces that of the partial before. */
  readonly text: string;
  /** The first so many characters (Unicode code points) of `text` are the same in every later partial of the segment. The final may still correct them. */
  readonly stable_chars: number;
  /** Start of the segment in the audio. */
  readonly start_ms: number;
  /** How much audio went into it, from the start of the session. */
  readonly audio_ms: number;
}

/** What a segment says, for good. Finals come in the order of their segments. */
export interface Final {
  readonly type: "final";
  /** Number of the segment; the first of a session is 0, or `resume.segment`. */
  readonly segment: number;
  /** What was said; empty where nothing was said. */
  readonly text: string;
  /** Word times; empty where the decoder has none or the client wants none. */
  readonly words: readonly Word[];
  /** What ended the segment: a pause, its length limit, or the client. */
  readonly cause: "endpoint" | "limit" | "flush" | "finish";
  /** Start of the segment in the audio. */
  readonly start_ms: number;
  /** End of the segment in the audio. */
  readonly end_ms: number;
  /** All audio before is dealt with: an interrupted client resumes from here. */
  readonly audio_ms: number;
}

/** The session failed and the server closes the connection after it. See `protocol/README.md` for each code. */
export interface Error {
  readonly type: "error";
  readonly code: "bad_message" | "bad_order" | "bad_audio" | "unsupported_protocol" | "unsupported_encoding" | "unsupported_sample_rate" | "unsupported_language" | "unsupported_option" | "message_too_large" | "too_far_ahead" | "too_slow" | "start_timeout" | "idle_timeout" | "session_too_long" | "unauthorized" | "at_capacity" | "draining" | "backend_unavailable" | "internal";
  /** What went wrong and what to do, for people. */
  readonly message: string;
  /** Whether the same session may succeed later or elsewhere: reconnect with `resume_ms` and `resume_segment`. */
  readonly retryable: boolean;
  /** When to try again, where the server can say. Default: `null`. */
  readonly retry_after_ms?: number | null;
}

/** The session ends. After `finished` nothing follows; after `draining` the server goes on until the client finishes or the grace time is over. */
export interface Closing {
  readonly type: "closing";
  readonly reason: "finished" | "draining";
  /** How long the session may still go on. */
  readonly grace_ms: number;
}

/** What `POST /v1/transcribe` answers. */
export interface Transcript {
  /** All that was said, on one line. */
  readonly text: string;
  /** Length of the audio. */
  readonly duration_ms: number;
  readonly model: string;
  readonly segments: readonly Segment[];
  /** Word times; empty where the decoder has none. */
  readonly words: readonly Word[];
}

/** What an HTTP request that failed is answered with; the codes are those of `error`. */
export interface Problem {
  /** What went wrong. */
  readonly error: ProblemDetail;
}

export type ClientMessage = Start | Flush | Finish;

export type ServerMessage = Ready | Partial | Final | Error | Closing;

/** The schemas of what a server sends, without their texts. */
export const SERVER_SHAPES = {
  "ready": {
    "type": "object",
    "required": [
      "type",
      "protocol",
      "session",
      "model",
      "partials",
      "max_message_bytes",
      "max_ahead_ms",
      "idle_timeout_ms",
      "max_session_ms"
    ],
    "properties": {
      "type": {
        "const": "ready",
        "type": "string"
      },
      "protocol": {
        "type": "integer"
      },
      "session": {
        "type": "string"
      },
      "model": {
        "type": "string"
      },
      "partials": {
        "type": "boolean"
      },
      "max_message_bytes": {
        "type": "integer"
      },
      "max_ahead_ms": {
        "type": "integer"
      },
      "idle_timeout_ms": {
        "type": "integer"
      },
      "max_session_ms": {
        "type": "integer"
      }
    }
  },
  "partial": {
    "type": "object",
    "required": [
      "type",
      "segment",
      "text",
      "stable_chars",
      "start_ms",
      "audio_ms"
    ],
    "properties": {
      "type": {
        "const": "partial",
        "type": "string"
      },
      "segment": {
        "type": "integer",
        "minimum": 0
      },
      "text": {
        "type": "string"
      },
      "stable_chars": {
        "type": "integer",
        "minimum": 0
      },
      "start_ms": {
        "type": "integer",
        "minimum": 0
      },
      "audio_ms": {
        "type": "integer",
        "minimum": 0
      }
    }
  },
  "final": {
    "type": "object",
    "required": [
      "type",
      "segment",
      "text",
      "words",
      "cause",
      "start_ms",
      "end_ms",
      "audio_ms"
    ],
    "properties": {
      "type": {
        "const": "final",
        "type": "string"
      },
      "segment": {
        "type": "integer",
        "minimum": 0
      },
      "text": {
        "type": "string"
      },
      "words": {
        "type": "array",
        "items": {
          "type": "object",
          "required": [
            "text",
            "start_ms",
            "end_ms",
            "confidence"
          ],
          "properties": {
            "text": {
              "type": "string"
            },
            "start_ms": {
              "type": "integer",
              "minimum": 0
            },
            "end_ms": {
              "type": "integer",
              "minimum": 0
            },
            "confidence": {
              "type": "number",
              "minimum": 0,
              "maximum": 1
            }
          }
        }
      },
      "cause": {
        "type": "string",
        "enum": [
          "endpoint",
          "limit",
          "flush",
          "finish"
        ]
      },
      "start_ms": {
        "type": "integer",
        "minimum": 0
      },
      "end_ms": {
        "type": "integer",
        "minimum": 0
      },
      "audio_ms": {
        "type": "integer",
        "minimum": 0
      }
    }
  },
  "error": {
    "type": "object",
    "required": [
      "type",
      "code",
      "message",
      "retryable"
    ],
    "properties": {
      "type": {
        "const": "error",
        "type": "string"
      },
      "code": {
        "type": "string",
        "enum": [
          "bad_message",
          "bad_order",
          "bad_audio",
          "unsupported_protocol",
          "unsupported_encoding",
          "unsupported_sample_rate",
          "unsupported_language",
          "unsupported_option",
          "message_too_large",
          "too_far_ahead",
          "too_slow",
          "start_timeout",
          "idle_timeout",
          "session_too_long",
          "unauthorized",
          "at_capacity",
          "draining",
          "backend_unavailable",
          "internal"
        ]
      },
      "message": {
        "type": "string"
      },
      "retryable": {
        "type": "boolean"
      },
      "retry_after_ms": {
        "type": [
          "integer",
          "null"
        ],
        "minimum": 0
      }
    }
  },
  "closing": {
    "type": "object",
    "required": [
      "type",
      "reason",
      "grace_ms"
    ],
    "properties": {
      "type": {
        "const": "closing",
        "type": "string"
      },
      "reason": {
        "type": "string",
        "enum": [
          "finished",
          "draining"
        ]
      },
      "grace_ms": {
        "type": "integer",
        "minimum": 0
      }
    }
  }
} as const;
