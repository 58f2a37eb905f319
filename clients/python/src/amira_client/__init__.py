"""Streams speech to an AMIRA ASR server and gives words back while the speaker still speaks."""

from amira_client.client import AsyncClient
from amira_client.connection import Connection
from amira_client.errors import AmiraClientError, ConnectionLostError, HandshakeError, ServerError
from amira_client.messages import Final, Partial, Start
from amira_client.microphone import microphone
from amira_client.stream import Retry, Stream
from amira_client.sync import Client

__all__ = [
    "AmiraClientError",
    "AsyncClient",
    "Client",
    "Connection",
    "ConnectionLostError",
    "Final",
    "HandshakeError",
    "Partial",
    "Retry",
    "ServerError",
    "Start",
    "Stream",
    "microphone",
]
