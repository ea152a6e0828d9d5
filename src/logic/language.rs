//! Languages as ISO 639-2 and RFC 5646 write them. Knows codes, not names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A language by its terminological code of ISO 639-2, as `mdhd` wants it (ISO/IEC 14496-12, 8.4.2.3). Codes that name none of the list are kept if
/// they are three letters: the list grows, and `qaa` to `qtz` are local.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Language([u8; 3]);

/// Text that is no language code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no language: two or three letters are wanted, as \"en\" or \"eng\"")]
pub struct BadLanguage {
    given: String,
}

impl Language {
    /// By three letters as a stream has them, of either list of ISO 639-2 and in either case. `None` for other bytes, and for `und`, which says that the
    /// language is not known.
    pub fn from_code(code: [u8; 3]) -> Option<Self> {
        let code = code.map(|b| b.to_ascii_lowercase());
        if !code.iter().all(u8::is_ascii_lowercase) || code == *b"und" {
            return None;
        }
        let terminological =
            BIBLIOGRAPHIC.iter().find_map(|pair| pair.as_bytes().split_first_chunk().filter(|(b, _)| **b == code));
        Some(Self(terminological.and_then(|(_, t)| t.try_into().ok()).unwrap_or(code)))
    }

    /// The three letters.
    pub fn code(&self) -> &str {
        // Three lower-case letters since `from_code`.
        std::str::from_utf8(&self.0).unwrap_or("und")
    }

    /// The tag of RFC 5646, which takes the two letters of ISO 639-1 where there are any (2.2.1): `en`, and `haw`.
    pub fn tag(&self) -> &str {
        SHORT.iter().find_map(|pair| pair.strip_prefix(self.code())).unwrap_or(self.code())
    }
}

impl FromStr for Language {
    type Err = BadLanguage;

    /// Two or three letters.
    fn from_str(text: &str) -> Result<Self, BadLanguage> {
        let lower = text.to_ascii_lowercase();
        let code = match lower.len() {
            2 => SHORT.iter().find_map(|pair| pair.strip_suffix(&lower)),
            _ => Some(lower.as_str()),
        };
        let known = code.and_then(|c| c.as_bytes().try_into().ok()).and_then(Self::from_code);
        // Cut the echo: it may come from a file of anything.
        known.ok_or_else(|| BadLanguage { given: text.chars().take(16).collect() })
    }
}

impl TryFrom<String> for Language {
    type Error = BadLanguage;
    fn try_from(text: String) -> Result<Self, BadLanguage> {
        text.parse()
    }
}

