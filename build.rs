//! Puts the commit into the program (`WEIR_COMMIT`, `unknown` outside a checkout) and makes bindings: NVENC's from the vendored header, libsrt's from the
//! installed one.

use std::path::{Path, PathBuf};
use std::process::Command;

/// NVIDIA's header of the encoder's interface; MIT, its notice stands in it.
const NVENC_HEADER: &str = "vendor/nvidia/nvEncodeAPI.h";

/// Debian's `libsrt-gnutls-dev`.
const SRT_HEADER: &str = "srt/srt.h";

fn main() {
    commit();
    nvenc();
    if std::env::var_os("CARGO_FEATURE_SRT").is_some() {
        srt();
    }
}

fn commit() {
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
        if Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
}

/// What all bindings have in common.
fn builder() -> bindgen::Builder {
    bindgen::Builder::default()
        // What a library answers must not become an enum's value before it was looked at.
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .layout_tests(false)
        .formatter(bindgen::Formatter::None)
}

/// `nvenc.rs` in the build's folder. What bindgen cannot make of the header (`NV_ENC_*_VER` are function-like macros, GUIDs are `static const` and
/// would become symbols that nobody defines) stands in `src/gpu/driver/nvenc/versions.rs`.
fn nvenc() {
    println!("cargo::rerun-if-changed={NVENC_HEADER}");
    let bindings = builder()
        .header(NVENC_HEADER)
        .allowlist_type("_?NV_ENC.*|NVENCSTATUS|_?GUID")
        .allowlist_var("NVENCAPI_(MAJOR|MINOR)_VERSION|NVENC_INFINITE_GOPLENGTH")
        .blocklist_var(".*_GUID")
        .generate();
    match bindings {
        Ok(bindings) => write(&bindings, "nvenc.rs"),
        Err(e) => println!("cargo::error=no NVENC bindings from {NVENC_HEADER}: {e}"),
    }
}

/// `srt.rs`: what the SRT process calls. The library itself is linked where the functions are declared, so that no other program is linked to it.
fn srt() {
    let bindings = builder()
        .header_contents("weir-srt.h", &format!("#include <{SRT_HEADER}>"))
        .allowlist_function(
            "srt_(startup|cleanup|getversion|create_socket|bind_acquire|listen|listen_callback|accept|close|setsockflag|getsockflag|setrejectreason|recvmsg\
             |getsockstate|epoll_create|epoll_add_usock|epoll_update_usock|epoll_remove_usock|epoll_uwait|bistats|getlasterror|getlasterror_str|setloglevel)",
        )
        .allowlist_type("SRT_(SOCKOPT|SOCKSTATUS|EPOLL_OPT|ERRNO|TRANSTYPE|KM_STATE)|CBytePerfMon")
        .generate();
    match bindings {
        Ok(bindings) => write(&bindings, "srt.rs"),
        Err(e) => println!(
            "cargo::error=no bindings from <{SRT_HEADER}> (install libsrt-gnutls-dev, or build without the feature srt): {e}"
        ),
    }
}

fn write(bindings: &bindgen::Bindings, name: &str) {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join(name);
    if let Err(e) = bindings.write_to_file(&out) {
        println!("cargo::error={}: {e}", out.display());
    }
}
