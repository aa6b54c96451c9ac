"""The server: HTTP, WebSocket and a supervisor. Never imports torch or a person's code."""
