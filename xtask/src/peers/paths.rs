//! Works over a path that is worse than loopback: a relay between client and server makes it so.

/// What the programs do on each of these paths.
const WORK: &str = "goodput";

/// Names, and what the relay is told: 50 ms there and back, without a limit or behind 100 Mbit/s with a queue of one
/// bandwidth-delay product.
const PATHS: [(&str, &[&str]); 5] = [
    ("path-loss-1", &["--delay", "25", "--loss", "1"]),
    ("path-loss-5", &["--delay", "25", "--loss", "5"]),
    ("path-rate", &["--delay", "25", "--rate", "100", "--queue", "416"]),
    ("path-rate-loss-1", &["--delay", "25", "--rate", "100", "--queue", "416", "--loss", "1"]),
    ("path-rate-loss-5", &["--delay", "25", "--rate", "100", "--queue", "416", "--loss", "5"]),
];

/// What the relay is told for a work, if it has a path of its own.
pub(super) fn relay(work: &str) -> Option<&'static [&'static str]> {
    PATHS.iter().find(|(name, _)| *name == work).map(|(_, options)| *options)
}

/// What the programs call a work.
pub(super) fn of_programs(work: &str) -> &str {
    if relay(work).is_some() { WORK } else { work }
}

/// The ticket that leads to a relay: after the address for control comes the library's own ticket, which begins with the
/// address that the server has.
pub(super) fn by_way_of(relay: &str, ticket: &str) -> Option<String> {
    let (control, server, rest) = parts(ticket)?;
    server.parse::<std::net::SocketAddr>().ok()?;
    Some(format!("{control}/{relay}{rest}"))
}

/// Where the server is.
pub(super) fn server(ticket: &str) -> Option<&str> {
    parts(ticket).map(|(_, server, _)| server)
}

fn parts(ticket: &str) -> Option<(&str, &str, &str)> {
    let (control, own) = ticket.split_once('/')?;
    let (server, rest) = own.split_at(own.find('/').unwrap_or(own.len()));
    Some((control, server, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_address_of_the_server_is_replaced() {
        let ticket = "127.0.0.1:1/127.0.0.1:2/key/more";
        assert_eq!(server(ticket), Some("127.0.0.1:2"));
        assert_eq!(by_way_of("127.0.0.1:3", ticket).as_deref(), Some("127.0.0.1:1/127.0.0.1:3/key/more"));
        assert_eq!(by_way_of("127.0.0.1:3", "127.0.0.1:1/127.0.0.1:2").as_deref(), Some("127.0.0.1:1/127.0.0.1:3"));
        assert_eq!(by_way_of("127.0.0.1:3", "127.0.0.1:1//ip4/127.0.0.1/tcp/2"), None);
    }

    #[test]
    fn other_works_are_what_they_are_called() {
        assert_eq!((of_programs("path-rate"), of_programs("bulk"), relay("bulk")), (WORK, "bulk", None));
    }
}
