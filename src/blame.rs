//! Whose fault a failure is: it decides who is told and which alarm rings.

/// The party that has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The streamer, his encoder or his network.
    Publisher,
    /// This worker: full, shutting down, too slow, or wrong.
    Worker,
    /// The object store or whoever else takes what we make.
    Destination,
    /// Who runs the worker: a configuration file, a missing right.
    Operator,
}

impl Blame {
    /// Lower-case word for logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Blame::Publisher => "publisher",
            Blame::Worker => "worker",
            Blame::Destination => "destination",
            Blame::Operator => "operator",
        }
    }
}
