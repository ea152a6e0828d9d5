//! Documents that must not fall behind the code.

use std::collections::BTreeMap;

use toml::{Table, Value};
use weir::config::Config;

/// Every setting by its dotted key, with its default as TOML.
fn defaults(table: &Table, prefix: &str, out: &mut BTreeMap<String, String>) {
    for (key, value) in table {
        match value {
            Value::Table(inner) => defaults(inner, &format!("{prefix}{key}."), out),
            other => {
                out.insert(format!("{prefix}{key}"), other.to_string());
            }
        }
    }
}

#[test]
fn the_settings_page_lists_every_setting_with_its_default() {
    let page = include_str!("../../docs/config.md");
    let listed: BTreeMap<String, String> = page
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(|c| c.trim().trim_matches('`').to_owned());
            Some((cells.next()?, cells.next()?))
        })
        .collect();
    let mut expected = BTreeMap::new();
    defaults(&Table::try_from(Config::default()).unwrap(), "", &mut expected);
    assert_eq!(listed, expected);
}

/// Documents name code as `path` or `path:name`; both are there.
#[test]
fn code_that_documents_name_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    let pages = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for page in pages.filter(|p| p.extension().is_some_and(|e| e == "md")).chain([root.join("ARCHITECTURE.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        for code in text.split('`').skip(1).step_by(2).filter(|c| c.starts_with("src/") || c.starts_with("tests/")) {
            let (path, name) = code.split_once(':').unwrap_or((code, ""));
            if path.contains(['*', '{', ' ', '<']) {
                continue;
            }
            named += 1;
            let file = root.join(path);
            assert!(file.exists(), "{}: {path}", page.display());
            // `Type::method` is looked for by its last part.
            let name = name.rsplit("::").next().unwrap_or_default();
            assert!(name.is_empty() || std::fs::read_to_string(&file).unwrap().contains(name), "{}: {code}", page.display());
        }
    }
    assert!(named > 30, "{named}");
}