impl From<Language> for String {
    fn from(language: Language) -> String {
        language.code().to_owned()
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Languages that ISO 639-1 has too: the three letters, then the two (the list of the Library of Congress, ISO 639-2's registration authority).
const SHORT: [&str; 184] = [
    "aaraa", "abkab", "afraf", "akaak", "amham", "araar", "argan", "asmas", "avaav", "aveae", "aymay", "azeaz", "bakba",
    "bambm", "belbe", "benbn", "bihbh", "bisbi", "bodbo", "bosbs", "brebr", "bulbg", "catca", "cescs", "chach", "chece",
    "chucu", "chvcv", "corkw", "cosco", "crecr", "cymcy", "danda", "deude", "divdv", "dzodz", "ellel", "engen", "epoeo",
    "estet", "euseu", "eweee", "faofo", "fasfa", "fijfj", "finfi", "frafr", "fryfy", "fulff", "glagd", "glega", "glggl",
    "glvgv", "grngn", "gujgu", "hatht", "hauha", "hebhe", "herhz", "hinhi", "hmoho", "hrvhr", "hunhu", "hyehy", "iboig",
    "idoio", "iiiii", "ikuiu", "ileie", "inaia", "indid", "ipkik", "islis", "itait", "javjv", "jpnja", "kalkl", "kankn",
    "kasks", "katka", "kaukr", "kazkk", "khmkm", "kikki", "kinrw", "kirky", "komkv", "konkg", "korko", "kuakj", "kurku",
    "laolo", "latla", "lavlv", "limli", "linln", "litlt", "ltzlb", "lublu", "luglg", "mahmh", "malml", "marmr", "mkdmk",
    "mlgmg", "mltmt", "monmn", "mrimi", "msams", "myamy", "nauna", "navnv", "nblnr", "ndend", "ndong", "nepne", "nldnl",
    "nnonn", "nobnb", "norno", "nyany", "ocioc", "ojioj", "orior", "ormom", "ossos", "panpa", "plipi", "polpl", "porpt",
    "pusps", "quequ", "rohrm", "ronro", "runrn", "rusru", "sagsg", "sansa", "sinsi", "slksk", "slvsl", "smese", "smosm",
    "snasn", "sndsd", "somso", "sotst", "spaes", "sqisq", "srdsc", "srpsr", "sswss", "sunsu", "swasw", "swesv", "tahty",
    "tamta", "tattt", "telte", "tgktg", "tgltl", "thath", "tirti", "tonto", "tsntn", "tsots", "tuktk", "turtr", "twitw",
    "uigug", "ukruk", "urdur", "uzbuz", "venve", "vievi", "volvo", "wlnwa", "wolwo", "xhoxh", "yidyi", "yoryo", "zhaza",
    "zhozh", "zulzu",
];

/// Codes that libraries use: three letters of them, then the terminological ones.
const BIBLIOGRAPHIC: [&str; 20] = [
    "albsqi", "armhye", "baqeus", "burmya", "chizho", "czeces", "dutnld", "frefra", "geokat", "gerdeu", "greell", "iceisl",
    "macmkd", "maomri", "maymsa", "perfas", "rumron", "sloslk", "tibbod", "welcym",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn language(text: &str) -> Language {
        text.parse().unwrap()
    }

    #[test]
    fn all_ways_to_write_a_language_are_one() {
        for text in ["de", "deu", "ger", "GER", "De"] {
            assert_eq!((language(text).code(), language(text).tag()), ("deu", "de"), "{text}");
        }
        assert_eq!((language("haw").code(), language("haw").tag()), ("haw", "haw"));
        assert_eq!(language("qaa").tag(), "qaa");
        assert_eq!(Language::from_code(*b"ENG"), Some(language("en")));
    }

    #[test]
    fn what_names_no_language_is_none() {
        for text in ["", "e", "xx", "und", "UND", "english", "e1g", "d\u{e9}", "\u{20ac}"] {
            assert!(text.parse::<Language>().is_err(), "{text}");
        }
        for code in [*b"und", *b"   ", [0; 3], *b"e\"g", [0xff; 3]] {
            assert_eq!(Language::from_code(code), None);
        }
        let long = "x".repeat(1000).parse::<Language>().unwrap_err().to_string();
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn the_lists_are_whole_and_in_order() {
        let sorted = |list: &[&str], length| list.windows(2).all(|w| w[0] < w[1]) && list.iter().all(|p| p.len() == length);
        assert!(sorted(&SHORT, 5) && sorted(&BIBLIOGRAPHIC, 6));
        let mut two: Vec<&str> = SHORT.iter().map(|pair| &pair[3..]).collect();
        two.sort_unstable();
        two.dedup();
        assert_eq!(two.len(), SHORT.len(), "no two letters twice");
        assert!(
            BIBLIOGRAPHIC.iter().all(|pair| SHORT.iter().any(|s| s[..3] == pair[3..])),
            "what libraries write otherwise has two letters"
        );
    }

    #[test]
    fn it_is_written_as_its_code() {
        assert_eq!(serde_json::to_string(&language("fre")).unwrap(), "\"fra\"");
        assert_eq!(serde_json::from_str::<Language>("\"fr\"").unwrap(), language("fra"));
        assert!(serde_json::from_str::<Language>("\"f\"").is_err());
    }
}
