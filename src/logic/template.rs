//! Pipeline templates: text in gst-launch syntax with `{name}` placeholders and a header that says what it needs. Decides nothing.
//!
//! Only typed [`Value`]s go into a template, so no text from outside the program ever reaches GStreamer's parser.

use std::fmt;

/// One file of `pipelines/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// File name, for errors.
    pub file: &'static str,
    /// The whole file.
    pub text: &'static str,
}

/// The name of an element inside one pipeline: a fixed word and a number, so that it is always well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name(pub &'static str, pub usize);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0, self.1)
    }
}

/// What may stand for a placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number in the unit that the template's header names.
    Number(u64),
    /// An element of this pipeline.
    Name(Name),
    /// One of a closed set of words that are written in this program.
    Word(&'static str),
    /// `true` or `false`.
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Name(n) => n.fmt(f),
            Self::Word(w) => f.write_str(w),
            Self::Flag(b) => b.fmt(f),
        }
    }
}

/// A template and its values do not belong together: a mistake in this program, found by its tests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text has a placeholder that nobody filled.
    #[error("{file}: no value for {{{placeholder}}}")]
    Unknown {
        /// Template file.
        file: &'static str,
        /// The placeholder's name.
        placeholder: String,
    },
    /// A value was given that the text does not use.
    #[error("{file}: {{{field}}} does not occur")]
    Unused {
        /// Template file.
        file: &'static str,
        /// The value's name.
        field: &'static str,
    },
    /// The text is not in the small grammar of [`Template::elements`].
    #[error("{file}: {what}")]
    Syntax {
        /// Template file.
        file: &'static str,
        /// What was found.
        what: String,
    },
}

/// One element as a template writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Factory name.
    pub factory: String,
    /// Properties that are set, in order.
    pub properties: Vec<String>,
}

/// A `# needs:` line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Factory name.
    pub factory: &'static str,
    /// Oldest GStreamer release whose element has all that the template uses: `1.22`.
    pub version: &'static str,
    /// The Debian package that brings it.
    pub package: &'static str,
}

