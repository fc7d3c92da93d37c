//! What others write, made safe to print: no control characters, nothing that turns text around or hides it.

/// Characters of a nick that are shown.
const NICK: usize = 24;
/// Characters of a message that are shown.
const TEXT: usize = 4000;

/// A nick as it is shown: one word on one line, and never empty.
pub(crate) fn nick(raw: &str) -> String {
    let clean = clean(raw, NICK);
    if clean.is_empty() { "?".to_owned() } else { clean }
}

/// A message as it is shown: on one line.
pub(crate) fn text(raw: &str) -> String {
    clean(raw, TEXT)
}

fn clean(raw: &str, limit: usize) -> String {
    // Line ends and tabs are spaces, so that words stay apart and lines stay lines.
    let spaced = raw.chars().map(|c| if matches!(c, '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}') { ' ' } else { c });
    let mut shown = spaced.filter(|c| !is_hidden(*c)).skip_while(|c| c.is_whitespace());
    let mut kept: String = shown.by_ref().take(limit).collect();
    if shown.next().is_some() {
        kept.push('…');
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// Whether a character moves the cursor, changes the direction of what follows, or cannot be seen. The joiners that
/// scripts and emoji are written with stay.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_remains() {
        assert_eq!(text("a\x1b[31mred\x07\u{9b}2J"), "a[31mred2J");
        assert_eq!(text("one\r\ntwo\tthree\0"), "one  two three");
        assert_eq!(text("\u{202e}evil\u{2066}\u{200f}\u{feff}"), "evil");
        assert_eq!(text("  grüß Gott 👩‍🚀 "), "grüß Gott 👩‍🚀");
        for c in ('\0'..=char::MAX).filter(|c| c.is_control()) {
            assert!(!nick(&format!("a{c}b")).contains(|c: char| c.is_control()), "{c:?}");
        }
    }

    #[test]
    fn lengths_are_capped_in_characters() {
        assert_eq!(nick(&"ä".repeat(24)), "ä".repeat(24));
        assert_eq!(nick(&"ä".repeat(25)), format!("{}…", "ä".repeat(24)));
        assert_eq!(text(&"x".repeat(70_000)).chars().count(), TEXT + 1);
        assert_eq!((nick(""), nick("\x1b\u{202e} ")), ("?".to_owned(), "?".to_owned()));
    }
}
