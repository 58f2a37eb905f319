// The messages of the protocol, version 1.
// Generated from protocol/schemas by protocol/generate.py: change it there.
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
};
