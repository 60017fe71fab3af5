"""The engine: who runs what, where and until when. Knows no Django."""
