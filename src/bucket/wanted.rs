//! What a bucket must look like, as plain data, and what is wrong with one. Asks nobody.
//!
//! Sources: Amazon S3 user guide, "replication time control", "lifecycle configuration elements", "CORS configuration"; rules.md 16, 17 and 21.

use crate::logic::model::{Class, Replicate};

/// The only threshold that S3 takes for replication time control, minutes.
pub const RTC_MINUTES: i32 = 15;

/// Old versions of playlists, and what the live window has left, stay so long. The shortest that S3 takes.
pub const DAYS: i32 = 1;

/// What the operator wants of the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Stands before every key; empty, or with a slash at its end.
    pub prefix: String,
    /// Which tracks are copied to another region.
    pub replicate: Replicate,
    /// Origins whose pages may read; `*` for all.
    pub origins: Vec<String>,
}

/// A replication rule, as far as it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicationRule {
    /// Its name.
    pub id: String,
    /// `Status`.
    pub enabled: bool,
    /// `Filter.Prefix`; empty for all objects, `None` for a filter by tags, which sees none of ours.
    pub prefix: Option<String>,
    /// `Priority`.
    pub priority: Option<i32>,
    /// `DeleteMarkerReplication`.
    pub delete_markers: bool,
    /// `SourceSelectionCriteria.ReplicaModifications`.
    pub replica_modifications: bool,
    /// `Destination.ReplicationTime`, minutes.
    pub time: Option<i32>,
    /// `Destination.Metrics.EventThreshold`, minutes.
    pub metrics: Option<i32>,
}

/// A lifecycle rule, as far as it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LifecycleRule {
    /// Its name.
    pub id: String,
    /// `Status`.
    pub enabled: bool,
    /// `Filter.Prefix`; empty for all objects, `None` for one by tags or sizes.
    pub prefix: Option<String>,
    /// It expires current versions: after so many days, or at a date (0).
    pub expire: Option<i32>,
    /// `NoncurrentVersionExpiration`, days.
    pub noncurrent: Option<i32>,
    /// `AbortIncompleteMultipartUpload`, days.
    pub abort: Option<i32>,
}

/// A CORS rule, as far as it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsRule {
    /// `AllowedMethods`.
    pub methods: Vec<String>,
    /// `AllowedOrigins`.
    pub origins: Vec<String>,
    /// `ExposeHeaders`.
    pub expose: Vec<String>,
}

impl ReplicationRule {
    /// For people.
    pub fn told(&self) -> String {
        let prefix = self.prefix.as_deref().unwrap_or("by tags");
        let minutes = |m: Option<i32>| m.map_or("off".to_owned(), |m| format!("{m} min"));
        let (time, metrics, priority) = (minutes(self.time), minutes(self.metrics), self.priority.unwrap_or(0));
        let off = if self.enabled { "" } else { " (disabled)" };
        let extra = [(self.delete_markers, ", delete markers"), (!self.replica_modifications, ", no changes of replicas")];
        let extra: String = extra.iter().filter(|(is, _)| *is).map(|(_, text)| *text).collect();
        format!("{}{off}: {prefix}, time control {time}, metrics {metrics}, priority {priority}{extra}", self.id)
    }
}

impl LifecycleRule {
    /// For people.
    pub fn told(&self) -> String {
        let prefix = self.prefix.as_deref().unwrap_or("by tags or sizes");
        let days = |what: &str, days: Option<i32>| days.map(|d| format!(", {what} after {d} d")).unwrap_or_default();
        let off = if self.enabled { "" } else { " (disabled)" };
        let parts =
            [days("objects go", self.expire), days("old versions go", self.noncurrent), days("half uploads go", self.abort)];
        format!("{}{off}: {}{}", self.id, if prefix.is_empty() { "everything" } else { prefix }, parts.concat())
    }
}

impl CorsRule {
    /// For people.
    pub fn told(&self) -> String {
        format!("{} from {}, exposing {}", self.methods.join(" "), self.origins.join(" "), self.expose.join(" "))
    }
}

