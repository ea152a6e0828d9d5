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
