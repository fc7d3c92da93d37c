//! libp2p over QUIC.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Result;
use bench_libp2p::{Kind, Libp2p, Transport};
use libp2p::core::Transport as _;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, quic};

fn main() -> ExitCode {
    harness::run::<Libp2p<Quic>>()
}

/// Streams at the same time; the default of 256 would do, too.
const STREAMS: u32 = 1024;

#[derive(Debug)]
struct Quic;

impl Kind for Quic {
    const NAME: &'static str = "libp2p-quic";

    fn transport(key: &Keypair) -> Result<Transport> {
        let mut config = quic::Config::new(key);
        config.max_concurrent_stream_limit = STREAMS;
        Ok(quic::tokio::Transport::new(config)
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed())
    }

    fn multiaddr(address: SocketAddr) -> Multiaddr {
        Multiaddr::from(address.ip()).with(Protocol::Udp(address.port())).with(Protocol::QuicV1)
    }

    fn limits() -> Vec<(&'static str, String)> {
        vec![
            ("cipher", "ChaCha20-Poly1305 by ring, the first choice of libp2p-tls".to_owned()),
            ("identity", "both sides, Ed25519 key that signs a P-256 certificate".to_owned()),
            ("congestion control", "Cubic".to_owned()),
            ("mtu", "1200 at first, at most 1452".to_owned()),
            ("windows", "the defaults".to_owned()),
            ("socket buffers", "of the system; they cannot be set".to_owned()),
            ("keep-alive", "5 s, the default".to_owned()),
        ]
    }
}
