//! A viewer who keeps every version of every playlist that was ever there, and believes none of them.

use super::*;
use crate::cmaf::fragment;

/// What a playlist says of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub discontinuity: u64,
    /// Behind a DISCONTINUITY tag.
    pub fresh: bool,
    pub date: i64,
    pub gap: bool,
    /// Microseconds.
    pub length: i64,
    pub key: String,
    pub map: Option<String>,
}

/// One media playlist.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    pub target: i64,
    pub sequence: u64,
    pub discontinuities: u64,
    pub entries: BTreeMap<u64, Entry>,
    pub ended: bool,
}

pub fn read(text: &str) -> Listed {
    let mut out = Listed::default();
    let (mut fresh, mut gap, mut date, mut length, mut map) = (false, false, None, None, None);
    let mut discontinuity = None;
    for line in text.lines() {
        let value = |tag: &str| line.strip_prefix(tag);
        if let Some(n) = value("#EXT-X-TARGETDURATION:") {
            out.target = n.parse().unwrap();
        } else if let Some(n) = value("#EXT-X-MEDIA-SEQUENCE:") {
            out.sequence = n.parse().unwrap();
        } else if let Some(n) = value("#EXT-X-DISCONTINUITY-SEQUENCE:") {
            out.discontinuities = n.parse().unwrap();
        } else if let Some(uri) = value("#EXT-X-MAP:URI=\"") {
            map = Some(uri.trim_end_matches('"').to_owned());
        } else if let Some(d) = value("#EXT-X-PROGRAM-DATE-TIME:") {
            date = Some(d.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        } else if let Some(seconds) = value("#EXTINF:") {
            let (whole, part) = seconds.trim_end_matches(',').split_once('.').unwrap();
            length = Some(whole.parse::<i64>().unwrap() * 1_000_000 + part.parse::<i64>().unwrap());
        } else if line == "#EXT-X-DISCONTINUITY" {
            fresh = true;
            map = None;
        } else if line == "#EXT-X-GAP" {
            gap = true;
        } else if line == "#EXT-X-ENDLIST" {
            out.ended = true;
        } else if !line.starts_with('#') {
            let number = out.sequence + out.entries.len() as u64;
            let count = discontinuity.get_or_insert(out.discontinuities);
            *count += u64::from(fresh);
            let entry = Entry {
                discontinuity: *count,
                fresh,
                date: date.take().expect("a date"),
                gap,
                length: length.take().expect("a length"),
                key: line.trim_start_matches("../").to_owned(),
                map: map.as_ref().filter(|_| !gap).map(|m: &String| m.trim_start_matches("../").to_owned()),
            };
            out.entries.insert(number, entry);
            (fresh, gap) = (false, false);
        }
    }
    out
}

/// Everything that was ever said.
#[derive(Debug, Default)]
pub struct Reader {
    /// By playlist.
    tracks: BTreeMap<String, Listed>,
    /// Start and end of segments by track and number, ticks and their scale, as their boxes say.
    times: BTreeMap<(String, u64), (i64, i64, i64)>,
    mpd: Option<String>,
    /// Numbers may be skipped: the store was away for longer than the window.
    pub lenient: bool,
    /// EXT-X-TARGETDURATION may grow: nobody can stand in for a long GOP.
    pub may_grow: bool,
    published: i64,
}

type Bad = Result<(), String>;

macro_rules! hold {
    ($what:expr, $($why:tt)*) => { if !$what { return Err(format!($($why)*)); } };
}

impl Reader {
    /// A write of manifests was ordered: all of them belong together.
    pub fn ordered(&self, files: &[(ObjectKey, String)]) -> Bad {
        let playlists: Vec<(&ObjectKey, Listed)> = files
            .iter()
            .filter(|(key, text)| key.as_str().ends_with(".m3u8") && text.contains("#EXTINF"))
            .map(|(k, t)| (k, read(t)))
            .collect();
        let Some((_, first)) = playlists.first() else { return Ok(()) };
        for (key, other) in &playlists {
            hold!(other.target == first.target && other.ended == first.ended, "{key}: another target duration or end");
            hold!(other.entries.keys().eq(first.entries.keys()), "{key} lists other numbers");
            for (number, e) in &other.entries {
                let f = &first.entries[number];
                hold!(e.discontinuity == f.discontinuity && e.fresh == f.fresh, "{key}: discontinuity at {number}");
                hold!(e.date == f.date, "{key}: {number} is dated otherwise");
            }
        }
        Ok(())
    }

    /// A manifest stands in the store now.
    pub fn seen(&mut self, key: &ObjectKey, text: &str, store: &Store) -> Bad {
        let name = key.as_str();
        if name.ends_with("index.m3u8") || name.ends_with("state.json") {
            return Ok(());
        }
        if name.ends_with(".mpd") { self.dash(text, store) } else { self.playlist(name, text, store) }
    }

    fn playlist(&mut self, name: &str, text: &str, store: &Store) -> Bad {
        let now = read(text);
        let before = self.tracks.entry(name.to_owned()).or_default();
        hold!(!now.entries.is_empty(), "{name} is empty");
        hold!(!before.ended || now.ended, "{name} is open again");
        hold!(
            before.target == 0 || before.target == now.target || (self.may_grow && now.target > before.target),
            "{name}: target duration {} was {}",
            now.target,
            before.target
        );
        hold!(now.sequence >= before.sequence && now.discontinuities >= before.discontinuities, "{name}: a sequence went back");
        let (old_last, last) = (before.entries.keys().next_back().copied(), *now.entries.keys().next_back().unwrap());
        if let Some(old) = old_last {
            hold!(last >= old, "{name}: {old} was taken back");
            hold!(now.sequence <= old + 1 || self.lenient, "{name}: {} to {} are missing", old + 1, now.sequence - 1);
        }
        // Of each number the same is said for ever. A player keeps all of them.
        let mut entries = std::mem::take(&mut before.entries);
        for (number, e) in &now.entries {
            if let Some(was) = entries.get(number) {
                // The oldest row's tag is counted as soon as the row before it has left.
                hold!(was == e, "{name}: {number} changed: {was:?} {e:?}");
            } else {
                hold!(e.gap || store.objects.contains_key(e.key.as_str()), "{name} names {}, which is not stored", e.key);
                if let Some(map) = e.map.as_ref().filter(|_| !e.gap) {
                    hold!(store.objects.contains_key(map.as_str()), "{name} names {map}, which is not stored");
                }
                hold!(e.gap || e.map.is_some(), "{name}: {number} has no init segment");
            }
            hold!(e.gap || !store.doomed.contains(e.key.as_str()), "{name} names {}, which goes", e.key);
            entries.insert(*number, e.clone());
        }
        let new: Vec<u64> = now.entries.keys().copied().filter(|n| old_last.is_none_or(|old| *n > old)).collect();
        *before = Listed { entries, ..now };
        let (target, ended) = (before.target, before.ended);
        for number in new {
            self.entry(name, number, target, store)?;
        }
        // The last segment of a run may be short, and nothing else.
        let all = &self.tracks[name].entries;
        for ((a, first), (b, second)) in all.iter().zip(all.iter().skip(1)) {
            let near = b - a == 1 && !second.fresh;
            hold!(!near || first.length >= 478_000, "{name}: {a} is {} us long", first.length);
        }
        let _ = ended;
        Ok(())
    }

    fn entry(&mut self, name: &str, number: u64, target: i64, store: &Store) -> Bad {
        let entries = &self.tracks[name].entries;
        let e = &entries[&number];
        let before = entries.get(&(number.wrapping_sub(1)));
        hold!((e.length + 500_000) / 1_000_000 <= target, "{name}: {number} is {} us long, over {target} s", e.length);
        let twice = entries.iter().find(|(n, other)| **n != number && !other.gap && !e.gap && other.key == e.key);
        hold!(twice.is_none(), "{name}: {} is listed twice", e.key);
        if let Some(b) = before {
            hold!(e.date > b.date, "{name}: date of {number} goes back");
            if !e.fresh {
                // Dates are those of cuts, lengths of audio are within a frame of them (128 ms at 8 kHz).
                let off = (e.date - b.date) * 1000 - b.length;
                let most = if name.ends_with("audio.m3u8") { 130_000 } else { 1000 };
                // And they follow the wall clock by a hundredth of a row (rules.md 11).
                let most = most + b.length / 100;
                hold!(off.abs() <= most, "{name}: date of {number} is {off} us off");
            }
        }
        if e.gap {
            return Ok(());
        }
        let body = &store.objects[e.key.as_str()];
        let Some((start, length)) = fragment::measure(body) else { return Err(format!("{} is no segment", e.key)) };
        let audio = name.ends_with("audio.m3u8");
        let scale = if audio { store.scale(e.map.as_deref().unwrap()) } else { 90_000 };
        let us = |ticks: i64| ticks * 1_000_000 / scale;
        hold!((us(length) - e.length).abs() <= 1, "{name}: {} is {} us long, not {}", e.key, us(length), e.length);
        // Nothing overlaps, and within a run nothing is missing.
        if let Some((_, end, of)) = self.times.get(&(name.to_owned(), number.wrapping_sub(1))).filter(|t| t.2 == scale) {
            let frame = if audio { 1024 } else { 0 };
            hold!(
                start >= *end || (e.fresh && audio),
                "{name}: {number} begins {} ticks before the end of the one before",
                end - start
            );
            hold!(e.fresh || start - end <= frame, "{name}: {number} begins {} of {of} behind the one before", start - end);
        }
        let times = (start, start + length, scale);
        self.times.insert((name.to_owned(), number), times);
        // All rungs begin together, and audio within a frame.
        for ((other, _), (at, _, of)) in self.times.iter().filter(|((other, n), _)| *n == number && other != name) {
            let (at, own) = (*at as i128 * 1_000_000 / *of as i128, start as i128 * 1_000_000 / scale as i128);
            let most = match (audio, other.ends_with("audio.m3u8")) {
                (false, false) => 0,
                (true, _) => 1024 * 1_000_000 / scale as i128 + 12,
                (_, true) => 1024 * 1_000_000 / *of as i128 + 12,
            };
            let first = e.fresh || number == *entries.keys().next().unwrap();
            let excused = first && most > 0;
            hold!((at - own).abs() <= most || excused, "{number}: {name} begins at {own} us, {other} at {at}");
        }
        Ok(())
    }

    /// Every Period says what the playlists say.
    fn dash(&mut self, text: &str, store: &Store) -> Bad {
        let attribute = |tag: &str, name: &str| -> Option<String> {
            let (_, rest) = tag.split_once(&format!(" {name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let seconds = |t: &str| -> i64 {
            let t = t.trim_start_matches("PT").trim_end_matches('S');
            let (whole, part) = t.split_once('.').unwrap_or((t, ""));
            whole.parse::<i64>().unwrap() * 1_000_000 + format!("{part:0<6}").parse::<i64>().unwrap()
        };
        let date = |t: String| t.parse::<jiff::Timestamp>().unwrap().as_millisecond();
        let anchor = date(attribute(text, "availabilityStartTime").ok_or("no availabilityStartTime")?);
        let published = date(attribute(text, "publishTime").ok_or("no publishTime")?);
        hold!(published >= self.published, "publishTime goes back");
        self.published = published;
        let mut end = 0;
        for period in text.split("<Period ").skip(1) {
            let period = format!(" {period}");
            let start = seconds(&attribute(&period, "start").ok_or("no start")?);
            hold!(start >= end, "a Period begins at {start} us, before the end of the one before at {end}");
            end = attribute(&period, "duration").map_or(start, |d| start + seconds(&d));
            for representation in period.split("<Representation ").skip(1) {
                let r = format!(" {}", representation.split("</Representation>").next().unwrap());
                let name = attribute(&r, "id").ok_or("no id")?;
                let number = |n: &str| attribute(&r, n).and_then(|n| n.parse::<i64>().ok()).ok_or(format!("no {n}"));
                let (scale, offset) = (number("timescale")?, number("presentationTimeOffset")?);
                let listed =
                    &self.tracks.get(&format!("live/local/demo/{name}.m3u8")).ok_or(format!("{name}: no playlist"))?.entries;
                let media = attribute(&r, "media").ok_or("no media")?;
                let (mut t, mut last) = (0, None::<(i64, i64)>);
                for s in r.split("<S ").skip(1) {
                    let s = format!(" {}", s.split("/>").next().unwrap());
                    let n = |n: &str| attribute(&s, n).map(|n| n.parse::<i64>().unwrap());
                    t = n("t").unwrap_or(t);
                    let d = n("d").ok_or("no d")?;
                    for _ in 0..=n("r").unwrap_or(0) {
                        let key = media
                            .trim_start_matches("../")
                            .replace("$RepresentationID$", &name)
                            .replace("$Time$", &t.to_string());
                        let found = listed.values().find(|e| e.key == key && !e.gap);
                        let Some(e) = found else { return Err(format!("{key} is in the MPD only")) };
                        hold!(store.objects.contains_key(key.as_str()), "the MPD names {key}, which is not stored");
                        let shown = start + ((t - offset) as i128 * 1_000_000 / scale as i128) as i64;
                        // A date is a cut's, to the millisecond; audio begins within a frame behind it.
                        let off = shown - (e.date - anchor) * 1000;
                        let alone = self.tracks.len() == 1;
                        let most = match (name.as_str(), alone) {
                            ("audio", false) => 1024 * 1_000_000 / scale + 1100,
                            // Nothing else is there to be cut with: rules.md 11 allows 60 ms between samples and times.
                            ("audio", true) => 1024 * 1_000_000 / scale + 61_100,
                            _ => 1100,
                        };
                        // Within a Period time runs as the media does, and dates follow the wall clock (rules.md 11).
                        let begins = t == offset;
                        let (least, most) = if begins { (-1100, most) } else { (-501_100, most + 500_000) };
                        hold!((least..=most).contains(&off), "{key} is shown {off} us off its date");
                        if let Some((before, date)) = last.replace((off, e.date)) {
                            // Both dates are written to the millisecond.
                            let most = (e.date - date) * 10 + if name == "audio" { 2 * 130_000 } else { 2500 };
                            hold!((off - before).abs() <= most, "{key}: {off} us off its date, {before} before");
                        }
                        t += d;
                    }
                }
            }
        }
        self.mpd = Some(text.to_owned());
        Ok(())
    }

    /// All manifests say that it is over, and no object is left that they do not name and that nobody deletes.
    pub fn finished(&self, store: &Store) -> Bad {
        if self.tracks.is_empty() {
            return Ok(());
        }
        for (name, listed) in &self.tracks {
            hold!(listed.ended, "{name} has no end");
        }
        // An MPD must have something to play: of gaps alone none is written.
        let media = self.tracks.values().any(|l| l.entries.range(l.sequence..).any(|(_, e)| !e.gap));
        hold!(!media || self.mpd.as_ref().is_some_and(|m| m.contains("type=\"static\"")), "the MPD is not static");
        let named: BTreeSet<&str> =
            self.tracks.values().flat_map(|l| l.entries.range(l.sequence..)).map(|(_, e)| e.key.as_str()).collect();
        let left = store
            .objects
            .keys()
            .filter(|k| k.ends_with(".m4s") && !named.contains(k.as_str()) && !store.doomed.contains(k.as_str()));
        let left: Vec<_> = left.collect();
        hold!(left.is_empty(), "nobody names or deletes {left:?}");
        Ok(())
    }

    /// Segments that anybody saw, by playlist.
    pub fn counts(&self) -> BTreeMap<&str, usize> {
        self.tracks.iter().map(|(name, l)| (name.as_str(), l.entries.values().filter(|e| !e.gap).count())).collect()
    }

    pub fn entries(&self, track: &str) -> &BTreeMap<u64, Entry> {
        static NONE: BTreeMap<u64, Entry> = BTreeMap::new();
        self.tracks.get(&format!("live/local/demo/{track}.m3u8")).map_or(&NONE, |l| &l.entries)
    }
}