/// Splits at white space, but not inside double quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        quoted ^= c == '"';
        if c.is_whitespace() && !quoted {
            words.push(String::new());
        } else if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Template {
    /// The text without its header, on one line.
    fn body(&self) -> String {
        let lines = self.text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
        lines.collect::<Vec<_>>().join(" ")
    }

    /// What follows `# key:` in the header, in order.
    fn header(&self, key: &'static str) -> impl Iterator<Item = &'static str> {
        self.text
            .lines()
            .filter_map(move |l| l.strip_prefix('#')?.trim_start().strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    }

    /// What the template is part of: `software`, `nvidia`, `picture`.
    pub fn role(&self) -> &'static str {
        self.header("role").next().unwrap_or("")
    }

    /// The elements that the header asks for.
    pub fn needs(&self) -> Vec<Need> {
        let need = |line: &'static str| {
            let mut words = line.split_whitespace();
            Some(Need { factory: words.next()?, version: words.next()?, package: words.next()? })
        };
        self.header("needs").filter_map(need).collect()
    }

    /// The placeholders that the header explains.
    pub fn fields(&self) -> Vec<&'static str> {
        self.header("field").filter_map(|l| Some(l.split_once(',')?.0)).collect()
    }

    /// Fills every placeholder.
    ///
    /// # Errors
    /// [`TemplateError::Unknown`] and [`TemplateError::Unused`] when text and values do not match exactly, [`TemplateError::Syntax`] for a brace
    /// that is no placeholder.
    pub fn fill(&self, values: &[(&'static str, Value)]) -> Result<String, TemplateError> {
        let body = self.body();
        let mut used = vec![false; values.len()];
        let mut out = String::with_capacity(body.len() + 64);
        let mut rest = body.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, tail)) = after.split_once('}').filter(|(name, _)| is_name(name)) else {
                return Err(TemplateError::Syntax { file: self.file, what: "a brace that is no placeholder".into() });
            };
            let Some(at) = values.iter().position(|(field, _)| *field == name) else {
                return Err(TemplateError::Unknown { file: self.file, placeholder: name.into() });
            };
            used[at] = true;
            out.push_str(before);
            out.push_str(&values[at].1.to_string());
            rest = tail;
        }
        out.push_str(rest);
        match used.iter().position(|u| !u) {
            Some(at) => Err(TemplateError::Unused { file: self.file, field: values[at].0 }),
            None => Ok(out),
        }
    }

    /// The elements and their properties. The grammar: stages between `!`; a stage is an element with `property=value` words, caps, or a
    /// reference `name.`; a stage may end in a reference that begins the next chain.
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] with the part that is none of these.
    pub fn elements(&self) -> Result<Vec<Element>, TemplateError> {
        let syntax =
            |what: &str| TemplateError::Syntax { file: self.file, what: format!("{what:?} is no element, caps or reference") };
        // A placeholder is as good as a name here.
        let body = self.body().replace(['{', '}'], "");
        if body.matches('"').count() % 2 == 1 {
            return Err(syntax("\""));
        }
        let mut elements: Vec<Element> = Vec::new();
        let mut at_start = true;
        for word in words(&body) {
            let reference = word.strip_suffix('.').is_some_and(is_name);
            match word.split_once('=') {
                _ if word == "!" => at_start = true,
                _ if reference => at_start = true,
                // caps: media/type,field=value
                _ if at_start && word.split_once('/').is_some_and(|(media, _)| is_name(media)) => at_start = false,
                None if at_start && is_name(&word) => {
                    elements.push(Element { factory: word, properties: Vec::new() });
                    at_start = false;
                }
                Some((property, value)) if !at_start && is_name(property) && !value.is_empty() => match elements.last_mut() {
                    Some(element) => element.properties.push(property.into()),
                    None => return Err(syntax(&word)),
                },
                _ => return Err(syntax(&word)),
            }
        }
        Ok(elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Template = Template {
        file: "t.gst",
        text: "# purpose: a test\n# role: software\n# needs: queue 1.22 core\n# field: from, a tee\n{from}. ! queue max-size-buffers={n}\n! video/x-raw,width={n} ! fakesink sync=false a. ! fakesink\n",
    };

    #[test]
    fn placeholders_are_filled_wherever_they_stand() {
        let filled = T.fill(&[("from", Value::Name(Name("n", 2))), ("n", Value::Number(4))]).unwrap();
        assert_eq!(filled, "n2. ! queue max-size-buffers=4 ! video/x-raw,width=4 ! fakesink sync=false a. ! fakesink");
    }

    #[test]
    fn unknown_and_unused_placeholders_are_refused() {
        let from = ("from", Value::Name(Name("n", 2)));
        assert!(matches!(T.fill(&[from]), Err(TemplateError::Unknown { placeholder, .. }) if placeholder == "n"));
        let all = [from, ("n", Value::Number(1)), ("x", Value::Flag(true))];
        assert!(matches!(T.fill(&all), Err(TemplateError::Unused { field: "x", .. })));
        let open = Template { file: "t.gst", text: "queue a={" };
        assert!(matches!(open.fill(&[]), Err(TemplateError::Syntax { .. })));
    }

    #[test]
    fn elements_and_properties_are_read_from_the_text() {
        let elements = T.elements().unwrap();
        let names: Vec<_> = elements.iter().map(|e| e.factory.as_str()).collect();
        assert_eq!(names, ["queue", "fakesink", "fakesink"]);
        assert_eq!(elements[0].properties, ["max-size-buffers"]);
        for bad in ["queue ! ! =x", "que:ue", "queue a=", "a=b", "queue \"x"] {
            assert!(Template { file: "t.gst", text: bad }.elements().is_err(), "{bad}");
        }
    }
}
