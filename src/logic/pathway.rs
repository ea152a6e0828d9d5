//! Ways from a player to the objects: CDNs and regions, and the server that steers between them (RFC 8216bis, 4.4.6.6 and 7; ETSI TS 103 998 for
//! DASH). Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::model::{Keys, ObjectKey, Region, TrackName};

/// Each pathway repeats every variant in the multivariant playlist: eight are two CDNs in each of three regions, and room.
const MAX_PATHWAYS: usize = 8;

/// An address is written into every playlist; longer ones are a mistake.
const MAX_URL: usize = 512;

/// Why pathways were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPathway {
    /// An address.
    #[error(
        "{0:?} must be an absolute http or https address of at most {MAX_URL} printable characters, without quotes, spaces, ?, #, < or >"
    )]
    Url(String),
    /// A name.
    #[error("pathway id {0:?} must be 1 to 32 characters of A-Z a-z 0-9 . _ -")]
    Id(String),
    /// Two with one name.
    #[error("two pathways are called {0:?}")]
    Twice(String),
    /// Too many.
    #[error("{0} pathways are given, at most {MAX_PATHWAYS} are taken")]
    Many(usize),
    /// Nothing to steer between.
    #[error("steering_url is set and there is no [[pathway]]")]
    Nowhere,
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadPathway;
            fn try_from(text: String) -> Result<Self, BadPathway> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type!(
    /// PATHWAY-ID and `@serviceLocation`.
    PathwayId
);
text_type!(
    /// An absolute address.
    Url
);
text_type!(
    /// The address of a folder; ends with a slash.
    BaseUrl
);

impl FromStr for PathwayId {
    type Err = BadPathway;
    fn from_str(s: &str) -> Result<Self, BadPathway> {
        let fine = (1..=32).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fine && !s.starts_with('.') { Ok(Self(s.to_owned())) } else { Err(BadPathway::Id(s.chars().take(40).collect())) }
    }
}

/// Absolute, and free of what a playlist's quoted string or an XML text cannot hold.
fn is_url(s: &str, extra: &[u8]) -> bool {
    let rest = s.strip_prefix("https://").or_else(|| s.strip_prefix("http://"));
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'<>\\^`{|}#".contains(&b) && !extra.contains(&b);
    s.len() <= MAX_URL && rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && r.bytes().all(plain))
}

impl FromStr for Url {
    type Err = BadPathway;
    fn from_str(s: &str) -> Result<Self, BadPathway> {
        if is_url(s, b"") { Ok(Self(s.to_owned())) } else { Err(BadPathway::Url(s.chars().take(80).collect())) }
    }
}

impl FromStr for BaseUrl {
    type Err = BadPathway;
    fn from_str(s: &str) -> Result<Self, BadPathway> {
        if !is_url(s, b"?") {
            return Err(BadPathway::Url(s.chars().take(80).collect()));
        }
        Ok(Self(if s.ends_with('/') { s.to_owned() } else { format!("{s}/") }))
    }
}

/// One way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pathway {
    /// Its name for the steering server.
    pub id: PathwayId,
    /// The folder that holds `live/` and, unless `segment_base_url` says otherwise, `seg/`.
    pub base_url: BaseUrl,
    /// Another folder that holds `seg/`: this pathway gets media playlists of its own (rules.md 15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment_base_url: Option<BaseUrl>,
    /// The region whose objects it serves. Default: the worker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
}

/// All of them, in the order in which players try them without a steering server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pathways {
    /// None: manifests have relative addresses only.
    pub list: Vec<Pathway>,
    /// The steering server.
    pub steering_url: Option<Url>,
}

impl Pathways {
    /// Checks them together.
    ///
    /// # Errors
    /// [`BadPathway`].
    pub fn new(list: Vec<Pathway>, steering_url: Option<Url>) -> Result<Self, BadPathway> {
        if list.len() > MAX_PATHWAYS {
            return Err(BadPathway::Many(list.len()));
        }
        for (i, pathway) in list.iter().enumerate() {
            if list.iter().take(i).any(|p| p.id == pathway.id) {
                return Err(BadPathway::Twice(pathway.id.to_string()));
            }
        }
        if steering_url.is_some() && list.is_empty() {
            return Err(BadPathway::Nowhere);
        }
        Ok(Self { list, steering_url })
    }

