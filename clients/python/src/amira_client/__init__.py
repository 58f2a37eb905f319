"""Client of the AMIRA streaming speech-recognition server."""
