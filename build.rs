//! Puts the commit into the program: `WEIR_COMMIT`, `unknown` outside a checkout.

use std::process::Command;

fn main() {
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty", "--exclude=*"])
        .output()
        .ok()
        .filter(|o| o.status.success())
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |s| s.trim().to_owned());
    // A build from a source archive may say it by itself.
    let commit = std::env::var("WEIR_COMMIT").unwrap_or(commit);
    println!("cargo::rustc-env=WEIR_COMMIT={commit}");
    println!("cargo::rerun-if-env-changed=WEIR_COMMIT");
    for path in [".git/HEAD", ".git/index", "build.rs", "pipelines", "web"] {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}
