"""The reference streaming server."""
