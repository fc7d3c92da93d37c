//! Sockets that come and go while the node runs, and what the readers of events hear of all that it listens on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Instant;

use tokio::sync::oneshot;

use super::events::SwarmEvent;
use super::limits::LISTENERS;
use super::{Driver, bind, lan};
use crate::carrier::{ListenAddr, Listener};
use crate::udp::Udp;
use crate::{BindError, RelayState, RelayStatus};

/// What a node listens on, relays aside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Bound {
    /// The addresses of UDP. Without any the others are all there is.
    pub(crate) local: Vec<SocketAddr>,
    /// UDP first.
    pub(crate) listening: Vec<ListenAddr>,
}

impl Bound {
    pub(crate) fn of(listening: Vec<ListenAddr>) -> Self {
        let is_udp = |at: &ListenAddr| matches!(at, ListenAddr::Udp(_));
        let has_udp = listening.iter().any(is_udp);
        let local = listening.iter().filter(|at| !has_udp || is_udp(at)).map(ListenAddr::addr).collect();
        Self { local, listening }
    }
}

/// At which addresses each listener is reached.
type Reached = BTreeMap<Listener, BTreeSet<SocketAddr>>;

/// What the readers of events were told.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    sockets: Reached,
    relays: Reached,
}

impl Driver {
    /// What the node listens on now, UDP first.
    fn listening(&self) -> Vec<ListenAddr> {
        let udp = self.sockets.iter().map(|socket| ListenAddr::Udp(socket.local()));
        udp.chain(self.carriers.listening()).collect()
    }

    /// Listens on one thing more, and says where exactly.
    pub(super) fn listen(&mut self, at: ListenAddr, now: Instant) -> Result<ListenAddr, BindError> {
        if self.ending.is_some() {
            return Err(BindError::Closed);
        }
        if self.listening().len() >= LISTENERS {
            return Err(BindError::TooMany { limit: LISTENERS });
        }
        let at = match at {
            ListenAddr::Udp(addr) => {
                let socket = bind::udp(addr)?;
                let at = ListenAddr::Udp(socket.local());
                self.sockets.push(socket);
                at
            }
            at => {
                let listener = bind::stream(at)?;
                let at = listener.at();
                self.carriers.listen(listener);
                at
            }
        };
        self.sockets_changed(now);
        Ok(at)
    }

    /// Listens there no more; without an address nowhere any more. The answer, on how many things it did, comes when all of
    /// their ports are free.
    pub(super) fn stop_listening(&mut self, at: Option<ListenAddr>, reply: oneshot::Sender<usize>, now: Instant) {
        let goes = |other: ListenAddr| at.is_none_or(|at| at == other);
        let before = self.sockets.len();
        self.sockets.retain(|socket| !goes(ListenAddr::Udp(socket.local())));
        let accepting = self.carriers.stop_listening(goes);
        let stopped = before.saturating_sub(self.sockets.len()).saturating_add(accepting.len());
        if stopped > 0 && self.ending.is_none() {
            self.sockets_changed(now);
        }
        drop(tokio::spawn(async move {
            for task in accepting {
                // It was aborted.
                let _ = task.await;
            }
            // Whoever asked may have given up.
            let _ = reply.send(stopped);
        }));
    }

    fn sockets_changed(&mut self, now: Instant) {
        let has = |ipv4: bool| self.sockets.iter().any(|socket| socket.local().is_ipv4() == ipv4);
        let (ipv4, ipv6) = (has(true), has(false));
        self.node.set_families(ipv4, ipv6, now);
        self.shared.bound.send_replace(Bound::of(self.listening()));
        self.follow_interfaces(now);
        self.tell_sources();
    }

    /// Tells where others reach the sockets now, if that has changed, and which of them had errors.
    pub(super) fn report_sockets(&mut self) {
        let addresses = |at: ListenAddr| match at.addr() {
            any if any.ip().is_unspecified() => lan::addresses(&[any]).into_iter().collect(),
            one => BTreeSet::from([one]),
        };
        let reached = self.listening().into_iter().map(|at| (Listener::Socket(at), addresses(at))).collect();
        let before = std::mem::replace(&mut self.listeners.sockets, reached);
        let mut events = changes(&before, &self.listeners.sockets);
        let failure = |socket: &mut Udp| Some((ListenAddr::Udp(socket.local()), socket.take_failure()?));
        let failures = self.sockets.iter_mut().filter_map(failure).chain(self.carriers.take_failures());
        let failed = |(at, error)| SwarmEvent::ListenerFailed { listener: Listener::Socket(at), error };
        events.extend(failures.map(failed));
        events.into_iter().for_each(|event| self.pass(Some(event)));
    }

