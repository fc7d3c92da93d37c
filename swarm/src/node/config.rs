//! What the owner of a node decides.

/// The settings of a [`Node`](super::Node).
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) session: peer::Config,
    pub(super) lan: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { session: peer::Config::default(), lan: true }
    }
}

impl Config {
    /// The settings of the sessions. Their protocols are the node's own.
    #[must_use]
    pub fn session(mut self, session: peer::Config) -> Self {
        self.session = session;
        self
    }

    /// Whether topics are announced and looked up by multicast on the local network. Default: yes.
    #[must_use]
    pub const fn lan(mut self, on: bool) -> Self {
        self.lan = on;
        self
    }
}
