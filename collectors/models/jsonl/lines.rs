//! Lines of a file.

use super::super::feed::{Line, LineReader, Out};
use super::super::json::Json;
use super::super::receive::Left;
use super::entry::{Entry, Known, NO_JSON};

/// Reads the lines of one file.
#[derive(Debug, Default)]
pub(super) struct Lines {
    wrong: Left,
    known: Known,
}

impl LineReader for Lines {
    fn line(&mut self, line: Line<'_>, out: &mut dyn Out) {
        if line.is_cut {
            self.wrong.count("lines that were too long", 1);
            return;
        }
        if line.text.trim_ascii().is_empty() {
            return;
        }
        let mut json = Json::new(line.text);
        let Some(entry) = Entry::read(&mut json).ok().filter(|_| json.is_at_end()) else {
            self.wrong.count(NO_JSON, 1);
            return;
        };
        match entry.judged() {
            Ok((request, facts)) => {
                if let Some(facts) = facts.filter(|facts| self.known.is_new(facts)) {
                    out.model(facts);
                }
                out.request(request);
            }
            Err(why) => self.wrong.count(why, 1),
        }
    }

    fn trouble(&self) -> Option<String> {
        (self.wrong.total() > 0).then(|| format!("left out {}", self.wrong.words()))
    }
}
