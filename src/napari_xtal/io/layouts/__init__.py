"""The layouts room; see docs/development/architecture.md."""
