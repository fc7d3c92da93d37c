//! What the endpoints of two nodes, or of one node and an attacker, promise.

mod conformance;
mod crossing;
mod handshake;
mod hostile;
mod load;
mod restart;
mod support;
mod traffic;
