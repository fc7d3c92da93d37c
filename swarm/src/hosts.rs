//! The third parties that the existing nodes contact: a list to choose from, of which nothing is contacted unless it is
//! handed to a builder.
//!
//! They belong to others, who see the addresses of all that ask them, and may end their service at any time.
//! `setowire serve` does all of it on a machine of one's own.
#![cfg_attr(
    feature = "http",
    doc = "
```no_run
# async fn start() -> Result<(), swarm::BindError> {
let swarm = swarm::Swarm::builder().piping(swarm::hosts::PIPING).bind().await?;
# Ok(())
# }
```"
)]

/// STUN servers, which tell whoever asks under which address it is seen.
pub const STUN: [&str; 7] = [
    "stun.l.google.com:19302",
    "stun1.l.google.com:19302",
    "stun2.l.google.com:19302",
    "stun.cloudflare.com:3478",
    "stun.stunprotocol.org:3478",
    "global.stun.twilio.com:3478",
    "stun.ekiga.net:3478",
];

/// Piping servers, which pass on what one sends to a path to whoever reads from it.
pub const PIPING: [&str; 4] =
    ["https://ppng.io", "https://piping.nwtgck.org", "https://piping.onrender.com", "https://piping.glitch.me"];

/// HTTP bootstrap servers of the old wire, which keep a list of whoever says to be there. They do not take what native
/// nodes have to say (SPEC 16.2).
pub const V12_BOOTSTRAP: [&str; 2] = ["https://bootstrap-4eft.onrender.com", "https://bootsrtap.firestarp.workers.dev"];