/// What was read of a bucket: each part, or why it could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `Enabled`.
    pub versioning: Result<bool, String>,
    /// All rules.
    pub replication: Result<Vec<ReplicationRule>, String>,
    /// All rules.
    pub lifecycle: Result<Vec<LifecycleRule>, String>,
    /// All rules.
    pub cors: Result<Vec<CorsRule>, String>,
}

/// How a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// As it must be.
    Ok,
    /// Nothing to check, something to know.
    Note,
    /// It could not be seen.
    Unknown,
    /// Wrong.
    Wrong,
}

impl Standing {
    /// For the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub line: String,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is.
    pub fix: String,
}

impl Finding {
    /// As it must be.
    pub fn ok(line: &str, found: impl Into<String>) -> Self {
        Self { line: line.to_owned(), standing: Standing::Ok, found: found.into(), fix: String::new() }
    }

    /// Something to do.
    pub fn wrong(line: &str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { line: line.to_owned(), standing: Standing::Wrong, found: found.into(), fix: fix.into() }
    }

    /// Something to know.
    pub fn note(line: &str, found: impl Into<String>) -> Self {
        Self { line: line.to_owned(), standing: Standing::Note, found: found.into(), fix: String::new() }
    }

    fn unknown(line: &str, why: &str, permission: &str) -> Self {
        let fix = format!("let who runs this read it: {permission}");
        Self { line: line.to_owned(), standing: Standing::Unknown, found: why.to_owned(), fix }
    }
}

const APPLY: &str = "weir bucket apply";

impl Wanted {
    /// Prefixes whose objects are copied to the other region: kept and window segments of the replicated classes, checkpoints, recordings.
    /// Live playlists are not: a key is only ever written in one region (rules.md 16 and 20).
    pub fn replicated(&self) -> Vec<String> {
        if self.replicate == Replicate::None {
            return Vec::new();
        }
        let classes = Class::ALL.iter().filter(|c| c.replicated).map(|c| format!("seg/{}/", c.as_str()));
        classes.chain(["ckpt/".into(), "rec/".into()]).map(|p| format!("{}{p}", self.prefix)).collect()
    }

    /// A rule of ours, to be changed or taken away: named by us, and about keys of this store. Another store may lie in the same bucket.
    pub fn owns(&self, id: &str, prefix: Option<&str>) -> bool {
        let rest = prefix.and_then(|p| p.strip_prefix(self.prefix.as_str()));
        let class =
            |rest: &str| rest.is_empty() || ["live/", "ckpt/", "seg/", "rec/", "thumb/"].iter().any(|c| rest.starts_with(c));
        id.starts_with("weir-") && rest.is_some_and(class)
    }

    /// The rules that make it so, in the order of their priorities.
    pub fn replication(&self) -> Vec<ReplicationRule> {
        let rule = |(i, prefix): (usize, String)| ReplicationRule {
            id: rule_id(&prefix, &self.prefix),
            enabled: true,
            prefix: Some(prefix),
            priority: i32::try_from(i).ok().map(|n| n + 1),
            delete_markers: false,
            replica_modifications: true,
            time: Some(RTC_MINUTES),
            metrics: Some(RTC_MINUTES),
        };
        self.replicated().into_iter().enumerate().map(rule).collect()
    }

    /// Lifecycle: what left the live window goes, and thumbnails, old versions of what is written again and again go, half uploads go. Nothing of a recording.
    pub fn lifecycle(&self) -> Vec<LifecycleRule> {
        let rule = |prefix: &str, expire: bool| {
            let prefix = format!("{}{prefix}", self.prefix);
            let id = rule_id(&prefix, &self.prefix);
            let days = Some(DAYS);
            LifecycleRule {
                id,
                enabled: true,
                prefix: Some(prefix),
                expire: days.filter(|_| expire),
                noncurrent: days,
                abort: None,
            }
        };
        let windows = Class::ALL.iter().filter(|c| !c.kept).map(|c| rule(&format!("seg/{}/", c.as_str()), true));
        // The worker deletes them sooner; this is for those of dead ones, and for the latest picture of streams that are long over.
        let thumbnails = rule("thumb/", true);
        let mutable = ["live/", "ckpt/", "rec/"].map(|p| rule(p, false));
        let uploads = LifecycleRule {
            id: rule_id("uploads", &self.prefix),
            enabled: true,
            prefix: Some(self.prefix.clone()),
            expire: None,
            noncurrent: None,
            abort: Some(DAYS),
        };
        windows.chain(mutable).chain([thumbnails, uploads]).collect()
    }

