//! Where these tests run.

use std::path::Path;

/// Written by `./dev root`.
const MARK: &str = "/etc/weir-test-root";

/// Fails outside: another GStreamer, or libraries that are missing, would make each test fail in its own way.
pub fn require() {
    assert!(Path::new(MARK).exists(), "GPU tests run in a Debian 13 root file system: start them by `./dev test gpu`");
}
