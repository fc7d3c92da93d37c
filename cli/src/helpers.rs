//! Whom a command asks beside the peer it is about: the same flags for all that look for one.

use swarm::{Builder, DialTarget, Preset, Swarm};

/// Nobody but these and the peer is contacted, and whom these name if a hash table is among them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Helpers {
    /// A STUN server to ask where it sees this machine, which helps to pass NATs; two in different networks tell what the NAT
    /// does, one with two addresses what it lets in. `setowire serve` is one. Repeat for more
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) stun: Vec<String>,

    /// A node to connect to, which tells where it sees this machine, and at which a peer is looked for whose id alone is known;
    /// repeat for more
    #[arg(long, value_name = "[ID@]HOST:PORT")]
    pub(crate) bootstrap: Vec<DialTarget>,

    /// A relay at which to ask for a place, and through which the peer may be reached; repeat for more. `setowire serve` is one
    #[arg(long, value_name = "[ID@]HOST:PORT")]
    pub(crate) relay: Vec<DialTarget>,
}

impl Helpers {
    /// A node that asks these and nobody else.
    pub(crate) fn builder(&self) -> Builder {
        self.add_to(Swarm::builder().preset(Preset::Public).lan(false).dht(!self.bootstrap.is_empty()))
    }

    /// A node that asks these too.
    pub(crate) fn add_to(&self, builder: Builder) -> Builder {
        builder
            .stun(self.stun.iter().cloned())
            .bootstrap(self.bootstrap.iter().cloned())
            .relays(self.relay.iter().cloned())
    }
}