    /// Those of the own region that need media playlists of their own.
    pub fn own_playlists<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = &'a Pathway> {
        self.list.iter().filter(move |p| p.is_of(region) && p.segment_base_url.is_some())
    }

    /// Other regions that they lead to, each once.
    pub fn other_regions(&self, region: &Region) -> Vec<Region> {
        let mut others: Vec<Region> = Vec::new();
        for other in self.list.iter().filter_map(|p| p.region.as_ref()).filter(|r| *r != region) {
            if !others.contains(other) {
                others.push(other.clone());
            }
        }
        others
    }
}

impl Pathway {
    /// It serves this region's objects, for a worker of the region.
    pub fn is_of(&self, region: &Region) -> bool {
        self.region.as_ref().is_none_or(|own| own == region)
    }

    /// The address of a media playlist: of the same file name in every region.
    pub fn playlist(&self, keys: &Keys, track: &TrackName) -> String {
        let key = keys.in_region(self.region.as_ref()).playlist_of(track, self.segment_base_url.as_ref().map(|_| &self.id));
        format!("{}{key}", self.base_url)
    }

    /// The address of an object of the own region below the folder that holds `seg/`.
    pub fn object(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.segment_base_url.as_ref().unwrap_or(&self.base_url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pathway(id: &str, base: &str) -> Pathway {
        Pathway { id: id.parse().unwrap(), base_url: base.parse().unwrap(), segment_base_url: None, region: None }
    }

    #[test]
    fn addresses_are_absolute_and_harmless_in_a_playlist() {
        assert_eq!("https://cdn.example/x".parse::<BaseUrl>().unwrap().as_str(), "https://cdn.example/x/");
        assert!("https://steer.example/a?b=1".parse::<Url>().is_ok());
        for bad in [
            "cdn.example",
            "//cdn.example/",
            "ftp://x/",
            "https://",
            "https:///x",
            "https://a/\"x",
            "https://a b/",
            "https://a/#x",
        ] {
            assert!(bad.parse::<Url>().is_err() && bad.parse::<BaseUrl>().is_err(), "{bad}");
        }
        assert!("https://a/?x".parse::<BaseUrl>().is_err());
        assert!(["", ".", "a b", "a\"b"].iter().all(|id| id.parse::<PathwayId>().is_err()));
    }

    #[test]
    fn pathways_are_checked_together() {
        let a = pathway("a", "https://a.example");
        let twice = std::iter::repeat_n(a.clone(), 2).collect();
        assert_eq!(Pathways::new(twice, None), Err(BadPathway::Twice("a".into())));
        assert_eq!(Pathways::new(Vec::new(), Some("https://s.example/".parse().unwrap())), Err(BadPathway::Nowhere));
        let b = Pathway {
            region: Some("us".parse().unwrap()),
            segment_base_url: Some(a.base_url.clone()),
            ..pathway("b", "https://b.example")
        };
        let all = Pathways::new(vec![a, b], None).unwrap();
        let (eu, us): (Region, Region) = ("eu".parse().unwrap(), "us".parse().unwrap());
        assert_eq!(all.other_regions(&eu), std::slice::from_ref(&us));
        assert!(all.other_regions(&us).is_empty() && all.own_playlists(&eu).next().is_none());
        assert_eq!(all.own_playlists(&us).count(), 1);
        let keys = Keys::new(&eu, &"demo".parse().unwrap(), &"s".parse().unwrap(), 1, Default::default());
        let src: TrackName = "src".parse().unwrap();
        assert_eq!(all.list[0].playlist(&keys, &src), "https://a.example/live/eu/demo/src.m3u8");
        assert_eq!(all.list[1].playlist(&keys, &src), "https://b.example/live/us/demo/src.b.m3u8");
    }
}
