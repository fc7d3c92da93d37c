//! What is said: data on standard output, words on standard error, each line of which begins with `* `.

use std::io::{self, Write as _};

use serde_json::{Value, json};

/// The version of the JSON that is written: grows when a field is taken away or changes its meaning.
const VERSION: u32 = 1;

/// Where lines go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) json: bool,
}

impl Output {
    /// A line of data, and the same as an object.
    pub(crate) fn data(self, text: &str, value: Value) {
        self.data_line(text);
        self.only_json(value);
    }

    /// A line of data where they are not objects.
    pub(crate) fn data_line(self, text: &str) {
        if !self.json {
            // Whoever does not read any more does not want it.
            let _ = writeln!(io::stdout().lock(), "{text}");
        }
    }

    /// An object where data are objects.
    pub(crate) fn only_json(self, value: Value) {
        if self.json {
            self.object(value);
        }
    }

    /// Something that happened: a line for people, or an object where data are objects.
    pub(crate) fn event(self, text: &str, value: Value) {
        if self.json { self.object(value) } else { self.note(text) }
    }

    /// A line for people.
    pub(crate) fn note(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "* {text}");
    }

    fn object(self, mut value: Value) {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("v".to_owned(), json!(VERSION));
        }
        let _ = writeln!(io::stdout().lock(), "{value}");
    }
}