    /// Tells by which relays others reach the node now, if that has changed.
    pub(super) fn report_places(&mut self, relays: &[RelayStatus]) {
        let held = relays.iter().filter(|status| status.state == RelayState::Held);
        let reached = held.map(|status| (Listener::Relay(status.relay), status.addrs.iter().copied().collect()));
        let before = std::mem::replace(&mut self.listeners.relays, reached.collect());
        let events = changes(&before, &self.listeners.relays);
        events.into_iter().for_each(|event| self.pass(Some(event)));
    }
}

/// The events that lead from one state to another: what is lost first.
fn changes(before: &Reached, after: &Reached) -> Vec<SwarmEvent> {
    let (mut events, none) = (Vec::new(), BTreeSet::new());
    for (&listener, addrs) in before {
        let left = after.get(&listener);
        let lost = addrs.difference(left.unwrap_or(&none));
        events.extend(lost.map(|&addr| SwarmEvent::ListenExpired { listener, addr }));
        if left.is_none() {
            events.push(SwarmEvent::ListenerClosed { listener });
        }
    }
    for (&listener, addrs) in after {
        let gained = addrs.difference(before.get(&listener).unwrap_or(&none));
        events.extend(gained.map(|&addr| SwarmEvent::Listening { listener, addr }));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn told(before: &Reached, after: &Reached) -> Vec<String> {
        let text = |event: SwarmEvent| match event {
            SwarmEvent::Listening { listener, addr } => format!("{listener}: +{addr}"),
            SwarmEvent::ListenExpired { listener, addr } => format!("{listener}: -{addr}"),
            SwarmEvent::ListenerClosed { listener } => format!("{listener}: closed"),
            other => panic!("{other:?}"),
        };
        changes(before, after).into_iter().map(text).collect()
    }

    #[test]
    fn addresses_come_and_go_with_interfaces_and_listeners() {
        let any = Listener::from(ListenAddr::Udp(addr("0.0.0.0:7")));
        let tcp = Listener::from(ListenAddr::Tcp(addr("10.0.0.1:8")));
        let relay = Listener::from(PeerId::from_bytes([7; 32]));
        let of = |addrs: &[&str]| addrs.iter().map(|text| addr(text)).collect::<BTreeSet<_>>();
        let (nothing, home) = (Reached::new(), Reached::from([(any, of(&["10.0.0.1:7", "127.0.0.1:7"]))]));
        assert_eq!(told(&nothing, &home), ["udp://0.0.0.0:7: +10.0.0.1:7", "udp://0.0.0.0:7: +127.0.0.1:7"]);
        assert!(told(&home, &home).is_empty());
        // The machine is in another network; a listener that has no address at all is none that is closed.
        let away = Reached::from([(any, of(&["10.9.0.1:7", "127.0.0.1:7"])), (tcp, of(&[]))]);
        assert_eq!(told(&home, &away), ["udp://0.0.0.0:7: -10.0.0.1:7", "udp://0.0.0.0:7: +10.9.0.1:7"]);
        assert_eq!(
            told(&away, &home),
            ["udp://0.0.0.0:7: -10.9.0.1:7", "tcp://10.0.0.1:8: closed", "udp://0.0.0.0:7: +10.0.0.1:7"]
        );
        let placed = Reached::from([(relay, of(&["10.0.0.9:9"]))]);
        let name = relay.to_string();
        assert_eq!(told(&placed, &nothing), [format!("{name}: -10.0.0.9:9"), format!("{name}: closed")]);
    }

    #[test]
    fn without_udp_the_other_addresses_are_all_there_is() {
        let (udp, tcp) = (ListenAddr::Udp(addr("127.0.0.1:7")), ListenAddr::Tcp(addr("127.0.0.1:8")));
        assert_eq!(Bound::of(vec![udp, tcp]).local, [addr("127.0.0.1:7")]);
        assert_eq!(Bound::of(vec![tcp]).local, [addr("127.0.0.1:8")]);
        assert!(Bound::of(Vec::new()).local.is_empty());
    }
}
