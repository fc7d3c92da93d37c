//! What the text of the files must not hold, and how long it may be.

use xshell::Shell;

use crate::report::{Report, Row, Verdict};

/// Lines of code, tests not counted, above which a file is pointed at, and above which it is an error.
const LONG: usize = 600;
const TOO_LONG: usize = 1000;

/// Words that belong to somebody's machine or tracker, in halves: this file is searched too.
const WORDS: [(&str, &str); 5] =
    [("/wo", "rk/"), ("/ro", "ot/"), ("arti", "factory"), ("FACTS", ".md"), ("features", ".csv")];

/// One row for the words nobody else can make sense of.
pub(super) fn check_words(report: &mut Report, sh: &Shell, files: &[String]) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for file in files {
        // What is not UTF-8 is not text.
        let Ok(text) = String::from_utf8(sh.read_binary_file(file)?) else {
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            if let Some(word) = foreign_word(line) {
                found.push(format!("{file}:{}: `{word}`", number + 1));
            }
        }
    }
    report.push(Row::check("words of one machine or tracker", &found, format!("{} files", files.len())))
}

/// The first word in `line` that means something in one place only.
fn foreign_word(line: &str) -> Option<String> {
    let lower = line.to_lowercase();
    let known = WORDS.iter().map(|(a, b)| format!("{a}{b}")).find(|word| lower.contains(&word.to_lowercase()));
    known.or_else(|| {
        let (_, rest) = lower.split_once(concat!("issue", " #"))?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!digits.is_empty()).then(|| format!("issue number {digits}"))
    })
}

/// A row for each file that is long, and one for all others.
pub(super) fn check_lengths(report: &mut Report, sh: &Shell, files: &[String]) -> anyhow::Result<()> {
    let mut short = 0;
    for file in files.iter().filter(|file| is_code(file)) {
        let lines = code_lines(&sh.read_file(file)?);
        if lines <= LONG {
            short += 1;
            continue;
        }
        let mut row = Row::figure(format!("length of {file}"), lines as f64, "lines", Some(LONG as f64))
            .noting("is it still one idea?");
        if lines > TOO_LONG {
            row.verdict = Verdict::Failed;
            row.note = format!("over {TOO_LONG}: it must be split");
        }
        report.push(row)?;
    }
    report.push(Row::passed("length of the other files", format!("{short} files of at most {LONG} lines")))
}

/// Whether the length of this file counts: code, not tests.
fn is_code(file: &str) -> bool {
    let code = file.ends_with(".rs") || file.ends_with(".py");
    code && !file.split('/').any(|part| ["tests", "tests.rs", "benches"].contains(&part))
}

/// Lines up to the module of the unit tests.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_place_are_found() {
        for (a, b) in WORDS {
            assert!(foreign_word(&format!("see {a}{b} for more")).is_some(), "{a}{b}");
        }
        assert_eq!(foreign_word(&format!("closes ISSUE {}12.", '#')).as_deref(), Some("issue number 12"));
        assert_eq!(foreign_word("the issue # is not a number; homework/todo"), None);
    }

    #[test]
    fn tests_do_not_count_as_length() {
        assert_eq!(code_lines("a\nb\n#[cfg(test)]\nmod tests {\n}\n"), 2);
        assert_eq!(code_lines("a\n#[cfg(test)]\nuse b;\n"), 3);
        assert!(is_code("peer/src/lib.rs") && !is_code("peer/tests/it/main.rs") && !is_code("peer/src/v12/tests.rs"));
    }
}
