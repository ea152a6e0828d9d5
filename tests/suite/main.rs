//! The test binary: one module per behaviour.

mod golden;
