//! What others say, as it may be shown on a terminal.

/// Bytes as one line of text: what is no text, or would act on a terminal or turn the direction of what follows, is shown as `�`.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    String::from_utf8_lossy(bytes).chars().map(|c| if acts(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Bytes as fields of an object: `text`, or `hex` where they are none.
pub(crate) fn field(bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("hex", bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(shown("grüß\tGott".as_bytes()), "grüß\u{fffd}Gott");
        assert_eq!(shown(b"\x1b[2Jx\xff"), "\u{fffd}[2Jx\u{fffd}");
        assert_eq!(shown("\u{202e}evil\nline".as_bytes()), "\u{fffd}evil\u{fffd}line");
    }

    #[test]
    fn what_is_no_text_is_given_as_digits() {
        assert_eq!(field("ä".as_bytes()), ("text", "ä".to_owned()));
        assert_eq!(field(&[0xff, 7]), ("hex", "ff07".to_owned()));
    }
}
