//! What may stand where: the sentences of ARCHITECTURE.md that begin with "Invariant:" and that a scan of the sources can hold.

use std::fs;
use std::path::{Path, PathBuf};

/// A Rust file without what does not count: comments, what stands in literals, items under `#[cfg(test)]`.
struct Source {
    name: String,
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the tree by their names relative to its root; folders that are made by tools are left out.
fn tree() -> Vec<(String, PathBuf)> {
    const MADE: [&str; 4] = [".git", ".weir", "node_modules", "target"];
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                let made = MADE.iter().any(|m| path.ends_with(m)) || path.join("CACHEDIR.TAG").exists();
                if !made {
                    folders.push(path);
                }
            } else if kind.is_file() {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, path));
            }
        }
    }
    found.sort();
    found
}

fn rust_files(below: &str) -> Vec<Source> {
    let sources: Vec<Source> = tree()
        .into_iter()
        .filter(|(name, _)| name.starts_with(below) && name.ends_with(".rs"))
        .map(|(name, path)| Source { code: without_tests(&without_literals(&fs::read_to_string(path).unwrap())), name })
        .collect();
    assert!(!sources.is_empty(), "nothing below {below}");
    sources
}

/// Files that only tests compile: `#[cfg(test)] #[path = ".."] mod tests;` or `tests.rs`.
fn is_test_file(name: &str) -> bool {
    name.ends_with("/tests.rs") || name.ends_with("_tests.rs")
}

/// Comments gone, literals empty.
fn without_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text.as_bytes()[i..];
        let word_before = out.last().is_some_and(|b: &u8| b.is_ascii_alphanumeric() || *b == b'_');
        if rest.starts_with(b"//") {
            i += rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        } else if rest.starts_with(b"/*") {
            i += block_comment(rest);
        } else if let Some(length) = raw_string(rest).filter(|_| !word_before) {
            out.extend(b"\"\"");
            i += length;
        } else if rest[0] == b'"' {
            out.extend(b"\"\"");
            i += quoted(rest, b'"');
        } else if let Some(length) = char_literal(rest) {
            out.extend(b"' '");
            i += length;
        } else {
            out.push(rest[0]);
            i += 1;
        }
    }
    String::from_utf8(out).unwrap()
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..(i + 2).min(rest.len())] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// `r".."`, `br#".."#`.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let start = match rest {
        [b'b', b'r', ..] => 2,
        [b'r', ..] => 1,
        _ => return None,
    };
    let hashes = rest[start..].iter().take_while(|b| **b == b'#').count();
    let body = start + hashes + 1;
    if rest.get(body - 1) != Some(&b'"') {
        return None;
    }
    let end = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let found = rest[body..].windows(end.len()).position(|w| w == end)?;
    Some(body + found + end.len())
}

/// Length of a literal that begins with `quote` and ends with the next one that is not behind a backslash.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() && rest[i] != quote {
        i += if rest[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// `'x'` and `'\n'`, not the lifetime `'x`.
fn char_literal(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let width = std::str::from_utf8(&rest[1..rest.len().min(5)]).map_or_else(|e| e.valid_up_to(), str::len);
    let first = std::str::from_utf8(&rest[1..=width]).ok()?.chars().next()?;
    let end = 1 + first.len_utf8();
    (rest.get(end) == Some(&b'\'')).then_some(end + 1)
}

/// Every item behind `#[cfg(test)]` gone. Literals must be empty already, so that every brace counts.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find(MARK) {
        out.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let mut depth = 0;
        let end = item.bytes().position(|b| {
            depth += i32::from(b == b'{') - i32::from(b == b'}');
            depth == 0 && matches!(b, b'}' | b';')
        });
        rest = &item[end.map_or(item.len(), |e| e + 1)..];
    }
    out.push_str(rest);
    out
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `word` as a whole word, with what stands in front of it and behind it.
fn uses<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    code.match_indices(word).map(move |(at, _)| (&code[..at], &code[at + word.len()..])).filter(|(before, behind)| {
        !before.chars().next_back().is_some_and(is_word) && !behind.chars().next().is_some_and(is_word)
    })
}

/// A crate or module of that name is named: `word::..`, `use word;`, `use x::{word, ..}`.
fn names_module(code: &str, word: &str) -> bool {
    uses(code, word).any(|(before, behind)| {
        let statement = before.rsplit([';', '}']).next().unwrap_or(before);
        behind.starts_with("::") || statement.split_whitespace().any(|w| w == "use")
    })
}

/// Modules of the standard library that a `std::` path of this code leads to, those in braces as well.
fn std_words(code: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (_, behind) in uses(code, "std") {
        let Some(path) = behind.strip_prefix("::") else { continue };
        let end = if path.starts_with('{') { path.find(';') } else { path.find(|c: char| !is_word(c)) };
        words.extend(path[..end.unwrap_or(path.len())].split(|c: char| !is_word(c)).map(str::to_owned));
    }
    words
}

