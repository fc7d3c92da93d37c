//! What it comes down to.

use swarm::nat::{EndCode, Failure, Filtering, Mapping, NatKind, Outside, Way, Why};

use super::findings::{Findings, Peer};

/// One sentence that sums it up, one that says what to do, and the case in one word, for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) class: &'static str,
    pub(super) sentence: String,
    pub(super) suggestion: String,
}

impl Verdict {
    fn new(class: &'static str, sentence: impl Into<String>, suggestion: impl Into<String>) -> Self {
        Self { class, sentence: sentence.into(), suggestion: suggestion.into() }
    }

    /// The first that applies, what keeps most from working before the rest.
    pub(super) fn of(found: &Findings) -> Self {
        if found.ips(true).chain(found.ips(false)).next().is_none() && !found.is_heard() {
            return Self::new("offline", "This machine is in no network.", "connect it to one");
        }
        if !found.clock.is_plausible() {
            let sentence = "The clock of this machine is wrong, and what others sign seems to lie in the future.";
            return Self::new("clock", sentence, "set the clock");
        }
        if let Some(peer) = &found.peer {
            return Self::of_peer(peer, found);
        }
        if found.is_heard() && found.udp() == Some(false) {
            let suggestion = "have UDP let out, or use a relay that listens on TCP, by --relay; others in a topic are found by --http-bootstrap or --piping then";
            return Self::new(
                "blocked",
                "UDP is blocked on the way; TCP gets through, and with it relays.",
                suggestion,
            );
        }
        if !found.is_heard() {
            return if !found.asked.is_empty() && found.asked.iter().all(|asked| asked.is_unknown) {
                let sentence = "None of the names of those who were to be asked has an address.";
                Self::new("unresolved", sentence, "check how they are written, and the name server of this machine")
            } else if found.asked.is_empty() {
                let suggestion = "name somebody who does: --stun HOST:PORT, better two, or --bootstrap HOST:PORT";
                Self::new("unasked", "Nobody was asked where they see this machine.", suggestion)
            } else {
                let sentence = "Nobody answered: UDP is blocked on the way, or none of those who were asked is up.";
                Self::new(
                    "blocked",
                    sentence,
                    "ask others, or from another network; if all stay silent, a firewall drops UDP",
                )
            };
        }
        // What holds for the better of the two families.
        let [v4, v6] = [Self::of_outside(&found.nat.v4), Self::of_outside(&found.nat.v6)];
        match (v4, v6) {
            (Some(v4), Some(v6)) if rank(v6.class) < rank(v4.class) => v6,
            (Some(better), _) | (None, Some(better)) => better,
            (None, None) => Self::new(
                "connected",
                match found.udp() {
                    Some(true) => "UDP gets through; where others see this machine, nobody has said.",
                    _ => "Others are reached by TCP; whether UDP gets through, nobody was asked.",
                },
                "name two servers that say so: --stun HOST:PORT",
            ),
        }
    }

    fn of_outside(outside: &Outside) -> Option<Self> {
        let addr = outside.addr?;
        let forward = "nothing has to be done; whoever wants to be reached by all forwards a UDP port at the router";
        Some(match (outside.translated, outside.mapping, outside.filtering) {
            (Some(false), ..) => Self::new(
                "open",
                format!("There is no NAT: others reach this machine at {}, if no firewall forbids it.", addr.ip()),
                "nothing has to be done; this machine can serve others by `setowire serve`",
            ),
            (_, Mapping::EndpointIndependent, Filtering::EndpointIndependent) => Self::new(
                "open",
                format!("There is a NAT that lets everybody in: others reach this machine at {addr}."),
                "nothing has to be done",
            ),
            (_, Mapping::EndpointIndependent, _) => Self::new(
                "punchable",
                "There is a NAT with one port for all: direct paths to nearly everybody can be opened from both sides.",
                forward,
            ),
            (_, Mapping::Sequential, _) => Self::new(
                "sequential",
                "There is a NAT with a new port for each peer, in sequence: direct paths to peers behind easier NATs, relays for the rest.",
                "forward a UDP port at the router, or use IPv6, if more is wanted",
            ),
            (_, Mapping::Random | Mapping::AddressDependent, _) => Self::new(
                "random",
                "There is a NAT with a new port for each peer: direct paths to peers behind easier NATs, relays for the rest.",
                "forward a UDP port at the router, or use IPv6, if more is wanted",
            ),
            _ => Self::new(
                "seen",
                format!("Others see this machine at {addr}; too few have said so to know what the NAT does."),
                "name two servers in different networks: --stun HOST:PORT --stun HOST:PORT",
            ),
        })
    }

