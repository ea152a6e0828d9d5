//! A run's course as a picture: SVG, because it needs no fonts and no library, and every browser shows it.

use std::fmt::Write as _;

use super::outcome::{Outcome, Sample};

const WIDTH: u64 = 960;
const HEIGHT: u64 = 220;
const LEFT: u64 = 60;
const TOP: u64 = 40;

type Line = (&'static str, &'static str, fn(&Sample) -> u32);

/// Two charts, one above the other, over the same time.
const CHARTS: [&[Line]; 2] = [
    &[
        ("live", "#1b7837", |s| s.live),
        ("waiting", "#b2182b", |s| s.waiting),
        ("rungs left out", "#762a83", |s| s.shed),
        ("late", "#e08214", |s| s.late),
    ],
    &[("refusals so far", "#b2182b", |s| s.refusals), ("nodes", "#2166ac", |s| s.nodes)],
];

/// The course of a run under a title.
pub fn svg(outcome: &Outcome, title: &str) -> String {
    let height = TOP + CHARTS.len() as u64 * (HEIGHT + TOP) + TOP;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n<text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{}</text>\n",
        WIDTH + 2 * LEFT,
        escaped(title),
    );
    for (n, lines) in CHARTS.iter().enumerate() {
        chart(&mut out, &outcome.samples, lines, TOP + n as u64 * (HEIGHT + TOP));
    }
    out.push_str("</svg>\n");
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writing to a text cannot fail.
fn chart(out: &mut String, samples: &[Sample], lines: &[Line], top: u64) {
    let most = lines.iter().flat_map(|(_, _, of)| samples.iter().map(of)).max().unwrap_or(0).max(1);
    let end = samples.last().map_or(1, |s| s.at).max(1);
    let bottom = top + HEIGHT;
    let _ =
        writeln!(out, "<rect x=\"{LEFT}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#999\"/>");
    for quarter in 0..=4 {
        let (x, y) = (LEFT + WIDTH * quarter / 4, bottom - HEIGHT * quarter / 4);
        let minutes = end * quarter / 4 / 60_000;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{minutes} min</text>", bottom + 14);
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 6,
            y + 4,
            u64::from(most) * quarter / 4
        );
    }
    for (n, (name, colour, of)) in lines.iter().enumerate() {
        let point =
            |s: &Sample| format!("{},{}", LEFT + WIDTH * s.at / end, bottom - HEIGHT * u64::from(of(s)) / u64::from(most));
        let points: Vec<String> = samples.iter().map(point).collect();
        let _ =
            writeln!(out, "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" points=\"{}\"/>", points.join(" "));
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}</text>", LEFT + 8 + 130 * n as u64, top + 14);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_point_for_every_sample_within_the_picture() {
        let of = |at, live| Sample { at, live, waiting: 1, nodes: 2, refusals: 0, shed: 0, late: 0 };
        let outcome = Outcome { samples: vec![of(0, 5), of(1000, 10), of(2000, 0)], ..Outcome::default() };
        let text = svg(&outcome, "a < b");
        assert!(text.contains("a &lt; b") && text.ends_with("</svg>\n"));
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("<polyline")).collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[0].contains("points=\"60,150 540,40 1020,260\""), "{}", lines[0]);
        assert!(lines.iter().all(|l| l.matches(',').count() == 3));
        assert!(svg(&Outcome::default(), "").contains("<polyline"), "nothing to show is no fault");
    }
}
