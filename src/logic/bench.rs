//! What `weir bench gpu` measured, beside what was planned with. Pure: numbers in, a table out.

mod expected;
mod refused;

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use serde::{Serialize, Serializer};

pub use expected::{Machine, context_mib, cpu_budget, decoder_mib, macroblocks, session_mib, stream_mib};
pub use refused::refused;

/// What is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What the device is.
    Device,
    /// Each preset to saturation.
    Presets,
    /// Streams in real time, several in a process or each in its own.
    Streams,
    /// Device memory.
    Memory,
    /// The ladder at full load.
    Ladder,
    /// How long a process and its first picture take.
    Start,
    /// What the driver is refused.
    Sandbox,
}

impl Part {
    /// In the order in which they are measured.
    pub const ALL: [Self; 7] =
        [Self::Device, Self::Presets, Self::Streams, Self::Memory, Self::Ladder, Self::Start, Self::Sandbox];

    /// Its name in `--only` and in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Presets => "presets",
            Self::Streams => "streams",
            Self::Memory => "memory",
            Self::Ladder => "ladder",
            Self::Start => "start",
            Self::Sandbox => "sandbox",
        }
    }
}

/// Not the name of a part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of device, presets, streams, memory, ladder, start, sandbox")]
pub struct NoPart(String);

impl FromStr for Part {
    type Err = NoPart;
    fn from_str(s: &str) -> Result<Self, NoPart> {
        Self::ALL.into_iter().find(|p| p.as_str() == s).ok_or_else(|| NoPart(s.into()))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Of which part.
    pub part: Part,
    /// What was measured.
    pub what: String,
    /// Of both numbers.
    pub unit: &'static str,
    /// `None`: it could not be measured, and the note says why.
    pub measured: Option<f64>,
    /// `None`: nothing is known to expect.
    pub expected: Option<f64>,
    /// Measured over expected.
    pub ratio: Option<f64>,
    /// What a reader has to know besides.
    pub note: String,
}

impl Row {
    /// A measurement.
    pub fn new(part: Part, what: impl Into<String>, unit: &'static str, measured: f64) -> Self {
        Self { part, what: what.into(), unit, measured: Some(measured), expected: None, ratio: None, note: String::new() }
    }

    /// What could not be measured, and why.
    pub fn missing(part: Part, what: impl Into<String>, unit: &'static str, why: impl Into<String>) -> Self {
        Self { measured: None, note: why.into(), ..Self::new(part, what, unit, 0.0) }
    }

    /// A measurement, if there is one.
    pub fn of(part: Part, what: impl Into<String>, unit: &'static str, measured: Result<f64, String>) -> Self {
        match measured {
            Ok(measured) => Self::new(part, what, unit, measured),
            Err(why) => Self::missing(part, what, unit, why),
        }
    }

    /// What was planned with.
    #[must_use]
    pub fn expect(mut self, expected: Option<f64>) -> Self {
        self.expected = expected.filter(|e| e.is_finite());
        self.ratio = self.measured.zip(self.expected).filter(|(_, e)| *e != 0.0).map(|(m, e)| m / e);
        self
    }

    /// What a reader has to know besides; behind what is there.
    #[must_use]
    pub fn note(mut self, note: impl AsRef<str>) -> Self {
        if !note.as_ref().is_empty() {
            let between = if self.note.is_empty() { "" } else { "; " };
            self.note = format!("{}{between}{}", self.note, note.as_ref());
        }
        self
    }
}

/// For people: one line for each row.
pub fn text(rows: &[Row]) -> String {
    const HEAD: [&str; 7] = ["part", "what", "measured", "expected", "ratio", "unit", "note"];
    let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), written);
    let ratio = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
    let cells: Vec<[String; 7]> = std::iter::once(HEAD.map(str::to_owned))
        .chain(rows.iter().map(|r| {
            let part = r.part.to_string();
            [part, r.what.clone(), number(r.measured), number(r.expected), ratio(r.ratio), r.unit.into(), r.note.clone()]
        }))
        .collect();
    let width = |column: usize| cells.iter().map(|c| c[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut out = String::new();
    for line in &cells {
        let mut written = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Numbers to the right, words to the left. Writing to a text cannot fail.
            let _ = match column {
                2..=4 => write!(written, "{cell:>width$}  "),
                _ => write!(written, "{cell:<width$}  "),
            };
        }
        out += written.trim_end();
        out.push('\n');
    }
    out
}

/// With as many places as say something.
fn written(n: f64) -> String {
    if n == 0.0 || n.abs() >= 100.0 || n.fract() == 0.0 { format!("{n:.0}") } else { format!("{n:.2}") }
}

/// The middle one of several measurements; `None` of none.
pub fn median(mut of: Vec<f64>) -> Option<f64> {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_needs_both_numbers() {
        let row = Row::new(Part::Presets, "p1", "fps", 50.0);
        assert_eq!(row.clone().expect(Some(100.0)).ratio, Some(0.5));
        assert_eq!(row.clone().expect(None).ratio, None);
        assert_eq!(row.clone().expect(Some(0.0)).ratio, None, "a leak of nothing is expected");
        assert_eq!(row.expect(Some(f64::NAN)).expected, None);
        let missing = Row::of(Part::Memory, "context", "MiB", Err("NVML is gone".into())).expect(Some(225.0));
        assert_eq!((missing.measured, missing.ratio, missing.note.as_str()), (None, None, "NVML is gone"));
    }

    #[test]
    fn the_table_has_a_line_for_each_row_in_columns() {
        let rows = [
            Row::new(Part::Presets, "p1, 1 x 1920x1080", "fps", 600.0).expect(Some(650.8)).note("a").note("").note("b"),
            Row::missing(Part::Streams, "with MPS", "streams", "no control daemon"),
            Row::new(Part::Start, "first picture", "s", 0.25),
        ];
        let text = text(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let at = lines[0].find("unit").unwrap();
        assert!(lines[1..].iter().zip(["fps", "streams", "s"]).all(|(l, unit)| l[at..].starts_with(unit)), "{text}");
        assert!(lines[1].contains(" 600       651   0.92  ") && lines[1].ends_with("a; b"), "{text}");
        assert!(lines[2].ends_with("no control daemon") && lines[3].contains(" 0.25 "), "{text}");
    }

    #[test]
    fn parts_are_named_as_they_are_written() {
        for part in Part::ALL {
            assert_eq!(part.as_str().parse(), Ok(part));
        }
        assert!("preset".parse::<Part>().unwrap_err().to_string().contains("presets"));
        assert_eq!(serde_json::to_value(Part::Ladder).unwrap(), "ladder");
    }

    #[test]
    fn the_middle_one_is_taken() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
}