    /// Players on other origins read playlists and segments, and their lengths.
    pub fn cors(&self) -> CorsRule {
        let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let expose = text(&["Content-Length", "Content-Range", "ETag", "Date"]);
        CorsRule { methods: text(&["GET", "HEAD"]), origins: self.origins.clone(), expose }
    }

    /// Every line of the configuration.
    pub fn compare(&self, found: &Found) -> Vec<Finding> {
        let mut lines = self.compare_replication(found);
        match &found.lifecycle {
            Err(why) => lines.push(Finding::unknown("lifecycle", why, "s3:GetLifecycleConfiguration")),
            Ok(rules) => lines.extend(self.compare_lifecycle(rules)),
        }
        lines.push(match &found.cors {
            Err(why) => Finding::unknown("CORS", why, "s3:GetBucketCORS"),
            Ok(rules) => self.compare_cors(rules),
        });
        lines
    }

    /// The lines that a copy in the other region depends on: what a worker looks at when it starts.
    pub fn compare_replication(&self, found: &Found) -> Vec<Finding> {
        let mut lines = Vec::new();
        lines.push(match &found.versioning {
            Err(why) => Finding::unknown("versioning", why, "s3:GetBucketVersioning"),
            Ok(true) => Finding::ok("versioning", "Enabled"),
            Ok(false) if self.replicate == Replicate::None => Finding::note("versioning", "off, and nothing is replicated"),
            Ok(false) => Finding::wrong("versioning", "off: S3 replicates versioned buckets only", APPLY),
        });
        match &found.replication {
            _ if self.replicate == Replicate::None => {
                lines.push(Finding::note("replication", "none wanted (`replicate`): with the region, everything in it is lost"))
            }
            Err(why) => lines.push(Finding::unknown("replication", why, "s3:GetReplicationConfiguration")),
            Ok(rules) => {
                let enabled: Vec<&ReplicationRule> = rules.iter().filter(|r| r.enabled).collect();
                lines.extend(self.replicated().iter().map(|prefix| one_replicated(prefix, &enabled)));
                lines.push(priorities(&enabled));
                lines.push(self.live_stays(&enabled));
            }
        }
        lines
    }

    /// One key is written in one region only; a copied playlist would be a second writer there.
    fn live_stays(&self, rules: &[&ReplicationRule]) -> Finding {
        let line = "live playlists are not replicated";
        let live = format!("{}live/", self.prefix);
        match rules.iter().find(|r| r.prefix.as_ref().is_some_and(|p| overlap(p, &live))) {
            None => Finding::ok(line, "no rule covers live/"),
            Some(rule) => Finding::wrong(
                line,
                format!("rule {:?} copies {live}: 43,200 versions a day for each playlist", rule.id),
                "filter that rule by prefix",
            ),
        }
    }

    fn compare_lifecycle(&self, rules: &[LifecycleRule]) -> Vec<Finding> {
        let enabled: Vec<&LifecycleRule> = rules.iter().filter(|r| r.enabled).collect();
        let mut lines: Vec<Finding> = self.lifecycle().iter().map(|wanted| one_lifecycle(wanted, &enabled)).collect();
        let kept = Class::ALL.iter().filter(|c| c.kept).map(|c| format!("{}seg/{}/", self.prefix, c.as_str()));
        for prefix in kept.chain([format!("{}rec/", self.prefix)]) {
            let line = format!("lifecycle: nothing expires in {prefix}");
            let expires = |r: &&&LifecycleRule| r.expire.is_some() && r.prefix.as_ref().is_none_or(|p| overlap(p, &prefix));
            lines.push(match enabled.iter().find(expires) {
                None => Finding::ok(&line, "recordings stay"),
                Some(rule) => Finding::wrong(
                    &line,
                    format!("rule {:?} deletes recordings", rule.id),
                    "filter that rule by another prefix, unless that is what you want",
                ),
            });
        }
        lines
    }

