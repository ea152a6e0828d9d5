//! Where settings come from, and which of them wins.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, Error};

/// One setting from outside the file: a dotted key and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `--rtmp`, `WEIR_RTMP`.
    pub origin: String,
    /// `limits.idle_ms`.
    pub key: String,
    /// `10000`.
    pub text: String,
}

/// Merges in order: the file's text, then environment, then flags. Pure.
///
/// # Errors
/// [`Error`] for an unknown key or a value that does not fit.
pub fn merge(file: Option<(&Path, &str)>, environment: &[Setting], flags: &[Setting]) -> Result<Config, Error> {
    let known = Table::try_from(Config::default()).map_err(|e| Error::Value(e.to_string()))?;
    let mut table = match file {
        Some((path, text)) => {
            text.parse::<Table>().map_err(|e| Error::Syntax { file: path.to_owned(), source: Box::new(e) })?
        }
        None => Table::new(),
    };
    if let Some((path, _)) = file {
        check_known(&table, &known, "", &path.display().to_string())?;
    }
    for setting in environment.iter().chain(flags) {
        overlay(&mut table, &known, setting)?;
    }
    let srt_was_set = table.contains_key("srt");
    let mut config: Config =
        Value::Table(table).try_into().map_err(|e: toml::de::Error| Error::Value(e.message().to_owned()))?;
    config.srt_was_set = srt_was_set;
    config.limits.check().map_err(|e| Error::Value(e.to_string()))?;
    config.srt_listener.check().map_err(|e| Error::Value(e.to_string()))?;
    config.check()?;
    Ok(config)
}

fn unknown(origin: &str, key: &str, prefix: &str, known: &Table) -> Error {
    let nearest = known
        .keys()
        .map(|k| (strsim::jaro_winkler(k, key.rsplit('.').next().unwrap_or(key)), k))
        .filter(|(score, _)| *score > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| format!("{prefix}{k}"));
    Error::Unknown { origin: origin.to_owned(), key: key.to_owned(), nearest }
}

fn check_known(table: &Table, known: &Table, prefix: &str, origin: &str) -> Result<(), Error> {
    for (key, value) in table {
        let full = format!("{prefix}{key}");
        match (known.get(key), value) {
            (None, _) => return Err(unknown(origin, &full, prefix, known)),
            (Some(Value::Table(inner)), Value::Table(given)) => check_known(given, inner, &format!("{full}."), origin)?,
            _ => {}
        }
    }
    Ok(())
}

fn overlay(table: &mut Table, known: &Table, setting: &Setting) -> Result<(), Error> {
    let (mut place, mut known) = (table, known);
    let mut parts = setting.key.split('.').peekable();
    while let Some(part) = parts.next() {
        let Some(kind) = known.get(part) else { return Err(unknown(&setting.origin, &setting.key, "", known)) };
        match (kind, parts.peek()) {
            (Value::Table(inner), Some(_)) => {
                known = inner;
                let slot = place.entry(part).or_insert_with(|| Value::Table(Table::new()));
                let Value::Table(next) = slot else { return Err(Error::Value(format!("{part} is a section"))) };
                place = next;
            }
            (Value::Integer(_), None) => {
                let number = setting
                    .text
                    .parse()
                    .map_err(|_| Error::Value(format!("{}: {:?} is no whole number", setting.origin, setting.text)))?;
                place.insert(part.into(), Value::Integer(number));
            }
            (Value::Boolean(_), None) => {
                let yes = setting
                    .text
                    .parse()
                    .map_err(|_| Error::Value(format!("{}: {:?} is neither true nor false", setting.origin, setting.text)))?;
                place.insert(part.into(), Value::Boolean(yes));
            }
            (Value::String(_), None) => {
                place.insert(part.into(), Value::String(setting.text.clone()));
            }
            (Value::Array(_), None) => {
                let parsed = format!("list = {}", setting.text).parse::<Table>().ok().and_then(|mut t| t.remove("list"));
                let list = parsed.filter(Value::is_array);
                let list = list.ok_or_else(|| {
                    Error::Value(format!("{}: {:?} is no list as TOML writes it", setting.origin, setting.text))
                })?;
                place.insert(part.into(), list);
            }
            _ => return Err(unknown(&setting.origin, &setting.key, "", known)),
        }
    }
    Ok(())
}

/// `WEIR_LIMITS__IDLE_MS` is `limits.idle_ms`; variables that are the program's own are left out by the caller.
pub fn environment(variables: impl Iterator<Item = (String, String)>) -> Vec<Setting> {
    variables
        .filter_map(|(name, text)| {
            let key = name.strip_prefix("WEIR_")?.to_ascii_lowercase().replace("__", ".");
            // The names of our build and test variables.
            (!matches!(
                key.as_str(),
                "log"
                    | "commit"
                    | "update_golden"
                    | "codec_parent"
                    | "srt_parent"
                    | "signing_key"
                    | "report_secret"
                    | "pass_environment"
            ))
            .then_some(Setting { origin: name, key, text })
        })
        .collect()
}

/// Reads a file and merges.
///
/// # Errors
/// [`Error`].
pub fn load(file: Option<&Path>, environment: &[Setting], flags: &[Setting]) -> Result<Config, Error> {
    let text = match file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|source| Error::Read { file: path.to_owned(), source })?),
        None => None,
    };
    merge(file.zip(text.as_deref()), environment, flags)
}
