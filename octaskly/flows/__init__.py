"""Conversations with the server, each written once for both clients."""
