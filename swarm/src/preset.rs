//! Where a node is meant to run.

/// Where a node is meant to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Preset {
    /// Anywhere. Finds others by multicast on the local network, by the addresses it is given, and in the distributed hash
    /// table, which begins at its peers and leads to the nodes that these know. No third party is contacted unless the
    /// builder is told to (`Builder::mainline`, `Builder::bootstrap`, `Builder::http_bootstrap`, `Builder::piping`,
    /// `Builder::stun`; [`hosts`](crate::hosts) lists some); should a later version do so by default, it will be
    /// here, and said here.
    #[default]
    Public,
    /// On a local network: multicast, and the distributed hash table as far as that network goes.
    Lan,
    /// On this machine: bound to 127.0.0.1, with multicast and the distributed hash table on the loopback interface only.
    Loopback,
    /// On a machine that others are given the address of, for them to begin at (`Builder::bootstrap`): no multicast, up
    /// to 65,536 peers, and TCP at the port of its UDP for those whose network drops that. On the v12 wire it also introduces peers to each other.
    Server,
}
