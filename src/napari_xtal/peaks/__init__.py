"""The peaks room; see docs/development/architecture.md."""
