//! Tests of routes (in `tests/`).
