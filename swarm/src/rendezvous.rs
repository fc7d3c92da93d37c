//! What servers have to know that nodes meet at (SPEC 16): paths, limits, and how bodies are listed. What lies there is
//! sealed, so a server needs no more than this, and no key.

/// The path below which sealed bodies lie: `{base}/sealed/{place}` lists them, `{base}/sealed/{place}/{slot}` is one. Both
/// names are lower-case hexadecimal digits, [`PLACE_DIGITS`] and [`SLOT_DIGITS`] of them.
pub const SEALED: &str = "sealed";

/// Digits in the name of a place.
pub const PLACE_DIGITS: usize = 64;

/// Digits in the name of a body in it, which is known only to who put it there and must not be told to others.
pub const SLOT_DIGITS: usize = 32;

/// The longest body that a server has to take, in bytes. Nodes put there at most 1064.
pub const MAX_BODY: usize = 2048;

/// For how long a body may ask to be kept, in seconds: what is below or above is taken for the nearest.
pub const TTL: std::ops::RangeInclusive<u64> = 60..=3600;

/// How long a body is kept that does not say, in seconds.
pub const DEFAULT_TTL: u64 = 600;

/// The most bodies in one answer.
pub const MAX_LISTED: usize = 64;

/// The most bytes of any answer that a node reads.
pub const MAX_ANSWER: usize = 256 << 10;

/// The answer to who asks what lies in a place: of each body its length in two bytes, high one first, and the body; the
/// newest first, [`MAX_LISTED`] at most. What is longer than [`MAX_BODY`] is left out.
#[must_use]
pub fn list<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for body in bodies.into_iter().filter(|body| body.len() <= MAX_BODY).take(MAX_LISTED) {
        if let Ok(len) = u16::try_from(body.len()) {
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(body);
        }
    }
    out
}

/// The bodies in such an answer, up to the first that is not whole.
pub fn listed(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = answer;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let (body, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        rest = after;
        Some(body)
    })
    .take(MAX_LISTED)
}

/// The URL of a server, or what was meant to be one, as it may be shown: `...` takes the place of a user and a password.
#[must_use]
pub fn without_secrets(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_port = |text: &str| text.ends_with(']') || text.bytes().all(|byte| byte.is_ascii_digit());
    let hidden = match (authority.rfind('@'), authority.rsplit_once(':')) {
        // A password with a slash in it makes this no URL, and it goes on to who knows where.
        (None, Some((_, end))) if !is_port(end) => rest.rfind('@'),
        (found, _) => found,
    };
    match hidden.and_then(|at| rest.get(at..)) {
        Some(shown) if scheme.is_empty() => format!("...{shown}"),
        Some(shown) => format!("{scheme}://...{shown}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_urls_are_not_shown() {
        for (url, shown) in [
            ("https://user:secret@host.example/a", "https://...@host.example/a"),
            ("https://user@host.example:1", "https://...@host.example:1"),
            ("https://user:se@cret@host.example", "https://...@host.example"),
            ("https://user:sec/ret@host.example", "https://...@host.example"),
            ("user:secret@host.example", "...@host.example"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        for harmless in ["https://host.example/@a", "https://host.example:80/@a", "http://[::1]/@a", "ppng.io", ""] {
            assert_eq!(without_secrets(harmless), harmless);
        }
    }

    #[test]
    fn what_is_listed_is_read_and_what_is_cut_off_is_not() {
        let bodies: [&[u8]; 3] = [b"first", b"", &[7; MAX_BODY]];
        let answer = list(bodies);
        assert_eq!(listed(&answer).collect::<Vec<_>>(), bodies);
        assert_eq!(listed(&answer[..answer.len() - 1]).collect::<Vec<_>>(), bodies[..2]);
        assert!(list([&[0; MAX_BODY + 1][..]]).is_empty());
        assert_eq!(listed(&list([&[1][..]; 100])).count(), MAX_LISTED);
        assert_eq!(listed(&[0; 1000]).count(), MAX_LISTED, "empty ones count too");
    }
}