    fn of_peer(peer: &Peer, found: &Findings) -> Self {
        let whom = &peer.name;
        match peer.way {
            Some(Way::Direct) => Self::new("direct", format!("{whom} is reached directly."), "nothing has to be done"),
            Some(Way::Punched) => Self::new(
                "punched",
                format!("{whom} is reached directly, through NATs that both sides opened."),
                "nothing has to be done",
            ),
            Some(Way::Relayed { relay, why }) => Self::new(
                "relayed",
                format!("{whom} is reached through the relay {}: {why}.", relay.short()),
                match why {
                    _ if found.udp() == Some(false) => {
                        "have UDP let out of this network, which a firewall drops; it works as it is"
                    }
                    Why::Failed(Failure::Unanswered { ours: NatKind::Unknown, .. }) => {
                        "name two servers in different networks that say what the NAT is: --stun HOST:PORT --stun HOST:PORT"
                    }
                    Why::Failed(Failure::Unanswered { theirs: NatKind::Unknown, .. }) => {
                        "have the peer name two servers that say what its NAT is, by --stun HOST:PORT"
                    }
                    Why::Failed(Failure::Ended(EndCode::Refused)) => {
                        "run it again in a few minutes: a peer tries few direct paths with strangers; with those in its topics it tries more"
                    }
                    Why::Failed(Failure::Hopeless { ours: NatKind::Random | NatKind::Sequential, .. }) => {
                        "forward a UDP port at the router of this side, or use IPv6 on both sides"
                    }
                    Why::Failed(Failure::Hopeless { .. }) => {
                        "forward a UDP port at the router of the peer, or use IPv6 on both sides"
                    }
                    Why::Trying => "run it again with a longer --timeout",
                    _ => "it works as it is; a forwarded UDP port on either side makes it direct",
                },
            ),
            _ => {
                let error = peer.error.as_deref().unwrap_or("it was not reached");
                let suggestion = if found.is_heard() {
                    "ask whoever runs the peer whether it is up, and for a ticket of today; others are reached from here"
                } else if found.asked.is_empty() {
                    "name somebody else too, by --stun or --bootstrap, to see whether UDP gets through at all"
                } else {
                    "try from another network: nobody at all answered here"
                };
                Self::new("unreached", format!("{whom} was not reached: {error}."), suggestion)
            }
        }
    }
}

/// The better, the lower.
fn rank(class: &str) -> usize {
    ["open", "punchable", "sequential", "random"].iter().position(|known| *known == class).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::findings::{Asked, Clock};
    use std::collections::BTreeSet;
    use std::time::Duration;

    use swarm::{Carrier, PeerId};

    use super::*;

    fn found() -> Findings {
        Findings { ips: vec!["192.168.1.2".parse().unwrap()], clock: Clock::now(), ..Findings::default() }
    }

    fn class(found: &Findings) -> &'static str {
        let Verdict { class, sentence, suggestion } = Verdict::of(found);
        assert!(sentence.ends_with('.') && !sentence.contains("..") && !suggestion.is_empty(), "{sentence}");
        class
    }

    #[test]
    fn each_case_has_its_sentence() {
        assert_eq!(class(&Findings { ips: Vec::new(), ..found() }), "offline");
        assert_eq!(class(&Findings { clock: Clock { unix: 7 }, ..found() }), "clock");
        assert_eq!(class(&found()), "unasked");
        let name = "host:1".to_owned();
        for (unknown, expected) in [(BTreeSet::new(), "blocked"), (BTreeSet::from([name.clone()]), "unresolved")] {
            let asked = vec![Asked::stun(&name, false, &unknown)];
            assert_eq!(class(&Findings { asked, ..found() }), expected);
        }
        // A session that TCP carries says nothing of UDP.
        for (carrier, expected, udp) in
            [(Carrier::Tcp, "blocked", Some(false)), (Carrier::Udp, "connected", Some(true))]
        {
            let node = Asked { after: Some(Duration::ZERO), carrier: Some(carrier), ..Asked::of(name.clone(), "node") };
            let found = Findings { asked: vec![node], ..found() };
            assert_eq!((class(&found), found.udp()), (expected, udp));
            // Nor does one with a relay, or with who was named by TCP.
            for (name, udp) in [(name.clone(), udp), (format!("tcp://{name}"), udp.filter(|udp| *udp))] {
                let asked = vec![Asked::of(name, "relay")];
                let found = Findings { asked, carriers: vec![carrier], ..found.clone() };
                assert_eq!(found.udp(), udp);
            }
        }
        assert_eq!(found().udp(), None);
        let mut seen = found();
        for (mapping, filtering, translated, expected) in [
            (Mapping::Unknown, Filtering::Unknown, None, "seen"),
            (Mapping::Unknown, Filtering::Unknown, Some(false), "open"),
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent, Some(true), "open"),
            (Mapping::EndpointIndependent, Filtering::AddressAndPort, Some(true), "punchable"),
            (Mapping::Sequential, Filtering::Unknown, Some(true), "sequential"),
            (Mapping::Random, Filtering::Unknown, Some(true), "random"),
        ] {
            let outside = &mut seen.nat.v4;
            outside.addr = Some(([203, 0, 113, 7], 4000).into());
            (outside.mapping, outside.filtering, outside.translated) = (mapping, filtering, translated);
            assert_eq!(class(&seen), expected);
        }
        // Where IPv6 is better, it counts.
        seen.nat.v6.addr = Some("[2001:db8::1]:4000".parse().unwrap());
        seen.nat.v6.translated = Some(false);
        assert_eq!(class(&seen), "open");
    }

    #[test]
    fn of_a_peer_the_way_is_said_and_why() {
        let relay = PeerId::from_bytes([7; 32]);
        let hopeless = |ours| Why::Failed(Failure::Hopeless { ours, theirs: NatKind::Random });
        for (way, expected, hint) in [
            (Some(Way::Direct), "direct", "nothing"),
            (Some(Way::Punched), "punched", "nothing"),
            (Some(Way::Relayed { relay, why: hopeless(NatKind::Random) }), "relayed", "of this side"),
            (Some(Way::Relayed { relay, why: hopeless(NatKind::EndpointIndependent) }), "relayed", "of the peer"),
            (None, "unreached", "--stun"),
        ] {
            let peer = Peer { way, error: Some("no answer".to_owned()), ..Peer::of("x@y:1".to_owned()) };
            let found = Findings { peer: Some(peer), ..found() };
            assert_eq!(class(&found), expected);
            assert!(Verdict::of(&found).suggestion.contains(hint));
        }
    }
}