#[test]
fn what_decides_knows_no_runtime_device_clock_or_log() {
    const CRATES: [&str; 14] = [
        "tokio",
        "tokio_util",
        "futures_util",
        "gst",
        "gstreamer",
        "gstreamer_app",
        "gstreamer_video",
        "axum",
        "tower",
        "aws_config",
        "aws_sdk_s3",
        "tracing",
        "rustix",
        "libc",
    ];
    const STD: [&str; 6] = ["fs", "env", "net", "thread", "process", "os"];
    const CLOCKS: [&str; 3] = ["SystemTime", "Instant", "Zoned"];
    let mut wrong = Vec::new();
    const MPEGTS: &str = "src/ingest/mpegts";
    for Source { name, code } in ["src/logic/", "src/cmaf/", MPEGTS].into_iter().flat_map(rust_files) {
        if is_test_file(&name) {
            continue;
        }
        wrong.extend(CRATES.iter().filter(|c| names_module(&code, c)).map(|c| format!("{name}: {c}")));
        wrong.extend(std_words(&code).iter().filter(|w| STD.contains(&w.as_str())).map(|w| format!("{name}: std::{w}")));
        wrong.extend(CLOCKS.iter().filter(|c| uses(&code, c).next().is_some()).map(|c| format!("{name}: {c}")));
        for (_, behind) in uses(&code, "crate") {
            let module: String = behind.trim_start_matches(':').chars().take_while(|c| is_word(*c)).collect();
            let own = matches!(module.as_str(), "logic" | "cmaf");
            // `pub(crate)` has no path behind it
            if behind.starts_with("::") && !own && !name.starts_with(MPEGTS) {
                wrong.push(format!("{name}: crate::{module}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_the_codec_process_names_gstreamer() {
    let wrong: Vec<String> = rust_files("src/")
        .into_iter()
        .filter(|s| !s.name.starts_with("src/bin/weir-codec/"))
        .filter(|s| ["gst", "gstreamer", "gstreamer_app", "gstreamer_video"].iter().any(|c| names_module(&s.code, c)))
        .map(|s| s.name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Where unsafe code may stand: in processes of their own.
const APART: [&str; 3] = ["src/bin/weir-codec/", "src/bin/weir-srt/", "src/gpu/driver/"];

#[test]
fn only_the_watcher_process_opens_libraries_of_nvidia() {
    const CRATES: [&str; 3] = ["cudarc", "nvml_wrapper", "libloading"];
    let mut wrong = Vec::new();
    for Source { name, code } in rust_files("src/").into_iter().filter(|s| !s.name.starts_with("src/gpu/driver/")) {
        wrong.extend(CRATES.iter().filter(|c| names_module(&code, c)).map(|c| format!("{name}: {c}")));
        // The module is the program's, not the library's, and only the verb calls it.
        let verb = name == "src/main.rs";
        if !verb
            && (names_module(&code, "driver")
                || uses(&code, "mod").any(|(_, behind)| behind.trim_start().starts_with("driver;")))
        {
            wrong.push(format!("{name}: driver"));
        }
        if verb {
            let calls = code.matches("driver::").count();
            assert_eq!((calls, code.matches("driver::watch(").count(), code.matches("driver::Options").count()), (2, 1, 1));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_library_and_the_supervisor_have_no_unsafe_code() {
    let wrong: Vec<String> = rust_files("src/")
        .into_iter()
        .filter(|s| !APART.iter().any(|a| s.name.starts_with(a)))
        .filter(|s| uses(&s.code, "unsafe").next().is_some())
        .map(|s| s.name)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A registry or mirror is the machine's affair: names of hosts in the tree would go past what it has configured.
#[test]
fn no_file_names_a_registry_host() {
    // In two halves, so that this file is no exception.
    let hosts: Vec<String> = [
        ("crates", ".io"),
        ("npmjs", ".org"),
        ("npmjs", ".com"),
        ("yarnpkg", ".com"),
        ("pypi", ".org"),
        ("pythonhosted", ".org"),
        ("deb.debian", ".org"),
        ("security.debian", ".org"),
        ("ftp.debian", ".org"),
        ("snapshot.debian", ".org"),
        ("docker", ".io"),
        ("proxy.golang", ".org"),
    ]
    .map(|(a, b)| format!("{a}{b}"))
    .into();
    let mut wrong = Vec::new();
    for (name, path) in tree() {
        if name.ends_with("Cargo.lock") {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        wrong.extend(hosts.iter().filter(|h| text.contains(h.as_str())).map(|h| format!("{name}: {h}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_left_out_or_left_for_later() {
    let mut wrong = Vec::new();
    for below in ["src/", "tests/", "benches/", "build.rs"] {
        for (name, path) in tree().into_iter().filter(|(name, _)| name.starts_with(below) && name.ends_with(".rs")) {
            let code = without_literals(&fs::read_to_string(path).unwrap());
            wrong.extend(
                ["#[ignore", "todo!", "unimplemented!"].iter().filter(|w| code.contains(**w)).map(|w| format!("{name}: {w}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_scan_sees_what_it_looks_for() {
    let text = r##"
        use std::{collections::BTreeMap, fs};
        // tokio::spawn
        /* std::net /* nested */ still */
        const A: &str = "std::env \" gst::init";
        const B: &str = r#"tokio::time " "#;
        const C: [char; 3] = ['"', '\'', '{'];
        fn f<'a>(x: &'a str) -> std::time::Duration { tracing::info!(""); todo!() }
        #[cfg(test)]
        mod tests { fn g() { let _ = "}"; std::thread::yield_now(); } }
        #[cfg(test)]
        #[path = "x.rs"]
        mod other;
        use gst;
    "##;
    let code = without_tests(&without_literals(text));
    assert_eq!(std_words(&code).iter().filter(|w| ["fs", "net", "env", "thread"].contains(&w.as_str())).count(), 1);
    assert!(names_module(&code, "tracing") && names_module(&code, "gst") && !names_module(&code, "tokio"));
    assert!(code.contains("todo!") && !code.contains("yield_now") && !code.contains("other"));
}
