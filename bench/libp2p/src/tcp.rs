//! libp2p over TCP, Noise and Yamux.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use bench_libp2p::{Kind, Libp2p, Transport};
use libp2p::core::Transport as _;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, noise, tcp, yamux};

fn main() -> ExitCode {
    harness::run::<Libp2p<Tcp>>()
}

#[derive(Debug)]
struct Tcp;

impl Kind for Tcp {
    const NAME: &'static str = "libp2p-tcp";

    fn transport(key: &Keypair) -> Result<Transport> {
        // One round trip fewer for each of the two protocols than with `Version::V1`.
        Ok(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true))
            .upgrade(Version::V1Lazy)
            .authenticate(noise::Config::new(key)?)
            .multiplex(yamux::Config::default())
            .boxed())
    }

    fn multiaddr(address: SocketAddr) -> Multiaddr {
        Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
    }

    fn limits() -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "ChaCha20-Poly1305, Noise XX".to_owned()),
            ("identity", "both sides, Ed25519".to_owned()),
            ("congestion control", harness::machine::tcp_congestion_control()),
            ("mtu", "segments as large as the device takes, in all works".to_owned()),
            ("windows", "the defaults".to_owned()),
            ("socket buffers", "sized by the kernel".to_owned()),
            ("other", "TCP_NODELAY".to_owned()),
        ]
    }
}
