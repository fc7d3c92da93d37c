//! Text of others, made fit for a terminal.

/// Characters of a nick that are shown.
pub(crate) const MAX_NICK: usize = 24;

/// Characters of a message that are shown.
pub(crate) const MAX_TEXT: usize = 8 * 1024;

/// What a terminal can be shown of a remote text: no control characters, nothing invisible or that changes the
/// direction of writing, and at most `max` characters.
pub(crate) fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|&c| is_harmless(c)).take(max).collect()
}

/// A remote nick; `?` if nothing of it can be shown.
pub(crate) fn nick(text: &str) -> String {
    let nick = clean(text, MAX_NICK);
    let nick = nick.trim();
    if nick.is_empty() { "?".to_owned() } else { nick.to_owned() }
}

/// Whether a character is neither a control nor a format character that hides or reorders others (Unicode
/// categories Cc, Zl and Zp, and the bidirectional and invisible ones of Cf).
pub(crate) fn is_harmless(c: char) -> bool {
    !(c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_lose_their_teeth() {
        assert_eq!(clean("\x1b[2J\x1b]0;owned\x07hi\r\n\tthere", 100), "[2J]0;ownedhithere");
        assert_eq!(clean("a\u{202e}b\u{2066}c\u{200d}d\u{feff}e\u{85}", 100), "abcde");
    }

    #[test]
    fn ordinary_text_of_any_language_stays() {
        for text in ["grüße", "こんにちは", "שלום", "🙂 ok", "a b"] {
            assert_eq!(clean(text, 100), text);
        }
    }

    #[test]
    fn what_is_too_long_or_empty_is_cut_or_named() {
        assert_eq!(clean("abcdef", 3), "abc");
        assert_eq!(nick(&"x".repeat(100)).len(), MAX_NICK);
        assert_eq!(nick("\x1b\r\n "), "?");
    }
}
