"""Load on a streaming server: real speech, sent when it is due, over the wire and through the client."""