    fn compare_cors(&self, rules: &[CorsRule]) -> Finding {
        let wanted = self.cors();
        let has = |list: &[String], items: &[String]| {
            items.iter().all(|i| list.iter().any(|l| l == "*" || l.eq_ignore_ascii_case(i)))
        };
        let fits = |r: &&CorsRule| {
            has(&r.methods, &wanted.methods) && has(&r.origins, &wanted.origins) && has(&r.expose, &wanted.expose)
        };
        match rules.iter().find(fits) {
            Some(rule) => Finding::ok("CORS", format!("GET and HEAD from {}", rule.origins.join(" "))),
            None => Finding::wrong(
                "CORS",
                format!("no rule lets pages of {} read", wanted.origins.join(" ")),
                format!("{APPLY}, or let the CDN add the headers"),
            ),
        }
    }
}

/// `weir-` and the prefix: rules of this name are ours to change.
fn rule_id(prefix: &str, own: &str) -> String {
    let plain = prefix.strip_prefix(own).unwrap_or(prefix).trim_end_matches('/').replace('/', "-");
    let own = own.trim_end_matches('/').replace('/', "-");
    if own.is_empty() { format!("weir-{plain}") } else { format!("weir-{own}-{plain}") }
}

/// Some key can have both prefixes.
fn overlap(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn one_replicated(prefix: &str, rules: &[&ReplicationRule]) -> Finding {
    let line = format!("replication of {prefix}");
    let covers = |r: &&&ReplicationRule| r.prefix.as_ref().is_some_and(|p| prefix.starts_with(p.as_str()));
    // Of several rules for a key, S3 follows the one with the highest priority.
    let Some(rule) = rules.iter().filter(covers).max_by_key(|r| r.priority.unwrap_or(0)) else {
        return Finding::wrong(&line, "no enabled rule covers it", APPLY);
    };
    let minutes = |m: Option<i32>| m.map_or("off".to_owned(), |m| format!("{m} min"));
    let mut wrong = Vec::new();
    if rule.time != Some(RTC_MINUTES) {
        wrong.push(format!("replication time control is {}", minutes(rule.time)));
    }
    if rule.metrics != Some(RTC_MINUTES) {
        wrong.push(format!("metrics are {}", minutes(rule.metrics)));
    }
    if !rule.replica_modifications {
        wrong.push("changes of replicas do not come back".into());
    }
    if rule.delete_markers {
        wrong.push("delete markers are copied, so a deletion here is one there".into());
    }
    let id = &rule.id;
    if wrong.is_empty() {
        Finding::ok(&line, format!("rule {id:?}, 15 min with metrics"))
    } else {
        Finding::wrong(&line, format!("rule {id:?}: {}", wrong.join("; ")), APPLY)
    }
}

fn priorities(rules: &[&ReplicationRule]) -> Finding {
    let line = "replication priorities differ";
    let mut all: Vec<i32> = rules.iter().map(|r| r.priority.unwrap_or(0)).collect();
    all.sort_unstable();
    match all.windows(2).find(|p| p[0] == p[1]) {
        None => Finding::ok(line, format!("{} enabled rules", all.len())),
        Some(twice) => Finding::wrong(line, format!("two rules have priority {}", twice[0]), "give each rule its own"),
    }
}

fn one_lifecycle(wanted: &LifecycleRule, rules: &[&LifecycleRule]) -> Finding {
    let prefix = wanted.prefix.as_deref().unwrap_or_default();
    let least = |found: Option<i32>, wanted: Option<i32>| wanted.is_none() || found.is_some_and(|f| f <= wanted.unwrap_or(f));
    let covering: Vec<_> = rules.iter().filter(|r| r.prefix.as_ref().is_some_and(|p| prefix.starts_with(p.as_str()))).collect();
    let any = |part: fn(&LifecycleRule) -> Option<i32>| {
        wanted_part(part(wanted), &covering.iter().filter_map(|r| part(r)).collect::<Vec<_>>(), least)
    };
    let line = match (wanted.expire, wanted.abort) {
        (Some(_), _) => format!("lifecycle: {prefix} expires, old versions too"),
        (_, Some(_)) => "lifecycle: half uploads are dropped".to_owned(),
        _ => format!("lifecycle: old versions in {prefix} go"),
    };
    if any(|r| r.expire) && any(|r| r.noncurrent) && any(|r| r.abort) {
        return Finding::ok(&line, format!("within {DAYS} day"));
    }
    let found = if covering.is_empty() { "no enabled rule covers it" } else { "the rules that cover it do less, or later" };
    Finding::wrong(&line, found, APPLY)
}

fn wanted_part(wanted: Option<i32>, found: &[i32], least: impl Fn(Option<i32>, Option<i32>) -> bool) -> bool {
    least(found.iter().min().copied(), wanted)
}

/// Replication time control has a transfer quota of 1 Gbit/s for each pair of regions unless it was raised; above it the 15 minutes are not promised
/// (Amazon S3 user guide, "replication time control").
pub fn quota(streams: u32, kilobits: u32, replicate: Replicate) -> Finding {
    let line = "replication quota";
    if replicate == Replicate::None {
        return Finding::note(line, "nothing is replicated");
    }
    let megabits = u64::from(streams) * u64::from(kilobits) / 1000;
    let (whole, part) = (megabits / 1000, megabits % 1000 / 100);
    let each = format!("{}.{}", kilobits / 1000, kilobits % 1000 / 100);
    let found =
        format!("{streams} streams x {each} Mbit/s = {whole}.{part} Gbit/s to each destination; the default quota is 1 Gbit/s");
    let fix = if megabits > 1000 {
        format!(
            "ask Service Quotas for {} Gbit/s, or the 15 minutes are not promised (it cannot be read here)",
            megabits.div_ceil(1000)
        )
    } else {
        String::new()
    };
    Finding { line: line.into(), standing: Standing::Note, found, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(prefix: &str) -> Wanted {
        Wanted { prefix: prefix.into(), replicate: Replicate::All, origins: vec!["*".into()] }
    }

    fn right(w: &Wanted) -> Found {
        Found { versioning: Ok(true), replication: Ok(w.replication()), lifecycle: Ok(w.lifecycle()), cors: Ok(vec![w.cors()]) }
    }

    fn wrong(w: &Wanted, found: &Found) -> Vec<String> {
        w.compare(found).into_iter().filter(|f| f.standing == Standing::Wrong).map(|f| f.line).collect()
    }

    #[test]
    fn what_is_wanted_is_found_right() {
        for prefix in ["", "tv/live-1/"] {
            let w = wanted(prefix);
            assert_eq!(wrong(&w, &right(&w)), Vec::<String>::new());
            assert!(w.compare(&right(&w)).iter().all(|f| f.standing == Standing::Ok));
        }
        assert_eq!(wanted("tv/").replication()[0].id, "weir-tv-seg-rk");
    }

    /// Each change alone is found, on the line that it belongs to.
    #[test]
    fn each_line_is_found_when_it_is_wrong() {
        type Change = (&'static str, fn(&mut Found));
        let changes: [Change; 13] = [
            ("versioning", |f| f.versioning = Ok(false)),
            ("replication of ckpt/", |f| f.replication.as_mut().unwrap()[2].enabled = false),
            ("replication of seg/rk/", |f| f.replication.as_mut().unwrap()[0].time = None),
            ("replication of seg/rw/", |f| f.replication.as_mut().unwrap()[1].metrics = Some(20)),
            ("replication of rec/", |f| f.replication.as_mut().unwrap()[3].delete_markers = true),
            ("replication of rec/", |f| f.replication.as_mut().unwrap()[3].replica_modifications = false),
            ("replication priorities differ", |f| f.replication.as_mut().unwrap()[0].priority = Some(4)),
            ("lifecycle: seg/rw/ expires, old versions too", |f| f.lifecycle.as_mut().unwrap()[0].expire = Some(30)),
            ("lifecycle: old versions in live/ go", |f| f.lifecycle.as_mut().unwrap()[2].enabled = false),
            ("lifecycle: thumb/ expires, old versions too", |f| f.lifecycle.as_mut().unwrap()[5].expire = None),
            ("lifecycle: half uploads are dropped", |f| f.lifecycle.as_mut().unwrap()[6].abort = None),
            ("lifecycle: nothing expires in rec/", |f| f.lifecycle.as_mut().unwrap()[4].expire = Some(30)),
            ("CORS", |f| f.cors.as_mut().unwrap()[0].methods = vec!["GET".into()]),
        ];
        let w = wanted("");
        for (line, change) in changes {
            let mut found = right(&w);
            change(&mut found);
            assert_eq!(wrong(&w, &found), [line]);
        }
    }

    #[test]
    fn rules_of_another_store_in_the_bucket_are_not_ours() {
        let (whole, tv) = (wanted(""), wanted("tv/"));
        for rule in tv.lifecycle() {
            assert!(tv.owns(&rule.id, rule.prefix.as_deref()), "{rule:?}");
            assert!(!whole.owns(&rule.id, rule.prefix.as_deref()), "{rule:?}");
        }
        assert!(whole.lifecycle().iter().all(|r| !tv.owns(&r.id, r.prefix.as_deref())));
        assert!(!whole.owns("accounts", Some("live/")) && !whole.owns("weir-x", None));
    }

    #[test]
    fn a_rule_for_everything_copies_the_live_playlists_too() {
        let w = wanted("");
        let all = ReplicationRule { prefix: Some(String::new()), ..w.replication()[0].clone() };
        let found = Found { replication: Ok(vec![all.clone()]), ..right(&w) };
        assert_eq!(wrong(&w, &found), ["live playlists are not replicated"]);
        // One by tags sees none of our objects.
        let tags = Found { replication: Ok(vec![ReplicationRule { prefix: None, ..all }]), ..right(&w) };
        assert_eq!(wrong(&w, &tags).len(), 4);
        let expire = LifecycleRule { prefix: None, expire: Some(1), ..w.lifecycle()[0].clone() };
        let found = Found { lifecycle: Ok([w.lifecycle(), vec![expire]].concat()), ..right(&w) };
        assert_eq!(wrong(&w, &found).len(), 3, "a rule by tags or sizes may delete recordings");
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_says_which_permission_is_missing() {
        let denied = || "AccessDenied".to_owned();
        let found =
            Found { versioning: Err(denied()), replication: Err(denied()), lifecycle: Err(denied()), cors: Err(denied()) };
        let lines = wanted("").compare(&found);
        assert!(lines.iter().all(|f| f.standing == Standing::Unknown && f.fix.contains("s3:Get")), "{lines:?}");
    }

    #[test]
    fn without_replication_nothing_of_it_is_wrong() {
        let w = Wanted { replicate: Replicate::None, ..wanted("") };
        let found = Found { versioning: Ok(false), replication: Ok(Vec::new()), ..right(&w) };
        assert_eq!(wrong(&w, &found), Vec::<String>::new());
    }

    #[test]
    fn the_quota_is_this_fleets_arithmetic() {
        let f = quota(500, 11_400, Replicate::All);
        assert!(f.found.contains("500 streams x 11.4 Mbit/s = 5.7 Gbit/s") && f.fix.contains("6 Gbit/s"), "{f:?}");
        assert_eq!(quota(20, 11_400, Replicate::All).fix, "");
    }
}
