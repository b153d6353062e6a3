"""The session room; see docs/development/architecture.md."""
