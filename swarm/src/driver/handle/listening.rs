//! What a node listens on, and how that is changed while it runs.

use std::net::SocketAddr;

use super::Swarm;
use crate::carrier::{ListenAddr, Listener};
use crate::driver::command::Command;
use crate::{BindError, PeerId};

impl Swarm {
    /// The address of the first socket, or `0.0.0.0:0` if there is none. Its IP is `0.0.0.0` when the node listens on every
    /// interface.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        // A node that has transports of the application only has none.
        self.shared.bound.borrow().local.first().copied().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)))
    }

    /// The addresses of all sockets.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.shared.bound.borrow().local.clone()
    }

    /// Everything that the node listens on, UDP first. Relays at which it has places are listed by [`relays`](Self::relays).
    #[must_use]
    pub fn listeners(&self) -> Vec<ListenAddr> {
        self.shared.bound.borrow().listening.clone()
    }

    /// Listens on something more: 16 at most, relays aside, which [`add_relay`](Self::add_relay) adds. Returns where exactly,
    /// which is what [`stop_listening`](Self::stop_listening) wants to know;
    /// [`SwarmEvent::Listening`](crate::SwarmEvent::Listening) tells the addresses. How far the node goes to find others, and what
    /// it says of itself there, stays as its start decided: one that began on loopback addresses stays on this machine.
    ///
    /// ```no_run
    /// # async fn example(swarm: swarm::Swarm) -> Result<(), Box<dyn std::error::Error>> {
    /// let at = swarm.listen("tcp://0.0.0.0:443".parse::<swarm::ListenAddr>()?).await?;
    /// swarm.stop_listening(at).await;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`BindError`]: what the system says, [`BindError::TooMany`], or [`BindError::Closed`] once the node has ended.
    ///
    /// # Cancel safety
    ///
    /// The node listens there, or does not, when the future is dropped; [`listeners`](Self::listeners) tells.
    pub async fn listen(&self, at: impl Into<ListenAddr>) -> Result<ListenAddr, BindError> {
        let at = at.into();
        self.shared.ask(|reply| Command::Listen { at, reply }).await.unwrap_or(Err(BindError::Closed))
    }

    /// Stops listening on one thing, by its [`ListenAddr`], or at a relay, by its id. Says whether there was such a listener. A
    /// port is free when this returns.
    ///
    /// Connections that were accepted stay. Sessions that came in by a UDP socket look for another path; where no socket of
    /// their family is left they end, as those do that find none.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has told the node or has not.
    pub async fn stop_listening(&self, listener: impl Into<Listener>) -> bool {
        match listener.into() {
            Listener::Socket(at) => self.stop_sockets(Some(at)).await > 0,
            Listener::Relay(relay) => {
                let is_known = self.relays().iter().any(|status| status.relay == relay);
                self.remove_relay(&relay).await;
                is_known
            }
        }
    }

    /// As [`stop_listening`](Self::stop_listening), of all sockets and all relays that were named: nobody is dialled by UDP any
    /// more, either. Relays that the node found by itself go with their sessions. Says how many listeners there were.
    ///
    /// # Cancel safety
    ///
    /// A future that is dropped has stopped some of them.
    pub async fn stop_listening_all(&self) -> usize {
        let named = self.relays().into_iter().filter(|status| status.named);
        let named: Vec<PeerId> = named.map(|status| status.relay).collect();
        for relay in &named {
            self.remove_relay(relay).await;
        }
        self.stop_sockets(None).await.saturating_add(named.len())
    }

    /// A node that has ended listens on nothing.
    async fn stop_sockets(&self, at: Option<ListenAddr>) -> usize {
        self.shared.ask(|reply| Command::StopListening { at, reply }).await.unwrap_or(0)
    }
}
