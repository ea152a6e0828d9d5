//! A writer for small XML documents: elements, attributes, escaping, indentation. Knows no DASH.

/// Writes one document. Every element that is opened must be closed by the same caller.
pub(super) struct Writer {
    out: String,
    open: Vec<&'static str>,
}

impl Writer {
    /// A document with `comment` between the declaration and the root; the caller keeps `--` out of it.
    pub(super) fn new(comment: &str) -> Self {
        let out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- {comment} -->\n");
        Self { out, open: Vec::new() }
    }

    /// An element with children.
    pub(super) fn open(&mut self, name: &'static str, attributes: &Attributes) {
        self.tag(name, attributes, ">\n");
        self.open.push(name);
    }

    /// An element without children.
    pub(super) fn empty(&mut self, name: &'static str, attributes: &Attributes) {
        self.tag(name, attributes, "/>\n");
    }

    /// An element that holds a text.
    pub(super) fn text(&mut self, name: &'static str, attributes: &Attributes, text: &str) {
        let mut end = ">".to_owned();
        escape(text, &mut end);
        end.push_str(&format!("</{name}>\n"));
        self.tag(name, attributes, &end);
    }

    /// The end of the element that was opened last.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.indent();
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push_str(">\n");
        }
    }

    /// The text.
    pub(super) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }

    fn tag(&mut self, name: &str, attributes: &Attributes, end: &str) {
        self.indent();
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(&attributes.0);
        self.out.push_str(end);
    }

    fn indent(&mut self) {
        self.out.push_str(&"  ".repeat(self.open.len()));
    }
}

/// The attributes of one element, in the order in which they were added.
#[derive(Default)]
pub(super) struct Attributes(String);

impl Attributes {
    /// No attributes.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.push(' ');
        self.0.push_str(name);
        self.0.push_str("=\"");
        escape(&value.to_string(), &mut self.0);
        self.0.push('"');
        self
    }

    /// Adds one if there is a value.
    pub(super) fn maybe(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }
}

/// XML 1.0, 2.4 and 3.3.3: a value keeps its meaning whatever it holds. Characters that XML can not hold at all become U+FFFD.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_nest_and_values_are_escaped() {
        let mut xml = Writer::new("mark");
        xml.open("A", &Attributes::new().with("x", 1).maybe("y", None::<u8>));
        xml.empty("B", &Attributes::new().with("url", "http://h/t?a=1&b=\"<>\"\n\u{1}"));
        xml.close();
        assert_eq!(
            xml.finish(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- mark -->\n<A x=\"1\">\n  \
             <B url=\"http://h/t?a=1&amp;b=&quot;&lt;&gt;&quot;&#10;\u{fffd}\"/>\n</A>\n"
        );
    }
}
