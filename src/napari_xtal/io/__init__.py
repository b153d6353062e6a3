"""The io room; see docs/development/architecture.md."""
