//! What others write, made safe to print: no control characters, nothing that turns text around or hides it.

/// Characters of a nick that are shown.
const NICK: usize = 24;
/// Characters of a message that are shown.
const TEXT: usize = 4000;

/// Marks in a row that are shown: each stands above or below the last, and a hundred of them cover other lines.
const MARKS: usize = 4;

/// A nick as it is shown: one word on one line, never empty, and not to be taken for a notice, which begins with `*`.
/// What cannot be seen is left out wherever two nicks could look alike by it.
pub(crate) fn nick(raw: &str) -> String {
    let mut last = ' ';
    let seen = raw.chars().filter(|c| !is_selector(*c)).filter(|c| {
        let alone = is_joiner(*c) && last.is_ascii();
        if !is_hidden(*c) {
            last = *c;
        }
        !alone
    });
    let mut clean = clean(seen, NICK, |c| c == '*' || is_mark(c) || is_joiner(c));
    clean.truncate(clean.trim_end_matches(|c: char| c.is_whitespace() || is_joiner(c)).len());
    if clean.is_empty() { "?".to_owned() } else { clean }
}

/// A message as it is shown: on one line.
pub(crate) fn text(raw: &str) -> String {
    clean(raw.chars(), TEXT, |_| false)
}

/// What may be shown, but for spaces at both ends and `skipped` characters at the beginning.
fn clean(raw: impl Iterator<Item = char>, limit: usize, skipped: impl Fn(char) -> bool) -> String {
    // Line ends and tabs are spaces, so that words stay apart and lines stay lines.
    let spaced = raw.map(|c| if matches!(c, '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}') { ' ' } else { c });
    let mut marks = 0;
    let mut shown = spaced
        .filter(|c| !is_hidden(*c))
        .filter(|c| {
            marks = if is_mark(*c) || is_joiner(*c) || is_selector(*c) { marks + 1 } else { 0 };
            marks <= MARKS
        })
        .skip_while(|c| c.is_whitespace() || skipped(*c));
    let mut kept: String = shown.by_ref().take(limit).collect();
    if shown.next().is_some() {
        kept.push('…');
    }
    kept.truncate(kept.trim_end().len());
    kept
}

/// Whether a character moves the cursor, changes the direction of what follows, or cannot be seen. The joiners and
/// variation selectors that scripts and emoji are written with stay.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{115f}' | '\u{1160}'
            | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The joiners of scripts and emoji.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

/// Selects how the character before it looks.
fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Stands above, below or within the character before it.
fn is_mark(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}')
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

    #[test]
    fn what_cannot_be_seen_is_left_out() {
        let ranges = [
            '\u{ad}'..='\u{ad}',
            '\u{34f}'..='\u{34f}',
            '\u{600}'..='\u{605}',
            '\u{61c}'..='\u{61c}',
            '\u{115f}'..='\u{1160}',
            '\u{17b4}'..='\u{17b5}',
            '\u{180b}'..='\u{180e}',
            '\u{2800}'..='\u{2800}',
            '\u{3164}'..='\u{3164}',
            '\u{ffa0}'..='\u{ffa0}',
            '\u{e0000}'..='\u{e007f}',
        ];
        for c in ranges.into_iter().flatten() {
            assert_eq!((nick(&format!("a{c}b")), text(&format!("a{c}b"))), ("ab".into(), "ab".into()), "{c:?}");
            assert_eq!(nick(&c.to_string()), "?", "{c:?}");
        }
        for c in ('\u{fe00}'..='\u{fe0f}').chain('\u{e0100}'..='\u{e01ef}') {
            assert_eq!((nick(&format!("a{c}b")), text(&format!("a{c}b"))), ("ab".into(), format!("a{c}b")));
        }
        assert_eq!([nick("bo\u{200d}b"), nick("\u{200d}bob"), nick("bob\u{200c}")], ["bob", "bob", "bob"]);
        assert_eq!([nick("👩\u{200d}🚀"), nick("👩\u{200d}")], ["👩\u{200d}🚀", "👩"]);
    }

    #[test]
    fn marks_do_not_pile_up() {
        let piled = format!("a{}b{}", "\u{301}".repeat(100), "\u{1ab0}\u{1dc0}\u{20d0}\u{fe20}\u{36f}".repeat(9));
        let four = "a\u{301}\u{301}\u{301}\u{301}b\u{1ab0}\u{1dc0}\u{20d0}\u{fe20}";
        assert_eq!((text(&piled), nick(&piled)), (four.to_owned(), four.to_owned()));
        assert_eq!(text(&format!("a{}", "\u{301}\u{200d}\u{fe0f}".repeat(100))).chars().count(), 1 + MARKS);
    }

    #[test]
    fn nobody_is_taken_for_a_notice() {
        assert_eq!([nick("* bob joined"), nick(" ** *bob*"), nick("\u{301}\u{200d}*x")], ["bob joined", "bob*", "x"]);
        assert_eq!((nick("***"), text("*waves*")), ("?".into(), "*waves*".into()));
    }
}
